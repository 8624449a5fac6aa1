//! Normalisation, and the cuts between words that no merge crosses.
//!
//! The rules are regular expressions that each model family published with its vocabulary. The
//! `tokenizers` crate runs the well-known ones as hand-written state machines. Anything else goes
//! through a regex engine with a backtracking limit, natively: in WebAssembly there is none.

use std::borrow::Cow;

use serde_json::Value;
use tokenizers::{
    SplitDelimiterBehavior,
    normalizers::unicode::{NFC, NFD, NFKC, NFKD},
    pipeline::{
        PipelineNormalizer, PipelinePreTokenizer, PreTokenizer, PreTokenizerScratch, normalize_all,
    },
    pre_tokenizers::{
        digits::Digits,
        sequence::PipelineSequence,
        split::{Split, SplitPattern},
    },
};

use crate::{Error, Result};

/// GPT-2: a contraction, letters or digits or signs with a space before them, or white space.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3: any sign may lead a word, numbers are cut after three digits.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 2: as Llama 3, but each digit stands alone.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// GPT-4o and gpt-oss: words are also cut where a capital follows a small letter.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The deepest a `Sequence` may hold another: tokenizers in use have one level.
const MAX_DEPTH: usize = 4;

/// Cuts text into words.
pub(super) struct Splitter {
    normalizers: Vec<PipelineNormalizer>,
    pre_tokenizer: PipelinePreTokenizer,
}

/// Buffers for one text after another.
#[derive(Default)]
pub(super) struct Scratch(PreTokenizerScratch);

impl Splitter {
    /// The rules that GGUF names in `tokenizer.ggml.pre`.
    ///
    /// # Errors
    /// Of kind [`Unsupported`](crate::ErrorKind::Unsupported) if the name is not known.
    pub(super) fn named(name: &str) -> Result<Self> {
        let mut normalizers = Vec::new();
        let pre_tokenizer = match name {
            "gpt-2" => split(GPT_2)?,
            "smollm" => PipelinePreTokenizer::Sequence(PipelineSequence::new(vec![
                PipelinePreTokenizer::Digits(Digits::new(true)),
                split(GPT_2)?,
            ])),
            "llama-bpe" => split(LLAMA_3)?,
            "qwen2" => {
                normalizers.push(PipelineNormalizer::NFC(NFC));
                split(QWEN_2)?
            }
            "gpt-4o" => split(GPT_4O)?,
            _ => {
                return Err(Error::unsupported("this pre-tokenizer is not supported")
                    .with("key", "tokenizer.ggml.pre")
                    .with("found", name));
            }
        };
        Ok(Self { normalizers, pre_tokenizer })
    }

    /// The rules of the `normalizer` and `pre_tokenizer` of a `tokenizer.json`.
    ///
    /// # Errors
    /// Of kind [`Unsupported`](crate::ErrorKind::Unsupported) if they name a component that is not
    /// known, or if they are not those of a byte-level tokenizer.
    pub(super) fn from_json(normalizer: &Value, pre_tokenizer: &Value) -> Result<Self> {
        let mut normalizers = Vec::new();
        read_normalizer(normalizer, MAX_DEPTH, &mut normalizers)?;
        let mut steps = Vec::new();
        let byte_level = read_pre_tokenizer(pre_tokenizer, MAX_DEPTH, &mut steps)?;
        if !byte_level {
            return Err(Error::unsupported("only byte-level tokenizers are supported"));
        }
        let sequence = PipelineSequence::new(steps);
        #[cfg(target_arch = "wasm32")]
        check_well_known(&sequence)?;
        Ok(Self { normalizers, pre_tokenizer: PipelinePreTokenizer::Sequence(sequence) })
    }

    /// Calls `on_word` with each word of `text`, in order. The words together are the normalised
    /// text, less what a rule removes.
    ///
    /// # Errors
    /// Of kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the text has more bytes
    /// than 32 bits count, [`Unsupported`](crate::ErrorKind::Unsupported) if a rule of the
    /// tokenizer cannot be applied to it.
    pub(super) fn split(
        &self,
        text: &str,
        scratch: &mut Scratch,
        mut on_word: impl FnMut(&str),
    ) -> Result<()> {
        let text = normalize_all(&self.normalizers, text, 0).map_err(rule_failed)?;
        let text: &Cow<'_, str> = &text;
        if u32::try_from(text.len()).is_err() {
            return Err(Error::argument("the text is too long to be tokenized")
                .with("found", text.len())
                .with("limit", u32::MAX));
        }
        let mut spans = Vec::new();
        self.pre_tokenizer.pre_tokenize(text, &mut scratch.0, &mut spans).map_err(rule_failed)?;
        for word in spans.iter().filter_map(|span| text.get(span.range())) {
            on_word(word);
        }
        Ok(())
    }
}

/// A rule that makes each match of `pattern`, and each text between matches, a word.
fn split(pattern: &str) -> Result<PipelinePreTokenizer> {
    split_with(SplitPattern::Regex(pattern.to_owned()), SplitDelimiterBehavior::Isolated, false)
}

fn split_with(
    pattern: SplitPattern,
    behavior: SplitDelimiterBehavior,
    invert: bool,
) -> Result<PipelinePreTokenizer> {
    use SplitDelimiterBehavior::{Isolated, Removed};
    // A well-known rule covers all of a text, so that what lies between its matches, removed, leaves those.
    if let (Isolated, false) | (Removed, true) = (behavior, invert) {
        let native = Split::native(pattern.clone(), Isolated, false).map_err(rule_failed)?;
        if native.grammar().is_some() {
            return Ok(PipelinePreTokenizer::Split(native));
        }
    }
    let split = match cfg!(target_arch = "wasm32") {
        true => Split::native(pattern, behavior, invert),
        false => Split::new(pattern, behavior, invert),
    };
    split.map(PipelinePreTokenizer::Split).map_err(rule_failed)
}

/// Refuses patterns that only a regex engine could run. DeepSeek's three are well known together.
#[cfg(target_arch = "wasm32")]
fn check_well_known(sequence: &PipelineSequence) -> Result<()> {
    if sequence.is_deepseek() {
        return Ok(());
    }
    for step in sequence.pre_tokenizers() {
        if let PipelinePreTokenizer::Split(split) = step
            && let SplitPattern::Regex(pattern) = &split.pattern
            && (split.grammar().is_none()
                || split.invert
                || split.behavior != SplitDelimiterBehavior::Isolated)
        {
            return Err(Error::unsupported("a pattern of the tokenizer is of no known family")
                .with("found", pattern.as_str()));
        }
    }
    Ok(())
}

/// Appends the normaliser that `json` describes, if it is not null.
fn read_normalizer(json: &Value, depth: usize, out: &mut Vec<PipelineNormalizer>) -> Result<()> {
    match component(json, "normalizer")? {
        None => {}
        Some("NFC") => out.push(PipelineNormalizer::NFC(NFC)),
        Some("NFD") => out.push(PipelineNormalizer::NFD(NFD)),
        Some("NFKC") => out.push(PipelineNormalizer::NFKC(NFKC)),
        Some("NFKD") => out.push(PipelineNormalizer::NFKD(NFKD)),
        Some("Sequence") => {
            for member in members(json, "normalizers", depth)? {
                read_normalizer(member, depth - 1, out)?;
            }
        }
        Some(other) => return Err(unknown("normalizer", other)),
    }
    Ok(())
}

/// Appends the steps that `json` describes, if it is not null. True if one of them is byte-level.
fn read_pre_tokenizer(
    json: &Value,
    depth: usize,
    out: &mut Vec<PipelinePreTokenizer>,
) -> Result<bool> {
    let flag = |name: &str, default| json.get(name).and_then(Value::as_bool).unwrap_or(default);
    let mut byte_level = false;
    match component(json, "pre_tokenizer")? {
        None => {}
        Some("Sequence") => {
            for member in members(json, "pretokenizers", depth)? {
                byte_level |= read_pre_tokenizer(member, depth - 1, out)?;
            }
        }
        Some("ByteLevel") => {
            if flag("add_prefix_space", true) {
                return Err(unknown("pre_tokenizer", "ByteLevel with add_prefix_space"));
            }
            if flag("use_regex", true) {
                out.push(split(GPT_2)?);
            }
            byte_level = true;
        }
        Some("Digits") => {
            let digits = Digits::new(flag("individual_digits", false));
            out.push(PipelinePreTokenizer::Digits(digits));
        }
        Some("Split") => out.push(read_split(json, flag("invert", false))?),
        Some(other) => return Err(unknown("pre_tokenizer", other)),
    }
    Ok(byte_level)
}

fn read_split(json: &Value, invert: bool) -> Result<PipelinePreTokenizer> {
    let text = |name: &str| json.get("pattern").and_then(|pattern| pattern.get(name)?.as_str());
    let pattern = match (text("Regex"), text("String")) {
        (Some(regex), None) => SplitPattern::Regex(regex.to_owned()),
        (None, Some(string)) => SplitPattern::String(string.to_owned()),
        _ => return Err(Error::invalid("a Split pre-tokenizer has no pattern")),
    };
    let behavior = match json.get("behavior").and_then(Value::as_str) {
        Some("Isolated") => SplitDelimiterBehavior::Isolated,
        Some("Removed") => SplitDelimiterBehavior::Removed,
        Some("Contiguous") => SplitDelimiterBehavior::Contiguous,
        Some("MergedWithPrevious") => SplitDelimiterBehavior::MergedWithPrevious,
        Some("MergedWithNext") => SplitDelimiterBehavior::MergedWithNext,
        other => return Err(unknown("behavior", other.unwrap_or_default())),
    };
    split_with(pattern, behavior, invert)
}

/// The `type` of a component; `None` for null.
fn component<'a>(json: &'a Value, slot: &'static str) -> Result<Option<&'a str>> {
    if json.is_null() {
        return Ok(None);
    }
    let name = json.get("type").and_then(Value::as_str);
    name.map(Some)
        .ok_or_else(|| Error::invalid("a component of the tokenizer has no type").with("key", slot))
}

/// The members of a `Sequence`.
fn members<'a>(json: &'a Value, key: &'static str, depth: usize) -> Result<&'a [Value]> {
    if depth == 0 {
        return Err(Error::invalid("sequences are nested too deep")
            .with("key", key)
            .with("limit", MAX_DEPTH));
    }
    let members = json.get(key).and_then(Value::as_array);
    members
        .map(Vec::as_slice)
        .ok_or_else(|| Error::invalid("a Sequence has no members").with("key", key))
}

fn unknown(slot: &'static str, name: &str) -> Error {
    Error::unsupported("this part of the tokenizer is not supported")
        .with("key", slot)
        .with("found", name)
}

fn rule_failed(error: tokenizers::Error) -> Error {
    Error::unsupported(format!("a rule of the tokenizer cannot be applied: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        words: BTreeMap<String, Vec<String>>,
    }

    #[test]
    fn every_family_cuts_words_as_its_official_tokenizer_does() {
        let golden = include_str!("../../tests/golden/tokenizer/splits.json");
        let cases: Vec<Case> = serde_json::from_str(golden).unwrap();
        let runs = cases.iter().flat_map(|case| case.words.iter().map(|run| (&case.text, run)));
        for (text, (name, words)) in runs {
            let mut found = Vec::new();
            let splitter = Splitter::named(name).unwrap();
            splitter
                .split(text, &mut Scratch::default(), |word| found.push(word.to_owned()))
                .unwrap();
            assert_eq!(&found, words, "{name} cuts {text:?}");
        }
    }
}
