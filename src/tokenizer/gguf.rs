//! Tokenizers from the metadata of GGUF files.

use super::{
    Parts, Tokenizer,
    split::Splitter,
    vocabulary::{Kind, Vocabulary},
};
use crate::{Error, Result, checkpoint::Metadata};

/// What a GGUF file says about its tokenizer, under keys that begin with `tokenizer.ggml.`.
#[derive(Clone, Debug, Default)]
pub struct GgufVocabulary<'a> {
    /// `model`: the kind of tokenizer. Only `gpt2`, byte-level BPE, is supported.
    pub model: &'a str,
    /// `pre`: the name of the rules that cut text into words.
    pub pre: Option<&'a str>,
    /// `tokens`: the spelling of each token, by id.
    pub tokens: Vec<&'a str>,
    /// `token_type`: what each token is for, by id. Empty if all tokens are normal.
    pub token_types: &'a [i32],
    /// `merges`: pairs of spellings with a space between, in the order they apply.
    pub merges: Vec<&'a str>,
    /// `bos_token_id`: the token that begins a text.
    pub bos: Option<u32>,
    /// `eos_token_id`, `eot_token_id` and `eom_token_id`: the tokens that end a text, a turn, a
    /// message.
    pub ends: [Option<u32>; 3],
    /// `add_bos_token`: whether a text is to begin with `bos`. If absent, the default of the rules.
    pub add_bos: Option<bool>,
}

/// The keys of [`GgufVocabulary::ends`].
const ENDS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

impl Tokenizer {
    /// Builds the tokenizer that the metadata of a GGUF file describes.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf_vocabulary`], or if a key is missing or has another type.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let token_types = metadata.optional_i32_array("tokenizer.ggml.token_type")?;
        let mut ends = [None; 3];
        for (end, key) in ends.iter_mut().zip(ENDS) {
            *end = metadata.optional_u32(key)?;
        }
        Self::from_gguf_vocabulary(&GgufVocabulary {
            model: metadata.str("tokenizer.ggml.model")?,
            pre: metadata.optional_str("tokenizer.ggml.pre")?,
            tokens: metadata.str_array("tokenizer.ggml.tokens")?.iter().collect(),
            token_types: token_types.as_deref().unwrap_or_default(),
            merges: metadata.str_array("tokenizer.ggml.merges")?.iter().collect(),
            bos: metadata.optional_u32("tokenizer.ggml.bos_token_id")?,
            ends,
            add_bos: metadata.optional_bool("tokenizer.ggml.add_bos_token")?,
        })
    }

    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// Of kind [`Unsupported`](crate::ErrorKind::Unsupported) for another `model` than `gpt2` and
    /// for an unknown `pre`; of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) if the
    /// vocabulary is empty, repeats a token, or disagrees with its types, merges or special ids.
    pub fn from_gguf_vocabulary(gguf: &GgufVocabulary<'_>) -> Result<Self> {
        if gguf.model != "gpt2" {
            return Err(Error::unsupported("this kind of tokenizer is not supported")
                .with("key", "tokenizer.ggml.model")
                .with("found", gguf.model));
        }
        let pre = gguf.pre.ok_or_else(|| {
            Error::unsupported("the file does not say how text is cut into words")
                .with("key", "tokenizer.ggml.pre")
        })?;
        let splitter = Splitter::named(pre)?;
        if !gguf.token_types.is_empty() && gguf.token_types.len() != gguf.tokens.len() {
            return Err(Error::invalid("there are not as many token types as tokens")
                .with("key", "tokenizer.ggml.token_type")
                .with("expected", gguf.tokens.len())
                .with("found", gguf.token_types.len()));
        }
        let mut kinds = vec![Kind::Normal; gguf.tokens.len()];
        for (id, (kind, number)) in kinds.iter_mut().zip(gguf.token_types).enumerate() {
            *kind = read_kind(*number).ok_or_else(|| {
                Error::invalid("a token has an unknown type")
                    .with("token", id)
                    .with("found", number.to_string())
            })?;
        }
        let vocabulary = Vocabulary::new(gguf.tokens.iter().copied().zip(kinds))?;
        for (key, id) in ENDS.into_iter().zip(gguf.ends) {
            check_id(&vocabulary, key, id)?;
        }
        check_id(&vocabulary, "tokenizer.ggml.bos_token_id", gguf.bos)?;
        let llama_3 = pre == "llama-bpe";
        Self::from_parts(Parts {
            vocabulary,
            merges: gguf.merges.iter().enumerate().map(|(rank, merge)| read_merge(rank, merge)),
            splitter,
            // These two families emit a word that is a token as that token, whatever the merges.
            ignore_merges: llama_3 || pre == "gpt-4o",
            bos: gguf.bos,
            add_bos: gguf.add_bos.unwrap_or(llama_3),
            stop_ids: gguf.ends.into_iter().flatten().collect(),
        })
    }
}

/// The types as GGUF numbers them. Unknown tokens (2) and bytes (6) belong to other kinds of
/// tokenizer; here they are markers that text never produces.
fn read_kind(number: i32) -> Option<Kind> {
    Some(match number {
        1 => Kind::Normal,
        2 | 3 | 6 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        _ => return None,
    })
}

/// The pair that a merge names. The alphabet of the spellings has no space.
pub(super) fn read_merge(rank: usize, merge: &str) -> Result<(&str, &str)> {
    let pair = merge.split_once(' ');
    pair.filter(|(left, right)| !left.is_empty() && !right.is_empty()).ok_or_else(|| {
        Error::invalid("a merge is not two tokens with a space between")
            .with("merge", rank)
            .with("found", merge)
    })
}

fn check_id(vocabulary: &Vocabulary, key: &'static str, id: Option<u32>) -> Result<()> {
    match id {
        Some(id) if id as usize >= vocabulary.len() => {
            Err(Error::invalid("a special token is beyond the vocabulary")
                .with("key", key)
                .with("found", id)
                .with("limit", vocabulary.len()))
        }
        _ => Ok(()),
    }
}
