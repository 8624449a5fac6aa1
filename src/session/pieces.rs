//! What is told with a token: text, and the messages it belongs to.

use crate::chat::harmony::Header;

/// A message of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// How many came before it.
    pub index: usize,
    /// What its header says.
    pub header: Header,
}

/// Text that became certain with a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Whole characters, nothing that might belong to a stop string.
    pub text: String,
    /// The message of the answer that the text belongs to, where answers have messages.
    pub message: Option<Box<Message>>,
    /// What about the token is not in the model's format, as a sentence.
    pub malformed: Option<&'static str>,
}

impl Piece {
    /// Whether `message` would be taken for another one's, if it were told with this piece.
    fn excludes(&self, message: Option<&Message>) -> bool {
        let is_other = self.message.as_deref() != message;
        is_other && (!self.text.is_empty() || (self.message.is_some() && self.malformed.is_some()))
    }
}

/// What became certain with a token: one piece, and more where the token completes text of several
/// messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pieces {
    pub first: Piece,
    pub further: Vec<Piece>,
}

impl Pieces {
    pub fn of_text(text: String) -> Self {
        Self { first: Piece { text, ..Piece::default() }, further: Vec::new() }
    }

    pub fn last(&mut self) -> &mut Piece {
        self.further.last_mut().unwrap_or(&mut self.first)
    }

    /// Goes on with a message.
    pub fn turn_to(&mut self, message: Option<&Message>) {
        if self.last().excludes(message) {
            self.further.push(Piece::default());
        }
        self.last().message = message.cloned().map(Box::new);
    }

    /// Adds what follows.
    pub fn append(&mut self, next: Self) {
        for piece in [next.first].into_iter().chain(next.further) {
            if piece.message.is_some() {
                self.turn_to(piece.message.as_deref());
            }
            let last = self.last();
            last.text.push_str(&piece.text);
            last.malformed = last.malformed.or(piece.malformed);
        }
    }
}
