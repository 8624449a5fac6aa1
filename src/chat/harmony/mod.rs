//! The harmony format: how gpt-oss reads a conversation, and what it writes.
//!
//! A [`Conversation`] (`conversation`), which may come from a request in OpenAI's shape
//! (`from_chat`), becomes token ids (`render`, `tools`, `schema`). The tokens that the model
//! answers with become events (`parser`, `header`). A message is
//!
//! ```text
//! <|start|> author, recipient <|channel|> channel, type <|message|> content <|end|>
//! ```
//!
//! The markers are tokens of their own and are known by id. All else is encoded as ordinary text,
//! so that nothing written in a message, a name or a schema is ever a marker.

mod conversation;
mod from_chat;
mod header;
mod parser;
mod render;
mod schema;
mod tools;

pub use self::{
    conversation::{
        ANALYSIS, CHANNELS, COMMENTARY, ChannelConfig, Content, Conversation, DeveloperContent,
        FINAL, Message, ReasoningEffort, ResponseFormat, Role, SystemContent, ToolDescription,
        ToolNamespace,
    },
    from_chat::ChatRequest,
    header::{Header, MessageKind},
    parser::{End, Event, Parsed, Problem, StreamParser},
    render::RenderOptions,
};
pub(super) use self::{
    from_chat::{expected, functions},
    render::FUNCTIONS,
};
use crate::{Result, tokenizer::Tokenizer};

/// How a content type begins that the model's output is constrained to.
pub(super) const CONSTRAIN: &str = "<|constrain|>";

/// The tokens of the format in a model's vocabulary.
#[derive(Clone, Debug)]
pub struct Harmony {
    start: u32,
    message: u32,
    end: u32,
    channel: u32,
    constrain: u32,
    call: u32,
    /// What the model ends its answer with. In a history, `end` stands in its place.
    return_: u32,
    /// The control tokens that have no place in the format, in ascending order.
    foreign: Box<[u32]>,
}

/// What a token is in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Start,
    Message,
    Channel,
    Constrain,
    End(End),
    /// A control token that has no place in the format.
    Foreign,
}

impl Harmony {
    /// The format in the vocabulary of `tokenizer`; `None` if a token of the format is not in it.
    pub fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let id = |name| tokenizer.special_id(name);
        let mut harmony = Self {
            start: id("<|start|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
            channel: id("<|channel|>")?,
            constrain: id(CONSTRAIN)?,
            call: id("<|call|>")?,
            return_: id("<|return|>")?,
            foreign: Box::default(),
        };
        let ids = 0..u32::try_from(tokenizer.n_vocab()).unwrap_or(u32::MAX);
        let is_foreign = |id: &u32| tokenizer.is_special(*id) && harmony.marker(*id).is_none();
        harmony.foreign = ids.filter(is_foreign).collect();
        Some(harmony)
    }

    /// The tokens after which the model waits: the end of its answer, and of a call of a tool.
    /// The end of any other message is not among them, since the model goes on with the next one.
    pub fn stop_ids(&self) -> [u32; 2] {
        [self.return_, self.call]
    }

    /// The token that ends a message after which the model goes on.
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// The tokens with which the next message of an answer starts, up to its channel.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode_ordinary`].
    pub fn answer_start(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let mut ids = vec![self.start];
        ids.extend(tokenizer.encode_ordinary(Role::Assistant.as_str())?);
        Ok(ids)
    }

    /// The tokens of the rest of that message's header, as gpt-oss writes it: its channel, and which
    /// function it calls with JSON, if it does.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode_ordinary`].
    pub fn answer_header(
        &self,
        tokenizer: &Tokenizer,
        channel: &str,
        function: Option<&str>,
    ) -> Result<Vec<u32>> {
        let mut ids = vec![self.channel];
        match function {
            Some(name) => {
                let recipient = format!("{channel} to={}.{name} ", render::FUNCTIONS);
                ids.extend(tokenizer.encode_ordinary(&recipient)?);
                ids.push(self.constrain);
                ids.extend(tokenizer.encode_ordinary("json")?);
            }
            None => ids.extend(tokenizer.encode_ordinary(channel)?),
        }
        ids.push(self.message);
        Ok(ids)
    }

    fn marker(&self, token: u32) -> Option<Marker> {
        Some(match token {
            _ if token == self.start => Marker::Start,
            _ if token == self.message => Marker::Message,
            _ if token == self.channel => Marker::Channel,
            _ if token == self.constrain => Marker::Constrain,
            _ if token == self.end => Marker::End(End::Message),
            _ if token == self.call => Marker::End(End::Call),
            _ if token == self.return_ => Marker::End(End::Return),
            _ if self.foreign.binary_search(&token).is_ok() => Marker::Foreign,
            _ => return None,
        })
    }
}
