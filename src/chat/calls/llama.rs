//! Calls as Llama 3.1 and later write them: an object after a marker, or without one where the whole
//! answer is a call. Some models write several, with semicolons between them.
//!
//! ```text
//! <|python_tag|>{"name": "look", "parameters": {"at": "the sky"}}
//! ```

use super::{
    Problem,
    format::Progress,
    object::{ObjectReader, Read},
    output::Output,
    scanner::is_blank,
};

pub(super) const OPEN: &str = "<|python_tag|>";

/// Reads what follows a marker.
#[derive(Clone, Debug, Default)]
pub(super) enum Llama {
    #[default]
    Ahead,
    Object(ObjectReader),
    After,
}

impl Llama {
    /// A reader of an answer that begins with a bracket, after that.
    pub fn unmarked() -> Self {
        Self::Object(ObjectReader::new(false))
    }

    pub fn push(&mut self, c: char, out: &mut Output) -> Progress {
        match self {
            Self::Ahead if c == '{' => {
                out.renew();
                *self = Self::Object(ObjectReader::new(true));
            }
            Self::Object(object) => match object.push(c, out) {
                Read::Inside => {}
                Read::Last => *self = Self::After,
                Read::NoCall => return Progress::NoCall,
                Read::Invalid => return Progress::Failed(Problem::NotJson),
            },
            Self::Ahead | Self::After if is_blank(c) => {}
            Self::Ahead => return Progress::Failed(Problem::NotJson),
            Self::After if matches!(c, ';' | ',') => {
                out.drop_mark();
                *self = Self::Ahead;
            }
            Self::After => return Progress::Passed,
        }
        Progress::Inside
    }

    /// Whether a call has not ended.
    pub fn is_within(&self) -> bool {
        !matches!(self, Self::After)
    }

    /// Whether nothing tells yet that there is to be a call.
    pub fn is_unmarked(&self) -> bool {
        matches!(self, Self::Object(object) if !object.is_marked())
    }
}
