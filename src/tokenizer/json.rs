//! Tokenizers from Hugging Face's `tokenizer.json`.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    Parts, Tokenizer,
    gguf::read_merge,
    split::Splitter,
    vocabulary::{Kind, Vocabulary},
};
use crate::{Error, Result};

/// Ids may leave gaps, but no more than this for each entry of the file and once in all.
const MAX_GAP_PER_ENTRY: usize = 4;
const MAX_GAP: usize = 1 << 16;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default, borrow)]
    added_tokens: Vec<AddedToken<'a>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct AddedToken<'a> {
    id: u32,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    vocab: Vocab<'a>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
    ignore_merges: Option<bool>,
    byte_fallback: Option<bool>,
    dropout: Option<f64>,
    #[serde(borrow)]
    unk_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_of_word_suffix: Option<Cow<'a, str>>,
}

/// A string that is not copied unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Spellings and their ids, in the order of the file.
struct Vocab<'a>(Vec<(Cow<'a, str>, u32)>);

/// A merge, in either way it is written: `"a b"` or `["a", "b"]`.
enum Merge<'a> {
    Joined(Cow<'a, str>),
    Pair(Cow<'a, str>, Cow<'a, str>),
}

/// As much of a file as says which kind of model it holds.
#[derive(Deserialize)]
struct Outline {
    model: OutlineModel,
}

#[derive(Deserialize)]
struct OutlineModel {
    #[serde(rename = "type")]
    kind: String,
}

impl Tokenizer {
    /// Builds the tokenizer that a `tokenizer.json` describes: byte-level BPE, split by regular
    /// expressions.
    ///
    /// The file does not say which tokens end a text: [`Tokenizer::stop_ids`] are those known by
    /// name, and [`Tokenizer::with_stop_ids`] adds others.
    ///
    /// # Errors
    /// Of kind [`InvalidModel`](crate::ErrorKind::InvalidModel) if the file is malformed or its
    /// vocabulary contradicts itself; [`Unsupported`](crate::ErrorKind::Unsupported) if it asks for
    /// a component that is not known.
    pub fn from_json(tokenizer_json: &[u8]) -> Result<Self> {
        let file: File<'_> = serde_json::from_slice(tokenizer_json)
            .map_err(|error| explain(tokenizer_json, &error))?;
        let model = &file.model;
        let tokens = list_tokens(&model.vocab.0, &file.added_tokens)?;
        let vocabulary = Vocabulary::new(tokens.into_iter())?;
        let bos = first_of_template(&file.post_processor);
        if let Some(id) = bos
            && id as usize >= vocabulary.len()
        {
            return Err(Error::invalid("the post-processor adds a token beyond the vocabulary")
                .with("found", id)
                .with("limit", vocabulary.len()));
        }
        let tokenizer = Self::from_parts(Parts {
            vocabulary,
            merges: model.merges.iter().enumerate().map(|(rank, merge)| match merge {
                Merge::Joined(text) => read_merge(rank, text),
                Merge::Pair(left, right) => Ok((left.as_ref(), right.as_ref())),
            }),
            splitter: Splitter::from_json(&file.normalizer, &file.pre_tokenizer)?,
            ignore_merges: model.ignore_merges == Some(true),
            bos,
            add_bos: bos.is_some(),
            stop_ids: Vec::new(),
        })?;
        reject_unsupported(&file, tokenizer.merges.covers_all_bytes())?;
        Ok(tokenizer)
    }
}

/// The tokens in the order of their ids. Ids that the file leaves out are unused.
fn list_tokens<'a>(
    vocab: &'a [(Cow<'a, str>, u32)],
    added_tokens: &'a [AddedToken<'a>],
) -> Result<Vec<(&'a str, Kind)>> {
    let n_entries = vocab.len() + added_tokens.len();
    let ids = vocab.iter().map(|(_, id)| *id).chain(added_tokens.iter().map(|token| token.id));
    let n_ids = ids.max().map_or(0, |id| id as usize + 1);
    let limit = n_entries * (1 + MAX_GAP_PER_ENTRY) + MAX_GAP;
    if n_ids > limit {
        return Err(Error::invalid("a token has an id far beyond the number of tokens")
            .with("found", n_ids - 1)
            .with("limit", limit));
    }
    let mut tokens = vec![("", Kind::Unused); n_ids];
    let repeated =
        |id: u32| Error::invalid("two tokens of the vocabulary have the same id").with("id", id);
    for (text, id) in vocab {
        let token = &mut tokens[*id as usize];
        if token.1 != Kind::Unused {
            return Err(repeated(*id).with("first", token.0).with("second", text.as_ref()));
        }
        *token = (text, Kind::Normal);
    }
    for added in added_tokens {
        let token = &mut tokens[added.id as usize];
        let expected = matches!(token.1, Kind::Unused | Kind::Normal);
        if !expected || (token.1 == Kind::Normal && token.0 != added.content) {
            return Err(repeated(added.id)
                .with("first", token.0)
                .with("second", added.content.as_ref()));
        }
        let kind = if added.special { Kind::Control } else { Kind::UserDefined };
        *token = (&added.content, kind);
    }
    Ok(tokens)
}

/// Refuses what would change the tokens of a text if it were ignored.
fn reject_unsupported(file: &File<'_>, covers_all_bytes: bool) -> Result<()> {
    let model = &file.model;
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    let reasons = [
        (model.byte_fallback == Some(true), "byte_fallback"),
        (model.dropout.is_some_and(|dropout| dropout != 0.0), "dropout"),
        (model.unk_token.is_some() && !covers_all_bytes, "unk_token"),
        (affixes.into_iter().flatten().any(|affix| !affix.is_empty()), "affixes of subwords"),
    ];
    let reason = reasons.into_iter().find(|(applies, _)| *applies).map(|(_, name)| name);
    if let Some(reason) = reason {
        return Err(Error::unsupported("this option of the BPE model is not supported")
            .with("found", reason));
    }
    let strips = |token: &&AddedToken<'_>| token.single_word || token.lstrip || token.rstrip;
    match file.added_tokens.iter().find(strips) {
        Some(token) => Err(Error::unsupported(
            "added tokens that depend on their neighbours are not supported",
        )
        .with("token", token.content.as_ref())),
        None => Ok(()),
    }
}

/// The token that a template post-processor puts before a single text, if there is one.
fn first_of_template(post_processor: &Value) -> Option<u32> {
    let members = post_processor.get("processors").and_then(Value::as_array);
    let mut templates = members.map_or(std::slice::from_ref(post_processor), Vec::as_slice).iter();
    templates.find_map(|template| {
        let first = template.get("single")?.get(0)?.get("SpecialToken")?.get("id")?.as_str()?;
        let ids = template.get("special_tokens")?.get(first)?.get("ids")?;
        u32::try_from(ids.get(0)?.as_u64()?).ok()
    })
}

/// The error for a file that could not be read: another kind of model, or malformed.
fn explain(tokenizer_json: &[u8], error: &serde_json::Error) -> Error {
    match serde_json::from_slice::<Outline>(tokenizer_json) {
        Ok(outline) if outline.model.kind != "BPE" => {
            Error::unsupported("this kind of tokenizer is not supported")
                .with("key", "model.type")
                .with("found", outline.model.kind)
        }
        _ => Error::invalid(format!("the tokenizer cannot be read: {error}")),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(text), id)) = map.next_entry()? {
                    entries.push((text, id));
                }
                Ok(Vocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrPair;
        impl<'de> Visitor<'de> for TextOrPair {
            type Value = Merge<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("two tokens, in an array or with a space between")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Merge::Joined(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Merge::Joined(text.to_owned().into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut next = || -> Result<_, A::Error> {
                    let text: Option<Text<'de>> = seq.next_element()?;
                    text.map(|Text(text)| text)
                        .ok_or_else(|| serde::de::Error::invalid_length(1, &TextOrPair))
                };
                Ok(Merge::Pair(next()?, next()?))
            }
        }
        deserializer.deserialize_any(TextOrPair)
    }
}
