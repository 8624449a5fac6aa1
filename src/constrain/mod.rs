//! Which tokens may come next, so that a text follows a grammar.
//!
//! Inputs are a [`Constraint`] and the tokens as they are drawn; the output is a [`Mask`] a step. The
//! grammars are those of the crate `llguidance`, which walks the vocabulary as a tree of bytes
//! (`vocabulary`) along with the states of a parser. Control tokens are in no text: what ends one is for
//! the caller to say.

mod schema;
mod vocabulary;

use std::{cell::RefCell, sync::Arc};

use llguidance::{
    Matcher, ParserFactory,
    api::{GrammarWithLexer, ParserLimits, TopLevelGrammar},
    toktrie::InferenceCapabilities,
};

use self::vocabulary::Vocabulary;
use crate::{
    error::{Error, Result},
    tokenizer::Tokenizer,
};

/// The longest message of an error taken from `llguidance`, in bytes.
const MAX_MESSAGE: usize = 500;

/// The longest text of a constraint, in bytes.
const MAX_SOURCE: usize = 1 << 20;

/// Most grammars that are kept for when they are asked for again.
const MAX_KEPT: usize = 32;

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    factory: ParserFactory,
    n_vocab: usize,
    /// Stands for the end of the text in masks, beyond all tokens.
    end: u32,
    /// Those that were made last, at the start of a text, the last one used at the end.
    kept: RefCell<Vec<(Vec<Part>, Grammar)>>,
}

/// A constraint, under the name that others have for it.
type Part = (String, Constraint);

impl Grammars {
    /// For the tokens of `tokenizer`, in masks of `n_vocab` bits.
    ///
    /// # Errors
    /// `unsupported` for a vocabulary of more bytes than the tree holds.
    pub fn new(tokenizer: Arc<Tokenizer>, n_vocab: usize) -> Result<Self> {
        let (environment, end) = Vocabulary::environment(tokenizer)?;
        let capabilities = InferenceCapabilities::default();
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| refused("the vocabulary does not take grammars", &error))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..Default::default() };
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
        let mut grammars = Vec::new();
        for (name, constraint) in parts {
            grammars.push(GrammarWithLexer { name: Some(name.clone()), ..constraint.grammar()? });
        }
        let grammar = TopLevelGrammar { grammars, max_tokens: None };
        let constraint = &parts[0].1;
        let parser = self.factory.create_parser(grammar).map_err(|error| match constraint {
            Constraint::JsonSchema(_) | Constraint::JsonObject => schema::refused(&error),
            Constraint::Regex(_) => refused("the regular expression cannot be used", &error),
            Constraint::Lark(_) => refused("the grammar cannot be used", &error),
        })?;
        Ok(Grammar { matcher: Matcher::new(Ok(parser)), end: self.end, n_vocab: self.n_vocab })
    }
}

impl Constraint {
    /// As `llguidance` has it.
    ///
    /// # Errors
    /// `invalid_argument` for one that is too long, or a schema that is none.
    fn grammar(&self) -> Result<GrammarWithLexer> {
        let source = match self {
            Self::JsonObject => "",
            Self::JsonSchema(source) | Self::Regex(source) | Self::Lark(source) => source,
        };
        if source.len() > MAX_SOURCE {
            return Err(Error::argument("the constraint is too long")
                .with("found", source.len())
                .with("limit", MAX_SOURCE));
        }
        Ok(match self {
            Self::JsonObject => GrammarWithLexer::from_json_schema(schema::any_object()),
            Self::JsonSchema(source) => GrammarWithLexer::from_json_schema(schema::read(source)?),
            Self::Regex(source) => GrammarWithLexer::from_regex(source),
            Self::Lark(source) => GrammarWithLexer::from_lark(source.clone()),
        })
    }
}

/// A grammar, somewhere in a text.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
    end: u32,
    n_vocab: usize,
}

impl Grammar {
    /// The tokens that may come next, and whether the text may end here instead.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar has become too complex.
    pub fn allowed(&mut self) -> Result<(Mask, bool)> {
        let found = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| refused("the grammar is too complex", &error))?;
        let may_end = found.is_allowed(self.end);
        let mut mask = Mask::none(self.n_vocab);
        for (word, found) in mask.words.iter_mut().zip(found.as_slice()) {
            *word = *found;
        }
        mask.remove(self.end);
        Ok((mask, may_end))
    }

    /// Takes the token that came.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar does not allow it or has become too complex.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.matcher
            .consume_token(token)
            .map_err(|error| refused("a token is not of the grammar", &error).with("token", token))
    }

    /// Whether the text is complete, and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// How many of `tokens` the grammar allows after each other; it stays where it is.
    pub fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        self.matcher.validate_tokens(tokens).unwrap_or_default()
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

/// An error of `llguidance`, in its words.
fn refused(what: &'static str, error: &anyhow::Error) -> Error {
    Error::argument(what).with("reason", reason(error))
}

/// A message on one line, without the state of the parser that some have after a tag.
fn reason(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    let message = message.split("<non-verbose/>").next().unwrap_or_default();
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ");
    line[..line.floor_char_boundary(MAX_MESSAGE)].to_owned()
}
