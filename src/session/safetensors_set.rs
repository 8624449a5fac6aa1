//! Models as the Hugging Face hub has them: `config.json` beside safetensors.

use std::rc::Rc;

use serde_json::Value;

use super::heads::{Head, Heads, Progress, missing, open_required, read_header, read_small};
use crate::{
    checkpoint::{Parsed, Safetensors, ShardIndex, TensorTable, index::INDEX_NAME},
    config::ModelConfig,
    error::{Error, Result},
    source::{Folder, Source},
    tokenizer::Tokenizer,
};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const GENERATION: &str = "generation_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// The name of weights in a single file.
const SINGLE: &str = "model.safetensors";

/// Reads the small files of a model, and the headers of those with tensors.
///
/// # Errors
/// Those of the folder; `invalid_model` and `unsupported` naming the file.
pub async fn open(folder: &dyn Folder) -> Result<(Heads, Vec<Rc<dyn Source>>)> {
    let mut heads = Vec::new();
    for name in [CONFIG, TOKENIZER] {
        heads.push(read_small(folder, name).await?.ok_or_else(|| missing(name))?);
    }
    for name in [INDEX_NAME, GENERATION, TEMPLATE] {
        heads.extend(read_small(folder, name).await?);
    }
    let mut sources = Vec::new();
    for name in shards(index(&heads)?.as_ref()) {
        let source = open_required(folder, &name).await?;
        heads.push(read_header(&name, source.as_ref(), progress).await?);
        sources.push(source);
    }
    Ok((Heads(heads), sources))
}

fn progress(prefix: &[u8], len: u64) -> Result<Progress> {
    Ok(match Safetensors::parse(prefix, len)? {
        Parsed::Complete(file) => Progress::Complete(file.header_len),
        Parsed::NeedMore { at_least } => Progress::NeedMore(at_least),
    })
}

fn head<'a>(heads: &'a [Head], name: &str) -> Option<&'a Head> {
    heads.iter().find(|head| head.name == name)
}

fn index(heads: &[Head]) -> Result<Option<ShardIndex>> {
    let index = head(heads, INDEX_NAME).map(|head| ShardIndex::parse(&head.bytes)).transpose();
    index.map_err(|error| error.with("file", INDEX_NAME))
}

/// The names of the files with tensors.
fn shards(index: Option<&ShardIndex>) -> Vec<String> {
    index.map_or_else(|| vec![SINGLE.to_owned()], |index| index.shards().to_vec())
}

/// The tensors of the model; each must stand where the index says, and no others.
///
/// # Errors
/// Those of [`Safetensors::parse`], [`ShardIndex::check_headers`] and [`TensorTable::new`].
pub fn tensors(heads: &Heads) -> Result<TensorTable> {
    let index = index(&heads.0)?;
    let names = shards(index.as_ref());
    let mut headers = Vec::new();
    for name in &names {
        let head = heads.get(name).ok_or_else(|| missing(name))?;
        let parsed = Safetensors::parse(&head.bytes, head.len);
        match parsed.map_err(|error| error.with("file", name.as_str()))? {
            Parsed::Complete(file) => headers.push(file),
            Parsed::NeedMore { at_least } => {
                return Err(Error::invalid("a header is cut short")
                    .with("file", name.as_str())
                    .with("needed", at_least)
                    .with("found", head.bytes.len()));
            }
        }
    }
    if let Some(index) = index {
        index.check_headers(&headers)?;
    }
    let tensors = headers.into_iter().map(|header| header.tensors);
    TensorTable::new(names.iter().map(String::as_str).zip(tensors).collect())
}

/// The configuration, the tokenizer and the chat template.
///
/// # Errors
/// Those of [`ModelConfig::from_hugging_face`] and [`Tokenizer::from_json`]; `invalid_model` naming
/// the file that is malformed.
pub fn describe(heads: &Heads) -> Result<(ModelConfig, Tokenizer, Option<String>)> {
    let required = |name: &str| heads.get(name).ok_or_else(|| missing(name));
    let config_json = &required(CONFIG)?.bytes;
    let config = ModelConfig::from_hugging_face(config_json)?;
    let mut stop_ids = ids(config_json, CONFIG, "eos_token_id")?;
    let mut bos = None;
    if let Some(head) = heads.get(GENERATION) {
        stop_ids.extend(ids(&head.bytes, GENERATION, "eos_token_id")?);
        bos = ids(&head.bytes, GENERATION, "bos_token_id")?.first().copied();
    }
    let tokenizer = Tokenizer::from_json(&required(TOKENIZER)?.bytes)?;
    let add_bos = tokenizer.add_bos();
    let bos = tokenizer.bos().or(bos);
    let tokenizer = tokenizer.with_stop_ids(&stop_ids)?.with_bos(bos, add_bos)?;
    let template = heads.get(TEMPLATE).map(|head| String::from_utf8(head.bytes.clone()));
    let template = template
        .transpose()
        .map_err(|_| Error::invalid("the chat template is not UTF-8").with("file", TEMPLATE))?;
    Ok((config, tokenizer, template))
}

/// The token ids under `key`: one, several, or none.
fn ids(json: &[u8], file: &'static str, key: &'static str) -> Result<Vec<u32>> {
    let malformed = || Error::invalid("not token ids").with("file", file).with("key", key);
    let object: Value = serde_json::from_slice(json)
        .map_err(|error| Error::invalid(format!("not JSON: {error}")).with("file", file))?;
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match &object[key] {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => values.iter().map(id).collect::<Option<_>>().ok_or_else(malformed),
        value => Ok(vec![id(value).ok_or_else(malformed)?]),
    }
}
