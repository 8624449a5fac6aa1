//! Tokens' bytes → text that is certain, and to which message it belongs.

use super::stop::StopMatcher;
use crate::{
    chat::harmony::{Event, Header, MessageKind, StreamParser},
    error::Result,
    tokenizer::StreamDecoder,
};

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
    /// Adds what follows.
    pub(super) fn append(&mut self, next: Self) {
        self.text.push_str(&next.text);
        self.malformed = self.malformed.or(next.malformed);
        self.message = next.message.or(self.message.take());
    }
}

/// A message of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// How many came before it.
    pub index: usize,
    /// What its header says.
    pub header: Header,
}

/// Makes text of the tokens of one answer.
pub(super) struct TextStream {
    stop: StopMatcher,
    reader: Reader,
}

enum Reader {
    /// All bytes are text.
    Plain(StreamDecoder),
    /// Tokens make messages.
    Messages { parser: Box<StreamParser>, current: Option<Box<Message>> },
}

impl TextStream {
    /// A stream that ends before any of `stop`; `parser` takes answers apart that have messages.
    ///
    /// # Errors
    /// Those of [`StopMatcher::new`].
    pub fn new(stop: &[String], parser: Option<StreamParser>) -> Result<Self> {
        let reader = match parser {
            Some(parser) => Reader::Messages { parser: Box::new(parser), current: None },
            None => Reader::Plain(StreamDecoder::new()),
        };
        Ok(Self { stop: StopMatcher::new(stop)?, reader })
    }

    /// Takes a token; tells whether a stop string was met.
    pub fn push(&mut self, token: u32, bytes: &[u8]) -> (Piece, bool) {
        let events = match &mut self.reader {
            Reader::Plain(decoder) => {
                let matched = self.stop.push(&decoder.push(bytes));
                return (Piece { text: matched.text, ..Default::default() }, matched.stopped);
            }
            Reader::Messages { parser, .. } => parser.push(token, bytes),
        };
        self.take(events)
    }

    /// A token that ends the answer; what is held back comes with it.
    pub fn end(&mut self, token: u32, bytes: &[u8]) -> Piece {
        let events = match &mut self.reader {
            Reader::Plain(_) => return self.finish(),
            Reader::Messages { parser, .. } => {
                let mut events = parser.push(token, bytes);
                events.extend(parser.finish());
                events
            }
        };
        self.take(events).0
    }

    /// What is held back, at an end that no token marks.
    pub fn finish(&mut self) -> Piece {
        let events = match &mut self.reader {
            Reader::Plain(decoder) => {
                let mut matched = self.stop.push(&decoder.finish());
                if !matched.stopped {
                    matched.text.push_str(&self.stop.finish());
                }
                return Piece { text: matched.text, ..Default::default() };
            }
            Reader::Messages { parser, .. } => parser.finish(),
        };
        self.take(events).0
    }

    fn take(&mut self, events: Vec<Event>) -> (Piece, bool) {
        let Reader::Messages { current, .. } = &mut self.reader else {
            unreachable!("only messages have events")
        };
        let mut piece = Piece { message: current.clone(), ..Default::default() };
        for event in events {
            match event {
                Event::Started { index, header } => {
                    *current = Some(Box::new(Message { index, header }));
                    piece.message.clone_from(current);
                }
                // Stop strings are looked for in what the user is told.
                Event::Text { text, .. }
                    if current.as_ref().is_some_and(|message| is_told(message)) =>
                {
                    let matched = self.stop.push(&text);
                    piece.text.push_str(&matched.text);
                    if matched.stopped {
                        return (piece, true);
                    }
                }
                Event::Text { text, .. } => piece.text.push_str(&text),
                Event::Ended { .. } => {
                    piece.text.push_str(&self.stop.finish());
                    *current = None;
                }
                Event::Malformed { problem, text } => {
                    piece.malformed = Some(problem.as_str());
                    piece.text.push_str(&text);
                }
            }
        }
        (piece, false)
    }
}

fn is_told(message: &Message) -> bool {
    matches!(message.header.kind(), MessageKind::Final | MessageKind::Preamble)
}
