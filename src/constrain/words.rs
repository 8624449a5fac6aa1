//! The bytes of a vocabulary's tokens, as grammars read them.

use crate::{
    error::{Error, Result},
    tokenizer::Tokenizer,
};

/// Longest token in bytes; longer ones are never allowed. The tree counts ancestors in 10 bits.
const MAX_TOKEN: usize = 1000;

/// Most bytes of all tokens: the tree counts nodes in 22 bits.
const MAX_BYTES: usize = 4_000_000;

/// Most tokens: the tree counts them in 24 bits.
const MAX_TOKENS: usize = 16_000_000;

/// The bytes of all tokens, one after the other.
pub struct Words {
    /// Those of all.
    pub bytes: Vec<u8>,
    /// How many each has: none where it is in no text, as control tokens are.
    pub lengths: Vec<u32>,
}

impl Words {
    /// The tokens of `tokenizer`.
    ///
    /// # Errors
    /// `unsupported` for more of them, or of their bytes, than the tree holds.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let mut words = Self { bytes: Vec::new(), lengths: Vec::new() };
        for id in 0..tokenizer.n_vocab() as u32 {
            let bytes = tokenizer.token_bytes(id).filter(|_| !tokenizer.is_special(id));
            let bytes = bytes.filter(|bytes| bytes.len() <= MAX_TOKEN).unwrap_or_default();
            words.bytes.extend_from_slice(bytes);
            words.lengths.push(bytes.len() as u32);
        }
        if words.bytes.len() > MAX_BYTES || words.lengths.len() >= MAX_TOKENS {
            return Err(Error::unsupported("constraints for so large a vocabulary")
                .with("found", words.bytes.len())
                .with("limit", MAX_BYTES));
        }
        Ok(words)
    }

    /// The id that stands for the end of a text: one beyond all tokens.
    pub fn end(&self) -> u32 {
        self.lengths.len() as u32
    }

    /// The bytes of each token.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |&length| {
            let word;
            (word, rest) = rest.split_at(length as usize);
            word
        })
    }
}
