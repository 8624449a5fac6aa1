//! What a model writes, token by token, to messages.
//!
//! Reads tokens and gives events: a message starts, text follows, the message ends. Text is passed
//! on as soon as its characters are whole. A model may write anything: whatever is not harmony is
//! reported and read as what it most likely means. No text gets lost, except in a header that a
//! limit cuts: it is in the text of a message, in a header, or in the event that reports it. The
//! events depend on the markers and on the text between them, not on the tokens it comes in. Of a
//! message, nothing is kept but its header, which is bounded.

use super::{
    Harmony, Marker,
    conversation::{Content, Message, Role},
    header::{Header, HeaderParser},
};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// What a token led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message starts.
    Started {
        /// How many messages came before it.
        index: usize,
        /// What its header says.
        header: Header,
    },
    /// Text of the message that started last.
    Text {
        /// The message.
        index: usize,
        /// The text, at least one character.
        text: String,
    },
    /// The message that started last is complete.
    Ended {
        /// The message.
        index: usize,
        /// How it ends.
        end: End,
    },
    /// The model wrote what has no place in the format.
    Malformed {
        /// What it is.
        problem: Problem,
        /// The text concerned, unless it is passed on as that of a message.
        text: String,
    },
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// By `<|end|>`: another message follows.
    Message,
    /// By `<|call|>`: the model waits for what the tool answers.
    Call,
    /// By `<|return|>`: the answer is complete.
    Return,
    /// It does not: the tokens end, or another message begins.
    Cut,
}

/// What a model can write that is not harmony.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// Text between messages. It is read as a message without a channel.
    TextOutsideMessage,
    /// A header without `<|start|>`.
    MissingStart,
    /// A message that begins before the one before it has ended.
    MissingEnd,
    /// A marker or control token where it means nothing.
    StrayMarker,
    /// A second channel or constraint in a header. It replaces the first.
    RepeatedMarker,
    /// A message that ends within its header.
    HeaderTruncated,
    /// A header without end. It is read as the text of a message.
    HeaderTooLong,
    /// A header that does not say who writes.
    MissingAuthor,
    /// An author that is neither a role nor a tool which answers someone.
    UnknownAuthor,
    /// A message of the assistant without a channel, or a channel without a name.
    MissingChannel,
    /// A channel that is none of the format.
    UnknownChannel,
    /// Words in a header that have no meaning.
    UnknownWords,
}

impl Problem {
    /// A sentence about the problem, without a final stop.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TextOutsideMessage => "there is text outside of a message",
            Self::MissingStart => "a header does not begin with <|start|>",
            Self::MissingEnd => "a message begins before the one before it has ended",
            Self::StrayMarker => "a marker stands where it means nothing",
            Self::RepeatedMarker => "a header has a second channel or constraint",
            Self::HeaderTruncated => "a message ends within its header",
            Self::HeaderTooLong => "a header does not end",
            Self::MissingAuthor => "a header does not say who writes",
            Self::UnknownAuthor => "the author of a message is not known",
            Self::MissingChannel => "a message has no channel",
            Self::UnknownChannel => "the channel of a message is not known",
            Self::UnknownWords => "a header has words that mean nothing",
        }
    }
}

/// Reads what a model writes, token by token.
#[derive(Clone, Debug)]
pub struct StreamParser {
    harmony: Harmony,
    /// Who writes where the model does not say so.
    implied: Role,
    state: State,
    /// How many messages have started.
    n_started: usize,
    /// What the tokens so far led to and was not returned yet.
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
enum State {
    /// Between messages.
    Outside,
    Header(HeaderParser),
    Content {
        role: Role,
        decoder: StreamDecoder,
    },
}

impl StreamParser {
    /// A parser at the start of what a model writes. `start_role` is the role that the prompt ends
    /// with, after `<|start|>`; without one, the tokens begin between messages.
    pub fn new(harmony: &Harmony, start_role: Option<Role>) -> Self {
        let state = match start_role {
            Some(role) => State::Header(HeaderParser::new(Some(role))),
            None => State::Outside,
        };
        Self {
            harmony: harmony.clone(),
            implied: start_role.unwrap_or(Role::Assistant),
            state,
            n_started: 0,
            events: Vec::new(),
        }
    }

    /// Reads the next token, stop tokens included. `bytes` is what it stands for, as
    /// [`Tokenizer::token_bytes`] gives it; they matter for tokens of text alone.
    #[must_use]
    pub fn push(&mut self, token: u32, bytes: &[u8]) -> Vec<Event> {
        match self.harmony.marker(token) {
            Some(marker) => self.marker(marker, bytes),
            None => self.text(bytes),
        }
        std::mem::take(&mut self.events)
    }

    /// Ends the tokens: what was held back, and the end of a message that has none.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Event> {
        match std::mem::replace(&mut self.state, State::Outside) {
            State::Outside => {}
            // Nothing came after the prompt.
            State::Header(header) if self.n_started == 0 && header.is_at_start() => {}
            State::Header(header) => self.truncate(header, End::Cut),
            State::Content { decoder, .. } => self.end(decoder, End::Cut),
        }
        std::mem::take(&mut self.events)
    }

    /// Ends the tokens where a limit does and not the model: as [`finish`](Self::finish), except that
    /// a header which has begun is dropped, since nothing is wrong with it.
    #[must_use]
    pub fn cut(&mut self) -> Vec<Event> {
        if matches!(&self.state, State::Header(header) if header.has_begun()) {
            self.state = State::Outside;
        }
        self.finish()
    }

    fn text(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if matches!(self.state, State::Outside) {
            self.report(Problem::TextOutsideMessage, "");
            self.begin(Header::new(self.implied));
        }
        match &mut self.state {
            State::Outside => {}
            State::Content { decoder, .. } => {
                let text = decoder.push(bytes);
                self.pass_on(text);
            }
            State::Header(header) => {
                let excess = header.push(bytes);
                if !excess.is_empty() {
                    let header = std::mem::take(header);
                    self.report(Problem::HeaderTooLong, "");
                    let truncated = header.truncate(self.implied);
                    self.begin(truncated.header);
                    self.text(&truncated.rest);
                    self.text(excess);
                }
            }
        }
    }

    fn marker(&mut self, marker: Marker, bytes: &[u8]) {
        self.state = match (std::mem::replace(&mut self.state, State::Outside), marker) {
            (State::Header(mut header), Marker::Channel) => {
                let dropped = header.begin_channel();
                self.report_repeated(dropped);
                State::Header(header)
            }
            (State::Header(mut header), Marker::Constrain) => {
                let dropped = header.begin_constraint();
                self.report_repeated(dropped);
                State::Header(header)
            }
            (State::Header(header), Marker::Message) => {
                let resolved = header.resolve(self.implied);
                for (problem, text) in resolved.problems {
                    self.report(problem, &text);
                }
                return self.begin(resolved.header);
            }
            (State::Header(header), Marker::End(end)) => return self.truncate(header, end),
            (State::Header(header), Marker::Start) => {
                if header.has_begun() {
                    self.report(Problem::HeaderTruncated, &header.into_text());
                } else {
                    self.truncate(header, End::Cut);
                }
                State::Header(HeaderParser::new(None))
            }
            (State::Content { decoder, .. }, Marker::End(end)) => return self.end(decoder, end),
            (State::Content { decoder, .. }, Marker::Start) => {
                self.report(Problem::MissingEnd, "");
                self.end(decoder, End::Cut);
                State::Header(HeaderParser::new(None))
            }
            (State::Content { decoder, role }, Marker::Channel) => {
                self.report(Problem::MissingEnd, "");
                self.end(decoder, End::Cut);
                self.state = State::Header(HeaderParser::new(Some(role)));
                return self.marker(marker, bytes);
            }
            (State::Outside, Marker::Start) => State::Header(HeaderParser::new(None)),
            (State::Outside, Marker::Channel | Marker::Message) => {
                self.report(Problem::MissingStart, "");
                self.state = State::Header(HeaderParser::new(Some(self.implied)));
                return self.marker(marker, bytes);
            }
            (state, Marker::Message | Marker::Constrain | Marker::Foreign)
            | (state @ State::Outside, Marker::End(_)) => {
                self.report(Problem::StrayMarker, &String::from_utf8_lossy(bytes));
                state
            }
        };
    }

    fn begin(&mut self, header: Header) {
        self.state = State::Content { role: header.role, decoder: StreamDecoder::new() };
        self.events.push(Event::Started { index: self.n_started, header });
        self.n_started += 1;
    }

    fn pass_on(&mut self, text: String) {
        if !text.is_empty() {
            self.events.push(Event::Text { index: self.n_started - 1, text });
        }
    }

    fn end(&mut self, mut decoder: StreamDecoder, end: End) {
        self.pass_on(decoder.finish());
        self.events.push(Event::Ended { index: self.n_started - 1, end });
    }

    /// Ends a message within its header.
    fn truncate(&mut self, header: HeaderParser, end: End) {
        self.report(Problem::HeaderTruncated, "");
        let truncated = header.truncate(self.implied);
        if truncated.rest.is_empty() && truncated.header.channel.is_none() {
            return;
        }
        self.begin(truncated.header);
        self.text(&truncated.rest);
        if let State::Content { decoder, .. } = std::mem::replace(&mut self.state, State::Outside) {
            self.end(decoder, end);
        }
    }

    fn report(&mut self, problem: Problem, text: &str) {
        self.events.push(Event::Malformed { problem, text: text.to_owned() });
    }

    fn report_repeated(&mut self, dropped: Option<String>) {
        if let Some(dropped) = dropped {
            self.report(Problem::RepeatedMarker, &dropped);
        }
    }
}

/// All that a model wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The messages, also those that were cut.
    pub messages: Vec<Message>,
    /// What is wrong, with the text concerned where it is in no message.
    pub problems: Vec<(Problem, String)>,
}

impl Parsed {
    /// Adds what the next event says.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Started { header, .. } => {
                self.messages.push(header.into_message(String::new()));
            }
            Event::Text { text: more, .. } => {
                let part = self.messages.last_mut().and_then(|message| message.content.last_mut());
                if let Some(Content::Text { text }) = part {
                    text.push_str(&more);
                }
            }
            Event::Ended { .. } => {}
            Event::Malformed { problem, text } => self.problems.push((problem, text)),
        }
    }
}

impl Harmony {
    /// All that `tokens` say: what [`StreamParser`] makes of them, put together.
    pub fn parse(&self, tokenizer: &Tokenizer, start_role: Option<Role>, tokens: &[u32]) -> Parsed {
        let mut parser = StreamParser::new(self, start_role);
        let mut parsed = Parsed::default();
        for token in tokens {
            let bytes = tokenizer.token_bytes(*token).unwrap_or_default();
            parser.push(*token, bytes).into_iter().for_each(|event| parsed.push(event));
        }
        parser.finish().into_iter().for_each(|event| parsed.push(event));
        parsed
    }
}
