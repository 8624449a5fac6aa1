//! Text from a stream of bytes that may end in the middle of a character.

/// Turns pieces of a stream of UTF-8 into text.
///
/// A character whose bytes have not all come is held back. Malformed bytes become U+FFFD just as
/// [`String::from_utf8_lossy`] replaces them, whatever the pieces.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The first bytes of a character: three at most.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `bytes` complete.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut n_read = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            n_read += chunk.valid().len() + chunk.invalid().len();
            if n_read == self.pending.len() && is_incomplete(chunk.invalid()) {
                n_read -= chunk.invalid().len();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..n_read);
        text
    }

    /// Ends the stream: the replacement of a character that was never completed, or nothing.
    #[must_use]
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Whether more bytes could make a character of these.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
