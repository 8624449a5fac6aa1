//! The arguments in a call: an object, or a text that has one in it.

use super::scanner::{Scanned, Scanner, TextScanned, TextScanner, is_blank};

/// Reads the value.
#[derive(Clone, Debug)]
pub(super) struct ArgumentsReader {
    /// The text around the object, if there is one.
    around: Option<TextScanner>,
    object: Scanner,
    object_state: ObjectState,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ObjectState {
    Ahead,
    Inside,
    Ended,
}

/// What a character is to arguments.
#[derive(Debug)]
pub(super) enum ArgumentsRead {
    /// It completes this character of the object.
    Text(char),
    /// It is around the object.
    Nothing,
    /// The text has something else in it than an object. The value goes on like this, unless it has
    /// ended.
    Wrong(Option<Scanner>),
    /// No value goes on like this.
    Invalid,
}

impl ArgumentsReader {
    /// A reader after the bracket that opens an object.
    pub fn object() -> Self {
        let mut object = Scanner::default();
        object.push('{');
        Self { around: None, object, object_state: ObjectState::Inside, has_ended: false }
    }

    /// A reader after the quotation mark that opens a text.
    pub fn text() -> Self {
        Self {
            around: Some(TextScanner::default()),
            object: Scanner::default(),
            object_state: ObjectState::Ahead,
            has_ended: false,
        }
    }

    /// Whether the value has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub fn push(&mut self, c: char) -> ArgumentsRead {
        let Some(text) = &mut self.around else {
            return match self.object.push(c) {
                Scanned::Inside => ArgumentsRead::Text(c),
                Scanned::Last => {
                    self.has_ended = true;
                    ArgumentsRead::Text(c)
                }
                Scanned::Past | Scanned::Invalid => ArgumentsRead::Invalid,
            };
        };
        let c = match text.push(c) {
            TextScanned::Char(c) => c,
            TextScanned::Inside => return ArgumentsRead::Nothing,
            TextScanned::Invalid => return ArgumentsRead::Invalid,
            TextScanned::End => {
                self.has_ended = true;
                return match self.object_state {
                    ObjectState::Ended => ArgumentsRead::Nothing,
                    ObjectState::Ahead | ObjectState::Inside => ArgumentsRead::Wrong(None),
                };
            }
        };
        match self.object_state {
            ObjectState::Ahead | ObjectState::Ended if is_blank(c) => {
                return ArgumentsRead::Nothing;
            }
            ObjectState::Ahead if c == '{' => self.object_state = ObjectState::Inside,
            ObjectState::Inside => {}
            ObjectState::Ahead | ObjectState::Ended => {
                return ArgumentsRead::Wrong(Some(Scanner::in_text(*text)));
            }
        }
        match self.object.push(c) {
            Scanned::Inside => {}
            Scanned::Last => self.object_state = ObjectState::Ended,
            Scanned::Past | Scanned::Invalid => {
                return ArgumentsRead::Wrong(Some(Scanner::in_text(*text)));
            }
        }
        ArgumentsRead::Text(c)
    }
}
