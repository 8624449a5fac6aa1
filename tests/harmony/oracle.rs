//! OpenAI's library, with the vocabulary of the file that the tests read.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, sync::LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use openai_harmony::{
    HarmonyEncoding, HarmonyEncodingName, chat::Conversation, load_harmony_encoding,
};
use pesi::tokenizer::Tokenizer;
use serde_json::Value;

use crate::TOKENIZER;

/// How many tokens gpt-oss's vocabulary has that are not special.
const N_ORDINARY: u32 = 199_998;

pub static ORACLE: LazyLock<HarmonyEncoding> = LazyLock::new(|| {
    write_vocabulary(&TOKENIZER);
    load_harmony_encoding(HarmonyEncodingName::HarmonyGptOss).unwrap()
});

/// Writes the vocabulary where the library looks for it; the library checks its digest. Several
/// processes may do so at the same time.
fn write_vocabulary(tokenizer: &Tokenizer) {
    // Set by .cargo/config.toml.
    let folder = PathBuf::from(std::env::var("TIKTOKEN_ENCODINGS_BASE").unwrap());
    let mut lines = String::new();
    for id in 0..N_ORDINARY {
        let bytes = tokenizer.token_bytes(id).unwrap();
        writeln!(lines, "{} {id}", BASE64_STANDARD.encode(bytes)).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    let unfinished = folder.join(std::process::id().to_string());
    fs::write(&unfinished, lines).unwrap();
    fs::rename(unfinished, folder.join("o200k_base.tiktoken")).unwrap();
}

/// A conversation as the library reads it.
pub fn conversation(json: &Value) -> Conversation {
    serde_json::from_value(json.clone()).unwrap()
}

/// The special tokens in `ids`, and how often they occur.
pub fn special_tokens(ids: &[u32]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in ids.iter().filter(|id| TOKENIZER.is_special(**id)) {
        *counts.entry(TOKENIZER.decode(&[*id])).or_default() += 1;
    }
    counts
}
