//! The header of a message, as a model writes it.
//!
//! It says who writes, to whom, on which channel and what, in an order that varies: the recipient
//! comes before or after the channel, and the type with or without `<|constrain|>`. What has no
//! place in it is handed back, so that nothing the model wrote gets lost.

use super::{
    CONSTRAIN,
    conversation::{ANALYSIS, CHANNELS, COMMENTARY, EVERYONE, FINAL, Message, Role},
    parser::Problem,
};

/// What marks the recipient among the words of a header.
const RECIPIENT: &str = "to=";

/// What the header of a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who writes.
    pub role: Role,
    /// The author's name, if the header has one. Of a tool, its full name.
    pub name: Option<String>,
    /// Whom the message is for: the name of a tool, or `assistant`.
    pub recipient: Option<String>,
    /// The channel, one of [`CHANNELS`] unless the model invents one.
    pub channel: Option<String>,
    /// What the content is, such as `code` or `<|constrain|>json`.
    pub content_type: Option<String>,
}

/// What a message of the assistant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Reasoning.
    Analysis,
    /// What the user is told ahead of calls of tools.
    Preamble,
    /// The arguments of a call of the recipient.
    ToolCall,
    /// The answer.
    Final,
    /// A message that is not the assistant's or is on none of the known channels.
    Other,
}

impl Header {
    pub(super) fn new(role: Role) -> Self {
        Self { role, name: None, recipient: None, channel: None, content_type: None }
    }

    /// What the message is for.
    pub fn kind(&self) -> MessageKind {
        let is_call = self.recipient.as_deref().is_some_and(|recipient| recipient != EVERYONE);
        match self.channel.as_deref() {
            _ if self.role != Role::Assistant => MessageKind::Other,
            _ if is_call => MessageKind::ToolCall,
            Some(ANALYSIS) => MessageKind::Analysis,
            Some(COMMENTARY) => MessageKind::Preamble,
            Some(FINAL) => MessageKind::Final,
            _ => MessageKind::Other,
        }
    }

    /// The name of the format that the content is constrained to, such as `json`.
    pub fn constraint(&self) -> Option<&str> {
        self.content_type.as_deref()?.strip_prefix(CONSTRAIN)
    }

    /// The message of this header and `text`.
    pub(super) fn into_message(self, text: String) -> Message {
        let Self { role, name, recipient, channel, content_type } = self;
        Message { role, name, recipient, channel, content_type, content: vec![text.into()] }
    }
}

/// A header that is not complete yet.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderParser {
    /// Who writes, where the header does not say so itself.
    role: Option<Role>,
    /// What comes before any marker.
    plain: Vec<u8>,
    /// What follows `<|channel|>`, if it has come.
    channel: Option<Vec<u8>>,
    /// What follows `<|constrain|>`, if it has come.
    constraint: Option<Vec<u8>>,
    section: Section,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Plain,
    Channel,
    Constraint,
}

/// What came of a header: itself, and what is wrong with it.
pub(super) struct Resolved {
    pub header: Header,
    pub problems: Vec<(Problem, String)>,
}

/// What came of a header that no content follows.
pub(super) struct Truncated {
    pub header: Header,
    /// What the header does not account for.
    pub rest: Vec<u8>,
}

impl HeaderParser {
    /// The longest header in bytes. Longer ones are taken for text without a header.
    pub const MAX_BYTES: usize = 1024;

    /// A header at its start. `role` says who writes where the header does not.
    pub fn new(role: Option<Role>) -> Self {
        Self { role, ..Self::default() }
    }

    /// Whether only the prompt's part of the header has come.
    pub fn is_at_start(&self) -> bool {
        let is_bare = self.channel.is_none() && self.constraint.is_none();
        self.role.is_some() && is_bare && self.plain.is_empty()
    }

    /// Whether what has come is a header for certain, and not the text of an answer without one.
    pub fn has_begun(&self) -> bool {
        let has_marker = self.role.is_none() || self.channel.is_some() || self.constraint.is_some();
        has_marker || self.plain.trim_ascii_start().starts_with(RECIPIENT.as_bytes())
    }

    /// Reads text. What exceeds the longest header is handed back.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let n_bytes = |section: &Option<Vec<u8>>| section.as_ref().map_or(0, Vec::len);
        let length = self.plain.len() + n_bytes(&self.channel) + n_bytes(&self.constraint);
        let (fitting, excess) = bytes.split_at(bytes.len().min(Self::MAX_BYTES - length));
        let section = match self.section {
            Section::Plain => &mut self.plain,
            Section::Channel => self.channel.get_or_insert_default(),
            Section::Constraint => self.constraint.get_or_insert_default(),
        };
        section.extend_from_slice(fitting);
        excess
    }

    /// Reads `<|channel|>`. What an earlier one introduced is handed back.
    pub fn begin_channel(&mut self) -> Option<String> {
        self.section = Section::Channel;
        self.channel.replace(Vec::new()).map(|dropped| text(&dropped))
    }

    /// Reads `<|constrain|>`. What an earlier one introduced is handed back.
    pub fn begin_constraint(&mut self) -> Option<String> {
        self.section = Section::Constraint;
        self.constraint.replace(Vec::new()).map(|dropped| text(&dropped))
    }

    /// All text of the header.
    pub fn into_text(self) -> String {
        let sections = [Some(self.plain), self.channel, self.constraint];
        text(&sections.into_iter().flatten().flatten().collect::<Vec<u8>>())
    }

    /// Ends the header in its proper place. `implied` is who writes if nothing else says so.
    pub fn resolve(self, implied: Role) -> Resolved {
        let mut problems = Vec::new();
        let split = |section: &Option<Vec<u8>>| {
            let (word, rest) = first_word(section.as_deref().unwrap_or_default());
            (text(word), text(rest))
        };
        let (channel, after_channel) = split(&self.channel);
        let (content_type, after_type) = split(&self.constraint);
        let plain = text(&self.plain);
        let mut words: Vec<&str> = [&plain, &after_channel, &after_type]
            .into_iter()
            .flat_map(|section| section.split_ascii_whitespace())
            .collect();
        let is_alone = words.len() == 1 && self.constraint.is_none();
        let (role, name) = match self.role {
            Some(role) => {
                if words.first() == Some(&role.as_str()) {
                    words.remove(0);
                }
                (role, None)
            }
            None if words.is_empty() => {
                problems.push((Problem::MissingAuthor, String::new()));
                (implied, None)
            }
            None => {
                let word = words.remove(0);
                let (role, name) = author(word);
                if role.is_none() && is_alone {
                    problems.push((Problem::UnknownAuthor, word.to_owned()));
                }
                (role.unwrap_or(Role::Tool), name)
            }
        };
        let mut header = Header { name, ..Header::new(role) };
        header.channel = (!channel.is_empty()).then_some(channel);
        header.content_type = self.constraint.map(|_| format!("{CONSTRAIN}{content_type}"));
        header.address(&mut words);
        if !words.is_empty() {
            problems.push((Problem::UnknownWords, words.join(" ")));
        }
        match &header.channel {
            None if role == Role::Assistant || self.channel.is_some() => {
                problems.push((Problem::MissingChannel, String::new()));
            }
            Some(channel) if !CHANNELS.contains(&channel.as_str()) => {
                problems.push((Problem::UnknownChannel, channel.clone()));
            }
            _ => {}
        }
        Resolved { header, problems }
    }

    /// Ends the header where none should end: what is not the author's role or the channel is taken
    /// for text, since models that leave the format answer without a header.
    pub fn truncate(self, implied: Role) -> Truncated {
        let mut header = Header::new(self.role.unwrap_or(implied));
        let mut rest = self.plain.as_slice();
        if self.role.is_none() {
            let (word, after) = first_word(rest);
            if let (Some(role), name) = author(&text(word)) {
                header = Header { name, ..Header::new(role) };
                rest = after;
            }
        }
        let mut rest = rest.to_vec();
        if let Some(section) = &self.channel {
            let (channel, after) = first_word(section);
            header.channel = (!channel.is_empty()).then(|| text(channel));
            rest.extend_from_slice(after);
        }
        rest.extend(self.constraint.unwrap_or_default());
        Truncated { header, rest }
    }
}

impl Header {
    /// Takes the recipient, and the type unless that is known, out of `words`.
    fn address(&mut self, words: &mut Vec<&str>) {
        let marked = words.iter().position(|word| word.starts_with(RECIPIENT));
        if let Some(index) = marked {
            self.recipient = words.remove(index).strip_prefix(RECIPIENT).map(str::to_owned);
        }
        // Without a mark, the recipient is the only word, or the one before the type.
        let n_expected = usize::from(self.recipient.is_none());
        if self.content_type.is_none() && words.len() > n_expected {
            self.content_type = words.pop().map(str::to_owned);
        }
        if self.recipient.is_none() {
            self.recipient = words.pop().map(str::to_owned);
        }
    }
}

/// The first word of a section, and what comes after it.
fn first_word(section: &[u8]) -> (&[u8], &[u8]) {
    let section = section.trim_ascii_start();
    let length = section.iter().position(u8::is_ascii_whitespace).unwrap_or(section.len());
    section.split_at(length)
}

/// The role and name that the first word of a header stands for. A word that is no role is the name
/// of a tool.
fn author(word: &str) -> (Option<Role>, Option<String>) {
    let (role, name) = match word.split_once(':') {
        Some((role, name)) => (Role::named(role), Some(name)),
        None => (Role::named(word), None),
    };
    match role {
        None | Some(Role::Tool) => (None, Some(word.to_owned())),
        Some(role) => (Some(role), name.map(str::to_owned)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
