//! Text to token ids and back.
//!
//! A [`Tokenizer`] is byte-level BPE, built from the metadata of a GGUF file or from a
//! `tokenizer.json`. Text goes through it in four steps, a file each: tokens written in the text
//! are taken out (`special`), the rest is normalised and cut into words (`split`), and each word's
//! bytes are merged (`bpe`) into entries of the table of tokens (`vocabulary`).
//!
//! Every id that a tokenizer returns is below [`Tokenizer::n_vocab`].

mod bpe;
mod gguf;
mod json;
mod special;
mod split;
mod stream;
mod vocabulary;

use std::fmt;

pub use gguf::GgufVocabulary;
pub use stream::StreamDecoder;

use self::{
    bpe::Merges,
    special::{SpecialTokens, Wanted},
    split::Splitter,
    vocabulary::{Kind, Vocabulary},
};
use crate::{Error, Result};

/// Control tokens that end a model's turn wherever they occur, whether or not the model file says
/// so: those of ChatML, Llama 3, gpt-oss and GPT-2.
const STOP_NAMES: [&str; 8] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|eot|>",
];

/// Translates between text and token ids. It is immutable and may be shared between threads.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    special: SpecialTokens,
    merges: Merges,
    splitter: Splitter,
    /// Whether a word that is itself a token is that token, whatever the merges make of it.
    ignore_merges: bool,
    bos: Option<u32>,
    add_bos: bool,
    stop_ids: Vec<u32>,
}

/// What the two file formats have in common.
struct Parts<M> {
    vocabulary: Vocabulary,
    /// The spellings of the pairs that merge, in the order they apply.
    merges: M,
    splitter: Splitter,
    ignore_merges: bool,
    bos: Option<u32>,
    add_bos: bool,
    /// The ids that the file says end a text; those known by name are added to them.
    stop_ids: Vec<u32>,
}

impl Tokenizer {
    fn from_parts<'a, M>(parts: Parts<M>) -> Result<Self>
    where
        M: ExactSizeIterator<Item = Result<(&'a str, &'a str)>>,
    {
        let vocabulary = parts.vocabulary;
        let special = SpecialTokens::new(&vocabulary)?;
        let find_special = |bytes: &[u8]| special.find(&vocabulary, bytes);
        let merges = Merges::new(&vocabulary, find_special, parts.merges)?;
        let named = STOP_NAMES
            .into_iter()
            .filter_map(|name| special.find(&vocabulary, name.as_bytes()))
            .filter(|id| vocabulary.kind(*id) == Some(Kind::Control));
        let mut stop_ids = Vec::new();
        for id in parts.stop_ids.into_iter().chain(named) {
            if !stop_ids.contains(&id) {
                stop_ids.push(id);
            }
        }
        Ok(Self {
            special,
            merges,
            splitter: parts.splitter,
            ignore_merges: parts.ignore_merges,
            bos: parts.bos,
            add_bos: parts.add_bos,
            stop_ids,
            vocabulary,
        })
    }

    /// The tokens of `text`. Special tokens written in it, such as `<|im_start|>`, become their
    /// ids: `text` is trusted. No token is added; see [`Tokenizer::add_bos`].
    ///
    /// A byte that the vocabulary has no token for is left out.
    ///
    /// # Errors
    /// Of kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `text` has more bytes than
    /// 32 bits count; [`Unsupported`](crate::ErrorKind::Unsupported) if a regular expression of the
    /// tokenizer gives up on it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, Wanted::All)
    }

    /// As [`Tokenizer::encode`], but control tokens written in `text` are plain text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_ordinary(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, Wanted::UserDefined)
    }

    fn encode_with(&self, text: &str, wanted: Wanted) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut split_scratch = split::Scratch::default();
        let mut merge_scratch = bpe::Scratch::default();
        let mut rest = text;
        while !rest.is_empty() {
            let found = self.special.next_in(&self.vocabulary, rest, wanted);
            let (plain, after) = rest.split_at(found.map_or(rest.len(), |(start, _)| start));
            self.splitter.split(plain, &mut split_scratch, |word| {
                let whole = self.ignore_merges.then(|| self.vocabulary.find(word.as_bytes()));
                match whole.flatten() {
                    Some(id) => ids.push(id),
                    None => self.merges.encode(word.as_bytes(), &mut merge_scratch, &mut ids),
                }
            })?;
            rest = after;
            if let Some((_, id)) = found {
                ids.push(id);
                rest = &rest[self.token_bytes(id).map_or(0, <[u8]>::len)..];
            }
        }
        Ok(ids)
    }

    /// The text of `ids`. Special tokens are written out, malformed UTF-8 becomes U+FFFD, ids that
    /// stand for nothing are skipped.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> =
            ids.iter().filter_map(|id| self.token_bytes(*id)).flatten().copied().collect();
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes that `id` stands for, which may be part of a character only; of a special token,
    /// its name. `None` if the id is unused or beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let bytes = self.vocabulary.bytes(id)?;
        (self.vocabulary.kind(id) != Some(Kind::Unused)).then_some(bytes)
    }

    /// Whether `id` is a control token, which ordinary text never produces.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == Some(Kind::Control)
    }

    /// The id of the special token of this exact name.
    pub fn special_id(&self, name: &str) -> Option<u32> {
        let id = self.special.find(&self.vocabulary, name.as_bytes())?;
        self.is_special(id).then_some(id)
    }

    /// How many ids there are, unused ones included.
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token that begins a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the model expects [`Tokenizer::bos`] before a text. Nothing here adds it: a chat
    /// template writes it itself.
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// The tokens after which generation stops: those the model file names, then those known to
    /// end a turn in the common chat formats. None is repeated.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Adds stop tokens, such as the `eos_token_id` of a `generation_config.json`.
    ///
    /// # Errors
    /// Of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) if an id is beyond the vocabulary.
    pub fn with_stop_ids(mut self, ids: &[u32]) -> Result<Self> {
        for id in ids {
            self.check(*id)?;
            if !self.stop_ids.contains(id) {
                self.stop_ids.push(*id);
            }
        }
        Ok(self)
    }

    /// Takes a token out of those that stop generation.
    #[must_use]
    pub fn without_stop_id(mut self, id: u32) -> Self {
        self.stop_ids.retain(|stop_id| *stop_id != id);
        self
    }

    /// Sets the token that begins a text, and whether the model expects it.
    ///
    /// # Errors
    /// Of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) if the id is beyond the vocabulary.
    pub fn with_bos(mut self, bos: Option<u32>, add_bos: bool) -> Result<Self> {
        bos.map_or(Ok(()), |id| self.check(id))?;
        self.bos = bos;
        self.add_bos = add_bos;
        Ok(self)
    }

    fn check(&self, id: u32) -> Result<()> {
        if id as usize >= self.n_vocab() {
            return Err(Error::invalid("a special token is beyond the vocabulary")
                .with("found", id)
                .with("limit", self.n_vocab()));
        }
        Ok(())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("n_vocab", &self.n_vocab())
            .field("bos", &self.bos)
            .field("stop_ids", &self.stop_ids)
            .finish_non_exhaustive()
    }
}
