//! Which tokens may come next, so that a text follows a grammar.
//!
//! Inputs are a [`Constraint`] and the tokens as they are drawn; the output is a [`Mask`] a step. What
//! follows a grammar is `engine`. Control tokens are in no text: what ends one is for the caller to say.

#[cfg(any(not(target_arch = "wasm32"), feature = "grammars"))]
pub mod engine;
mod words;

use std::{cell::RefCell, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::words::Words;
#[cfg(all(target_arch = "wasm32", not(feature = "grammars")))]
use crate::modules::grammars as engine;
use crate::{error::Result, tokenizer::Tokenizer};

/// Most grammars that are kept for when they are asked for again.
const MAX_KEPT: usize = 32;

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Constraint {
    /// JSON that this schema describes.
    JsonSchema(String),
    /// Any JSON object.
    JsonObject,
    /// Text that this regular expression, in the syntax of the crate `regex`, matches as a whole.
    Regex(String),
    /// Text of this grammar, in `llguidance`'s dialect of Lark.
    Lark(String),
}

/// Makes grammars for one vocabulary. Making it takes a walk over all tokens, a grammar much less, and
/// one that was made before nothing.
pub struct Grammars {
    factory: engine::Factory,
    n_vocab: usize,
    /// Stands for the end of the text in masks, beyond all tokens.
    end: u32,
    /// Those that were made last, at the start of a text, the last one used at the end.
    kept: RefCell<Vec<(Vec<Part>, Grammar)>>,
}

/// A constraint, under the name that others have for it.
pub type Part = (String, Constraint);

/// The tokens of a text, as the tokenizer has it; none where it has none.
pub type Encode = Box<dyn Fn(&str) -> Vec<u32> + Send + Sync>;

impl Grammars {
    /// For the tokens of `tokenizer`, in masks of `n_vocab` bits.
    ///
    /// # Errors
    /// `unsupported` for a vocabulary of more bytes than the tree holds.
    pub fn new(tokenizer: Arc<Tokenizer>, n_vocab: usize) -> Result<Self> {
        let words = Words::of(&tokenizer)?;
        let end = words.end();
        let encode = move |text: &str| tokenizer.encode_ordinary(text).unwrap_or_default();
        let factory = engine::Factory::new(&words, Box::new(encode))?;
        Ok(Self { factory, n_vocab, end, kept: RefCell::default() })
    }

    /// Bits of a mask.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// The grammar of a constraint, at the start of a text.
    ///
    /// # Errors
    /// `unsupported` naming the keyword of a schema that is not served, `invalid_argument` for what is
    /// malformed or can never be met.
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar> {
        self.compose(constraint, &[])
    }

    /// The grammar of a constraint in Lark that names others as `@NAME`: those in `parts`.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compose(&self, constraint: &Constraint, parts: &[Part]) -> Result<Grammar> {
        const START: &str = "start";
        let mut all = vec![(START.to_owned(), constraint.clone())];
        all.extend_from_slice(parts);
        let mut kept = self.kept.borrow_mut();
        let grammar = match kept.iter().position(|(parts, _)| *parts == all) {
            Some(index) => kept.remove(index).1,
            None => self.make(&all)?,
        };
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push((all, grammar.clone()));
        Ok(grammar)
    }

    /// The grammar of the first of `parts`.
    fn make(&self, parts: &[Part]) -> Result<Grammar> {
        let matcher = self.factory.make(parts)?;
        Ok(Grammar { matcher, end: self.end, n_vocab: self.n_vocab })
    }
}

/// A grammar, somewhere in a text.
#[derive(Clone)]
pub struct Grammar {
    matcher: engine::Matcher,
    end: u32,
    n_vocab: usize,
}

impl Grammar {
    /// The tokens that may come next, and whether the text may end here instead.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar has become too complex.
    pub fn allowed(&mut self) -> Result<(Mask, bool)> {
        let mut mask = Mask { words: self.matcher.allowed()? };
        let may_end = mask.has(self.end);
        mask.remove(self.end);
        mask.words.resize(self.n_vocab.div_ceil(32), 0);
        Ok((mask, may_end))
    }

    /// Takes the token that came.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar does not allow it or has become too complex.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.matcher.push(token)
    }

    /// Whether the text is complete, and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_complete()
    }

    /// How many of `tokens` the grammar allows after each other; it stays where it is.
    pub fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        self.matcher.n_allowed(tokens)
    }
}

/// A bit for each token: whether it may be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The lowest bit first.
    words: Vec<u32>,
}

impl Mask {
    /// No token of `n_vocab`.
    pub fn none(n_vocab: usize) -> Self {
        Self { words: vec![0; n_vocab.div_ceil(32)] }
    }

    /// No token of as many.
    pub fn emptied(&self) -> Self {
        Self { words: vec![0; self.words.len()] }
    }

    /// Adds a token; one that there is no bit for cannot be drawn.
    pub fn allow(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }

    /// Takes a token out.
    pub fn remove(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Whether a token is in it.
    pub fn has(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Whether no token is in it.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The bits, the lowest first.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}
