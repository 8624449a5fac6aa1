//! The published SHA-256 of a model's files: from the hub, or from a `SHA256SUMS` beside them.

use std::collections::HashMap;

use js_sys::Reflect;
use serde::Deserialize;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, RequestInit, Response, WorkerGlobalScope};

/// The longest list that is read, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// Where sums are published.
#[derive(Clone, Debug, Deserialize)]
pub struct Sums {
    kind: SumsKind,
    url: String,
    /// What comes before a file's name in the list.
    prefix: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SumsKind {
    /// The hub's list of a repository's files, with the SHA-256 of large ones.
    Hub,
    /// Lines as `sha256sum` writes them.
    Sha256Sums,
}

#[derive(Deserialize)]
struct HubFile {
    path: String,
    lfs: Option<HubLfs>,
}

#[derive(Deserialize)]
struct HubLfs {
    oid: String,
}

impl Sums {
    /// The sums by file name; none where none can be had, since a model without them is one all the
    /// same.
    pub async fn fetch(&self, signal: &AbortSignal) -> HashMap<String, String> {
        let text = self.text(signal).await.unwrap_or_default();
        let sums = match self.kind {
            SumsKind::Hub => from_hub(&text),
            SumsKind::Sha256Sums => from_lines(&text),
        };
        sums.into_iter()
            .filter_map(|(path, sum)| Some((path.strip_prefix(&self.prefix)?.to_owned(), sum)))
            .filter(|(_, sum)| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()))
            .collect()
    }

    async fn text(&self, signal: &AbortSignal) -> Option<String> {
        let init = RequestInit::new();
        init.set_signal(Some(signal));
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let response =
            JsFuture::from(scope.fetch_with_str_and_init(&self.url, &init)).await.ok()?;
        let response: Response = response.dyn_into().ok()?;
        let len = response.headers().get("content-length").ok().flatten();
        let is_long =
            len.and_then(|len| len.parse().ok()).is_some_and(|len: usize| len > MAX_BYTES);
        if !response.ok() || is_long {
            let body = Reflect::get(&response, &"body".into()).ok()?;
            let body: web_sys::ReadableStream = body.dyn_into().ok()?;
            let _ = JsFuture::from(body.cancel()).await;
            return None;
        }
        JsFuture::from(response.text().ok()?).await.ok()?.as_string()
    }
}

fn from_hub(text: &str) -> Vec<(String, String)> {
    let files: Vec<HubFile> = serde_json::from_str(text).unwrap_or_default();
    files.into_iter().filter_map(|file| Some((file.path, file.lfs?.oid))).collect()
}

/// Lines of a sum, a space, a space or an asterisk, and a name.
fn from_lines(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (sum, name) = line.split_once(' ')?;
        let name = name.strip_prefix([' ', '*']).unwrap_or(name);
        Some((name.trim_start_matches("./").to_owned(), sum.to_owned()))
    };
    text.lines().filter_map(line).collect()
}
