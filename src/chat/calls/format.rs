//! The forms that calls have in answers.

use super::{
    Problem,
    hermes::{self, Hermes},
    llama::{self, Llama},
    mistral::{self, Mistral},
    output::Output,
};

/// How a model writes calls of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallFormat {
    /// Objects between `<tool_call>` and `</tool_call>`.
    Hermes,
    /// An object after `<|python_tag|>`, or nothing but an object.
    Llama,
    /// A list of objects, or names with arguments, after `[TOOL_CALLS]`.
    Mistral,
}

/// What a character is to calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It belongs to them.
    Inside,
    /// They end with it. Without a mark that closes them, nothing but calls is to follow.
    Over { is_closed: bool },
    /// They have ended before it, and before what has come since the last of them.
    Passed,
    /// It belongs to none, and the one that it follows is not whole.
    Failed(Problem),
    /// There is no call, and it was not to be one.
    NoCall,
}

/// Reads calls after what opens them.
#[derive(Clone, Debug)]
pub(super) enum Calls {
    Hermes(Hermes),
    Llama(Llama),
    Mistral(Mistral),
}

impl CallFormat {
    /// The format that a chat template writes calls in, which is the one that its model was trained
    /// on; `None` if it is none of those read here.
    pub fn of_template(source: &str) -> Option<Self> {
        let has = |text| source.contains(text);
        if has(hermes::OPEN) {
            // Some models write elements with attributes between the same markers.
            return (!has("<function=")).then_some(Self::Hermes);
        }
        if has(mistral::OPEN) {
            return Some(Self::Mistral);
        }
        // Templates for models without built-in tools have no marker. Quotation marks may be escaped.
        let has_parameters = has("\"parameters\"") || has("\\\"parameters\\\"");
        let is_llama = has(llama::OPEN) || (has("<|eot_id|>") && has_parameters);
        is_llama.then_some(Self::Llama)
    }

    pub(super) const fn open(self) -> &'static str {
        match self {
            Self::Hermes => hermes::OPEN,
            Self::Llama => llama::OPEN,
            Self::Mistral => mistral::OPEN,
        }
    }

    /// What opens and, if anything does, closes calls.
    pub(super) fn markers(self) -> impl Iterator<Item = &'static str> {
        let close = (self == Self::Hermes).then_some(hermes::CLOSE);
        [self.open()].into_iter().chain(close)
    }

    /// A reader after the opening marker.
    pub(super) fn calls(self) -> Calls {
        match self {
            Self::Hermes => Calls::Hermes(Hermes::default()),
            Self::Llama => Calls::Llama(Llama::default()),
            Self::Mistral => Calls::Mistral(Mistral::default()),
        }
    }

    /// A reader after `c` at the beginning of an answer, if a call can begin with it.
    pub(super) fn unmarked_calls(self, c: char) -> Option<Calls> {
        (self == Self::Llama && c == '{').then(|| Calls::Llama(Llama::unmarked()))
    }
}

impl Calls {
    pub fn push(&mut self, c: char, out: &mut Output) -> Progress {
        match self {
            Self::Hermes(calls) => calls.push(c, out),
            Self::Llama(calls) => calls.push(c, out),
            Self::Mistral(calls) => calls.push(c, out),
        }
    }

    /// Whether a call has not ended.
    pub fn is_within(&self) -> bool {
        match self {
            Self::Hermes(calls) => calls.is_within(),
            Self::Llama(calls) => calls.is_within(),
            Self::Mistral(calls) => calls.is_within(),
        }
    }

    /// Whether nothing tells yet that there is to be a call.
    pub fn is_unmarked(&self) -> bool {
        matches!(self, Self::Llama(calls) if calls.is_unmarked())
    }
}
