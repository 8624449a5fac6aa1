//! The engine behind grammars: the crate `llguidance`, which walks the vocabulary as a tree of bytes
//! (`vocabulary`) along with the states of a parser.

mod schema;
mod vocabulary;

use llguidance::{
    Matcher as Parser, ParserFactory,
    api::{GrammarWithLexer, ParserLimits, TopLevelGrammar},
    toktrie::InferenceCapabilities,
};

use self::vocabulary::Vocabulary;
use super::{Constraint, Encode, Part, Words};
use crate::error::{Error, Result};

/// The longest message of an error taken from `llguidance`, in bytes.
const MAX_MESSAGE: usize = 500;

/// The longest text of a constraint, in bytes.
const MAX_SOURCE: usize = 1 << 20;

/// Makes grammars for one vocabulary.
pub struct Factory(ParserFactory);

impl Factory {
    /// For the tokens `words`, into which `encode` cuts a text. It takes a walk over all of them.
    ///
    /// # Errors
    /// `invalid_argument` for a vocabulary that takes no grammars.
    pub fn new(words: &Words, encode: Encode) -> Result<Self> {
        let environment = Vocabulary::environment(words, encode);
        let capabilities = InferenceCapabilities::default();
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| refused("the vocabulary does not take grammars", &error))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..Default::default() };
        Ok(Self(factory))
    }

    /// The grammar of the first of `parts`, at the start of a text.
    ///
    /// # Errors
    /// Those of [`Grammars::compile`](super::Grammars::compile).
    pub fn make(&self, parts: &[Part]) -> Result<Matcher> {
        let mut grammars = Vec::new();
        for (name, constraint) in parts {
            grammars.push(GrammarWithLexer { name: Some(name.clone()), ..constraint.grammar()? });
        }
        let grammar = TopLevelGrammar { grammars, max_tokens: None };
        let constraint = &parts[0].1;
        let parser = self.0.create_parser(grammar).map_err(|error| match constraint {
            Constraint::JsonSchema(_) | Constraint::JsonObject => schema::refused(&error),
            Constraint::Regex(_) => refused("the regular expression cannot be used", &error),
            Constraint::Lark(_) => refused("the grammar cannot be used", &error),
        })?;
        Ok(Matcher(Parser::new(Ok(parser))))
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

/// A grammar, somewhere in a text: what [`Grammar`](super::Grammar) says, in bits for all tokens and the end.
#[derive(Clone)]
pub struct Matcher(Parser);

impl Matcher {
    /// Bits of what may come next, the lowest first.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar has become too complex.
    pub fn allowed(&mut self) -> Result<Vec<u32>> {
        let found = self.0.compute_mask_or_eos();
        let found = found.map_err(|error| refused("the grammar is too complex", &error))?;
        Ok(found.as_slice().to_vec())
    }

    /// Takes the token that came.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar does not allow it or has become too complex.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.0
            .consume_token(token)
            .map_err(|error| refused("a token is not of the grammar", &error).with("token", token))
    }

    /// Whether the text is complete, and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }

    /// How many of `tokens` the grammar allows after each other; it stays where it is.
    pub fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        self.0.validate_tokens(tokens).unwrap_or_default()
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
