//! Calls as Hermes, Qwen and others write them: each an object between two markers.
//!
//! ```text
//! <tool_call>
//! {"name": "look", "arguments": {"at": "the sky"}}
//! </tool_call>
//! ```

use super::{
    Problem,
    format::Progress,
    object::{ObjectReader, Read},
    output::Output,
    scanner::is_blank,
};

pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";

/// Reads what follows an opening marker.
#[derive(Clone, Debug, Default)]
pub(super) enum Hermes {
    #[default]
    Ahead,
    Object(ObjectReader),
    /// After the object, and this much of the closing marker.
    After(usize),
}

impl Hermes {
    pub fn push(&mut self, c: char, out: &mut Output) -> Progress {
        match self {
            Self::Ahead if c == '{' => *self = Self::Object(ObjectReader::new(true)),
            Self::Object(object) => match object.push(c, out) {
                Read::Inside => {}
                Read::Last => *self = Self::After(0),
                Read::NoCall | Read::Invalid => return Progress::Failed(Problem::NotJson),
            },
            Self::Ahead | Self::After(0) if is_blank(c) => {}
            Self::Ahead => return Progress::Failed(Problem::NotJson),
            Self::After(n_matched) if CLOSE[*n_matched..].starts_with(c) => {
                *n_matched += c.len_utf8();
                if *n_matched == CLOSE.len() {
                    return Progress::Over { is_closed: true };
                }
            }
            Self::After(_) => return Progress::Passed,
        }
        Progress::Inside
    }

    /// Whether a call has not ended.
    pub fn is_within(&self) -> bool {
        !matches!(self, Self::After(_))
    }
}
