//! Stop strings: texts at which generation ends, found in a stream of pieces.

use crate::{Error, Result};

/// Looks for stop strings in a text that comes in pieces.
///
/// The text ends before the stop string that is complete first, the longest of several that are
/// complete at once. Until then everything is passed on except the longest tail that could still
/// become a stop string. The same text gives the same result in whatever pieces it comes.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// The end of the text so far that could begin a stop string.
    held: String,
    stopped: bool,
}

/// What a piece of text led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Text that is no part of a stop string, and was not returned before.
    pub text: String,
    /// Whether a stop string is complete. Nothing comes after it.
    pub stopped: bool,
}

/// A stop string as the automaton of Knuth, Morris and Pratt.
#[derive(Clone, Debug)]
struct Pattern {
    bytes: Box<[u8]>,
    /// `fallback[n]`: how long a beginning of the pattern is also the end of its first `n + 1`
    /// bytes, these themselves excepted.
    fallback: Box<[usize]>,
    /// How many bytes of the pattern the text so far ends with.
    n_matched: usize,
}

impl StopMatcher {
    /// A matcher at the start of a text.
    ///
    /// # Errors
    /// Of kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a stop string is empty.
    pub fn new<S: AsRef<str>>(stop: &[S]) -> Result<Self> {
        if let Some(index) = stop.iter().position(|text| text.as_ref().is_empty()) {
            return Err(Error::argument("a stop string is empty").with("index", index));
        }
        let patterns = stop.iter().map(|text| Pattern::new(text.as_ref().as_bytes())).collect();
        Ok(Self { patterns, held: String::new(), stopped: false })
    }

    /// Reads the next piece. After a stop string, pieces are ignored.
    pub fn push(&mut self, piece: &str) -> Matched {
        if self.stopped {
            return Matched { text: String::new(), stopped: true };
        }
        let n_before = self.held.len();
        self.held.push_str(piece);
        for (index, byte) in piece.bytes().enumerate() {
            let found = self.patterns.iter_mut().filter_map(|pattern| pattern.advance(byte)).max();
            if let Some(n_bytes) = found {
                self.stopped = true;
                let mut text = std::mem::take(&mut self.held);
                text.truncate(n_before + index + 1 - n_bytes);
                return Matched { text, stopped: true };
            }
        }
        let n_held = self.patterns.iter().map(|pattern| pattern.n_matched).max().unwrap_or(0);
        let tail = self.held.split_off(self.held.len() - n_held);
        Matched { text: std::mem::replace(&mut self.held, tail), stopped: false }
    }

    /// Ends the text: what was held back, since no stop string came of it.
    pub fn finish(&mut self) -> String {
        for pattern in &mut self.patterns {
            pattern.n_matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

impl Pattern {
    fn new(bytes: &[u8]) -> Self {
        let mut pattern =
            Self { bytes: bytes.into(), fallback: vec![0; bytes.len()].into(), n_matched: 0 };
        for (index, byte) in bytes.iter().enumerate().skip(1) {
            pattern.step(*byte);
            pattern.fallback[index] = pattern.n_matched;
        }
        pattern.n_matched = 0;
        pattern
    }

    /// Reads one byte of the text. The length of the pattern if it is now complete.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        self.step(byte);
        (self.n_matched == self.bytes.len()).then_some(self.bytes.len())
    }

    /// Lengthens the match by `byte`, or falls back to the longest one that `byte` lengthens.
    fn step(&mut self, byte: u8) {
        while self.n_matched > 0 && self.bytes[self.n_matched] != byte {
            self.n_matched = self.fallback[self.n_matched - 1];
        }
        if self.bytes[self.n_matched] == byte {
            self.n_matched += 1;
        }
    }
}
