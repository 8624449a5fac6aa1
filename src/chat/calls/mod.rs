//! What a model with a chat template writes: to thoughts, calls of tools, and content.
//!
//! Input is the text of an answer, in whatever pieces it comes; output are [`Event`]s with the headers
//! of harmony, so that answers have one form: reasoning is on the channel `analysis`, the arguments of
//! a call go to `functions.NAME`, and all else is on `final`. The events depend on the text alone, but
//! for how texts are cut.
//!
//! `parser` takes an answer apart with `search`, which finds markers. What is between the markers of
//! calls is read by `hermes`, `llama` and `mistral`, among which `format` chooses, with `object`,
//! `arguments` and `scanner`, which know JSON. `output` makes the events. `grammar` has what answers may
//! be that are held to calls.
//!
//! Arguments are passed on before a call has ended. So a call counts only if nothing is malformed in
//! its message. What is wrong from the start is content, as the model wrote it.

mod arguments;
mod format;
mod grammar;
mod hermes;
mod llama;
mod mistral;
mod object;
mod output;
mod parser;
mod scanner;
mod search;

pub use self::{format::CallFormat, grammar::Beside, parser::AnswerParser};
use super::harmony::Header;

/// What text led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message starts.
    Started {
        /// How many messages came before it.
        index: usize,
        /// Whom it is for, and on which channel it is.
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
    },
    /// Something is wrong with the message that started last.
    Malformed {
        /// What it is.
        problem: Problem,
    },
}

/// What a model can write that was to be a call and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// A call whose text is not JSON.
    NotJson,
    /// A call that ends with the answer, and not by itself.
    Unfinished,
    /// A call without the name of a function.
    MissingName,
    /// A call of a function that there is not.
    UnknownTool,
    /// Arguments that are no object.
    BadArguments,
    /// A second name, or second arguments, in one call.
    Repeated,
    /// Text after a call, where the next call or the end of the answer should be.
    TextAfterCall,
}

impl Problem {
    /// A sentence about the problem, without a final stop.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "a call of a tool is not JSON",
            Self::Unfinished => "the answer ends within a call of a tool",
            Self::MissingName => "a call of a tool does not name it",
            Self::UnknownTool => "a call is of a tool that there is not",
            Self::BadArguments => "the arguments of a call are no object",
            Self::Repeated => "a call has a second name or second arguments",
            Self::TextAfterCall => "there is text after a call of a tool",
        }
    }
}
