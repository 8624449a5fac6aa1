//! Calls as Mistral's models write them: a list of objects after a marker, or, later, a marker, a name
//! and arguments for each.
//!
//! ```text
//! [TOOL_CALLS] [{"name": "look", "arguments": {"at": "the sky"}}]
//! [TOOL_CALLS]look{"at": "the sky"}
//! [TOOL_CALLS]look[CALL_ID]a1B2c3D4e[ARGS]{"at": "the sky"}
//! ```

use super::{
    Problem,
    arguments::{ArgumentsRead, ArgumentsReader},
    format::Progress,
    object::{ObjectReader, Read},
    output::Output,
    scanner::is_blank,
};

pub(super) const OPEN: &str = "[TOOL_CALLS]";

pub(super) const ARGUMENTS: &str = "[ARGS]";
pub(super) const CALL_ID: &str = "[CALL_ID]";

/// Reads what follows the marker.
#[derive(Clone, Debug, Default)]
pub(super) enum Mistral {
    #[default]
    Ahead,
    /// In a list, ahead of an object.
    List,
    Object {
        object: ObjectReader,
        is_in_list: bool,
    },
    AfterObject,
    Name(String),
    /// A mark after the name, as far as it has come.
    Mark(String, String),
    CallId(String),
    BeforeArguments(String),
    Arguments(ArgumentsReader),
}

impl Mistral {
    pub fn push(&mut self, c: char, out: &mut Output) -> Progress {
        match self {
            Self::Object { object, is_in_list } => match object.push(c, out) {
                Read::Inside => {}
                Read::Last if *is_in_list => *self = Self::AfterObject,
                Read::Last => return Progress::Over { is_closed: false },
                Read::NoCall | Read::Invalid => return Progress::Failed(Problem::NotJson),
            },
            Self::Arguments(reader) => match reader.push(c) {
                ArgumentsRead::Text(_) if out.is_shown() => {
                    if reader.has_ended() {
                        return Progress::Over { is_closed: false };
                    }
                }
                ArgumentsRead::Text(c) => {
                    out.argue(c.encode_utf8(&mut [0; 4]));
                    if reader.has_ended() {
                        out.complete_call();
                        return Progress::Over { is_closed: false };
                    }
                }
                ArgumentsRead::Nothing => {}
                ArgumentsRead::Wrong(_) | ArgumentsRead::Invalid => {
                    return Progress::Failed(Problem::NotJson);
                }
            },
            Self::Mark(name, mark) => {
                mark.push(c);
                if mark == ARGUMENTS {
                    *self = Self::BeforeArguments(std::mem::take(name));
                } else if mark == CALL_ID {
                    *self = Self::CallId(std::mem::take(name));
                } else if !ARGUMENTS.starts_with(&*mark) && !CALL_ID.starts_with(&*mark) {
                    return Progress::Failed(Problem::NotJson);
                }
            }
            Self::CallId(name) => match c {
                '[' => *self = Self::Mark(std::mem::take(name), c.into()),
                _ if is_in_name(c) => {}
                _ => return Progress::Failed(Problem::NotJson),
            },
            Self::Name(name) if is_in_name(c) => name.push(c),
            Self::Name(name) | Self::BeforeArguments(name) if c == '[' => {
                *self = Self::Mark(std::mem::take(name), c.into());
            }
            Self::Name(name) | Self::BeforeArguments(name) if c == '{' => {
                if out.has(name) {
                    out.begin_call(name);
                    out.argue("{");
                } else {
                    out.reject(Problem::UnknownTool);
                }
                *self = Self::Arguments(ArgumentsReader::object());
            }
            Self::Name(name) if is_blank(c) => *self = Self::BeforeArguments(std::mem::take(name)),
            _ if is_blank(c) => {}
            Self::Ahead if c == '[' => *self = Self::List,
            Self::Ahead if is_in_name(c) => *self = Self::Name(c.into()),
            Self::Ahead | Self::List if c == '{' => {
                let is_in_list = matches!(self, Self::List);
                out.renew();
                *self = Self::Object { object: ObjectReader::new(true), is_in_list };
            }
            Self::AfterObject if c == ',' => {
                out.drop_mark();
                *self = Self::List;
            }
            Self::List | Self::AfterObject if c == ']' => {
                return Progress::Over { is_closed: true };
            }
            Self::AfterObject => return Progress::Passed,
            Self::BeforeArguments(_) => return Progress::Failed(Problem::BadArguments),
            Self::Ahead | Self::List | Self::Name(_) => return Progress::Failed(Problem::NotJson),
        }
        Progress::Inside
    }

    /// Whether a call has not ended.
    pub fn is_within(&self) -> bool {
        !matches!(self, Self::AfterObject)
    }
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}
