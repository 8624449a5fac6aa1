//! The table of tokens: what each id stands for, and which id stands for some bytes.
//!
//! A byte-level vocabulary spells its tokens in an alphabet of 256 printable characters, one for
//! each byte, so that any bytes can stand in a text file. The spelling is undone here once; the
//! rest of the tokenizer sees bytes only.

use std::{collections::HashMap, hash::Hasher};

use crate::{Error, Result};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ordinary token, which merges produce.
    Normal,
    /// A marker that ordinary text never produces, such as the start of a message.
    Control,
    /// A piece of text that is one token wherever it occurs.
    UserDefined,
    /// An id that stands for nothing: padding of the embedding table.
    Unused,
}

/// The tokens of a model by id. Immutable once built.
pub(super) struct Vocabulary {
    /// The bytes of all tokens, end to end in the order of their ids.
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    /// The ids of the normal tokens in a hash table with open addressing, at most half full.
    /// [`EMPTY`] marks a free slot. It holds no copy of the bytes, unlike a map would.
    slots: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl Vocabulary {
    /// Builds the table from the spelling and the kind of every token, in the order of their ids.
    ///
    /// Normal tokens are spelled in the byte-level alphabet; one with a character outside of it can
    /// never be produced and stands for its own text. The others stand for their own text.
    ///
    /// # Errors
    /// Of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) if there are no tokens, if two
    /// normal tokens are the same, or if there are more tokens or bytes than 32 bits count.
    pub(super) fn new<'a>(tokens: impl ExactSizeIterator<Item = (&'a str, Kind)>) -> Result<Self> {
        let n_tokens = tokens.len();
        if n_tokens == 0 {
            return Err(Error::invalid("the vocabulary is empty"));
        }
        if n_tokens >= EMPTY as usize {
            return Err(Error::invalid("the vocabulary has too many tokens")
                .with("found", n_tokens)
                .with("limit", EMPTY));
        }
        let mut vocabulary = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(n_tokens),
            kinds: Vec::with_capacity(n_tokens),
            slots: vec![EMPTY; (2 * n_tokens).next_power_of_two()],
        };
        for (id, (text, kind)) in (0..).zip(tokens) {
            let start = vocabulary.bytes.len();
            let spelled = kind == Kind::Normal && from_alphabet(text, &mut vocabulary.bytes);
            if !spelled {
                vocabulary.bytes.truncate(start);
                vocabulary.bytes.extend_from_slice(text.as_bytes());
            }
            let end = u32::try_from(vocabulary.bytes.len()).map_err(|_| {
                Error::invalid("the tokens are too long together").with("limit", u32::MAX)
            })?;
            vocabulary.ends.push(end);
            vocabulary.kinds.push(kind);
            if spelled {
                vocabulary.insert(id, text)?;
            }
        }
        Ok(vocabulary)
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes that `id` stands for; `None` beyond the vocabulary.
    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let end = *self.ends.get(id as usize)? as usize;
        let start = id.checked_sub(1).map_or(0, |previous| self.ends[previous as usize] as usize);
        Some(&self.bytes[start..end])
    }

    /// What `id` is for; `None` beyond the vocabulary.
    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// The ids of one kind, in ascending order.
    pub(super) fn ids_of(&self, kind: Kind) -> impl Iterator<Item = u32> {
        (0..).zip(&self.kinds).filter(move |(_, other)| **other == kind).map(|(id, _)| id)
    }

    /// The normal token that stands for `bytes`.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        let id = self.slots[self.slot_of(bytes)];
        (id != EMPTY).then_some(id)
    }

    /// Puts the normal token `id` into the hash table.
    fn insert(&mut self, id: u32, text: &str) -> Result<()> {
        let slot = self.slot_of(self.bytes(id).unwrap_or_default());
        if self.slots[slot] != EMPTY {
            return Err(Error::invalid("two tokens of the vocabulary are the same")
                .with("token", text)
                .with("first", self.slots[slot])
                .with("second", id));
        }
        self.slots[slot] = id;
        Ok(())
    }

    /// The slot that holds the token `bytes`, or else the free slot where it would go.
    fn slot_of(&self, bytes: &[u8]) -> usize {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(bytes);
        let mask = self.slots.len() - 1;
        let mut slot = hasher.finish() as usize & mask;
        while self.slots[slot] != EMPTY && self.bytes(self.slots[slot]) != Some(bytes) {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// Checks that no two tokens of the kinds that are found in text have the same text.
pub(super) fn reject_repeated_special(vocabulary: &Vocabulary) -> Result<()> {
    let mut seen = HashMap::new();
    let ids = vocabulary.ids_of(Kind::Control).chain(vocabulary.ids_of(Kind::UserDefined));
    for id in ids {
        let bytes = vocabulary.bytes(id).unwrap_or_default();
        if let Some(first) = seen.insert(bytes, id) {
            return Err(Error::invalid("two special tokens of the vocabulary are the same")
                .with("token", String::from_utf8_lossy(bytes).into_owned())
                .with("first", first)
                .with("second", id));
        }
    }
    Ok(())
}

/// Appends the bytes that `text` spells in the byte-level alphabet; false if a character is not
/// part of it, in which case `out` may hold some of the bytes.
pub(super) fn from_alphabet(text: &str, out: &mut Vec<u8>) -> bool {
    text.chars().all(|character| {
        let byte = ALPHABET.get(character as usize).copied().flatten();
        out.extend(byte);
        byte.is_some()
    })
}

/// The byte of each character of the alphabet, by code point. Bytes that Latin-1 prints visibly
/// stand for themselves; the other 68 take the code points from 256 on, in ascending order.
const ALPHABET: [Option<u8>; 256 + 68] = {
    let mut alphabet = [None; 256 + 68];
    let mut n_moved = 0;
    let mut byte = 0;
    while byte < 256 {
        let visible = matches!(byte as u8, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        if visible {
            alphabet[byte] = Some(byte as u8);
        } else {
            alphabet[256 + n_moved] = Some(byte as u8);
            n_moved += 1;
        }
        byte += 1;
    }
    alphabet
};
