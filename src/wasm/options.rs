//! Plain objects from and to JavaScript, typed.

use std::rc::Rc;

use js_sys::{Function, Reflect};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortSignal, File};

use super::{
    folder::{KnownFolder, PickedFiles, UrlFolder},
    http::OnBytes,
    sums::Sums,
    team::Team,
};
use crate::{
    chat::harmony::{CHANNELS, MessageKind, ResponseFormat, Role},
    constrain::Constraint,
    engine::{DeviceKind, MemoryUse},
    error::{Error, ErrorKind, Result},
    gpu::context::AdapterHints,
    ops::CacheNumbers,
    sampler::{SamplingParams, TokenLogprob},
    session::{Demands, Description, Entry, Opened, Request, TokenEvent, Tool, ToolChoice},
    store::Origin,
    tokenizer::Tokenizer,
    weights::Precision,
};

/// Reads a plain object.
///
/// # Errors
/// `invalid_argument` naming what does not fit.
pub fn from_js<T: DeserializeOwned>(value: JsValue) -> Result<T> {
    serde_wasm_bindgen::from_value(value)
        .map_err(|error| Error::argument(format!("options of another form: {error}")))
}

/// Writes a plain object.
///
/// # Errors
/// None in practice: what is written here has a plain form.
pub fn to_plain_js<T: Serialize>(value: &T) -> Result<JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|error| Error::argument(format!("a result without a plain form: {error}")))
}

fn member<T: JsCast>(object: &JsValue, name: &'static str) -> Result<T> {
    Reflect::get(object, &name.into()).ok().and_then(|value| value.dyn_into().ok()).ok_or_else(
        || Error::argument("an option is missing or of another type").with("parameter", name),
    )
}

/// The `signal` member of an object.
///
/// # Errors
/// `invalid_argument` when there is none.
pub fn signal(object: &JsValue) -> Result<AbortSignal> {
    member(object, "signal")
}

/// The `onProgress` member of an object.
///
/// # Errors
/// `invalid_argument` when there is none.
pub fn on_progress(object: &JsValue) -> Result<Function> {
    member(object, "onProgress")
}

/// Where a model comes from.
pub struct SourceOptions {
    /// Its identity, which names it in storage.
    pub id: String,
    /// Where its bytes are.
    pub place: Place,
    /// Where their SHA-256 is published, if it is.
    pub sums: Option<Sums>,
}

/// Where bytes are.
pub enum Place {
    /// In a GGUF file at a URL, and those beside it that belong to it.
    Url(String),
    /// In the files of a folder at a URL, which ends with a slash.
    Folder(String),
    /// In files that the user picked.
    Files(Vec<File>),
}

impl SourceOptions {
    /// Reads `{ kind, id, url | files }`.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn from_js(value: &JsValue) -> Result<Self> {
        let text = |name: &'static str| -> Result<String> {
            member::<js_sys::JsString>(value, name).map(String::from)
        };
        let place = match text("kind")?.as_str() {
            "url" => Place::Url(text("url")?),
            "folder" => Place::Folder(text("url")?),
            "files" => {
                let files: js_sys::Array = member(value, "files")?;
                let files: Result<Vec<File>, _> = files.iter().map(JsCast::dyn_into).collect();
                let wrong = |_| Error::argument("not a File").with("parameter", "files");
                Place::Files(files.map_err(wrong)?)
            }
            other => return Err(Error::argument("no such kind of source").with("found", other)),
        };
        let sums = Reflect::get(value, &"sums".into()).unwrap_or_default();
        Ok(Self { id: text("id")?, place, sums: from_js(sums)? })
    }

    /// The model that came from `origin`.
    ///
    /// # Errors
    /// `storage` when that is of no known kind.
    pub fn at(id: &str, origin: Origin) -> Result<Self> {
        let place = match origin.kind.as_str() {
            "url" => Place::Url(origin.url),
            "folder" => Place::Folder(origin.url),
            _ => return Err(Error::new(ErrorKind::Storage, "no such kind of origin")),
        };
        Ok(Self { id: id.to_owned(), place, sums: None })
    }

    /// The address of the model, where it has one.
    pub fn origin(&self) -> Option<Origin> {
        let (kind, url) = match &self.place {
            Place::Url(url) => ("url", url),
            Place::Folder(url) => ("folder", url),
            Place::Files(_) => return None,
        };
        Some(Origin { kind: kind.to_owned(), url: url.clone() })
    }

    /// Reads the heads of the model's files.
    ///
    /// # Errors
    /// Those of [`Description::open`].
    pub async fn open(&self, signal: &AbortSignal, on_bytes: OnBytes) -> Result<Opened> {
        let (files, entry) = self.folder(signal, on_bytes);
        Description::open(files.as_ref(), &entry).await
    }

    /// The folder with the model's files, and how they are found in it.
    pub fn folder(&self, signal: &AbortSignal, on_bytes: OnBytes) -> (Box<dyn KnownFolder>, Entry) {
        match &self.place {
            Place::Url(url) => {
                let (folder, name) = UrlFolder::of_file(url, signal, on_bytes);
                (Box::new(folder), Entry::Gguf(name))
            }
            Place::Folder(url) => {
                (Box::new(UrlFolder::new(url, signal, on_bytes)), Entry::Safetensors)
            }
            Place::Files(files) => {
                let first = files.first().map(File::name).unwrap_or_default();
                let is_gguf = first.to_lowercase().ends_with(".gguf");
                let entry = if is_gguf { Entry::Gguf(first) } else { Entry::Safetensors };
                (Box::new(PickedFiles(files.clone())), entry)
            }
        }
    }
}

/// What a model is to run on, and how.
pub struct Target {
    /// Where the model runs.
    pub device: DeviceKind,
    /// How dense matrices are held.
    pub precision: Precision,
    /// What keys and values are held as.
    pub kv_cache: CacheNumbers,
    /// Positions to make room for.
    pub context_length: Option<usize>,
    /// Cancels what is done with it.
    pub signal: AbortSignal,
}

/// Settings of a load.
pub struct LoadOptions {
    /// What the model is to run on.
    pub target: Target,
    /// Whether browser storage is used.
    pub cache: bool,
    /// Told how far it is.
    pub on_progress: Function,
}

#[derive(Deserialize)]
struct PlainLoadOptions {
    cache: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlainTarget {
    device: String,
    precision: Precision,
    kv_cache: CacheNumbers,
    context_length: Option<f64>,
    adapter: Option<AdapterFacts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AdapterFacts {
    software_adapter: bool,
    subgroups: bool,
    subgroup_min_size: u32,
    shader_f16: bool,
    description: String,
}

impl LoadOptions {
    /// Reads the options of `Model.load`.
    ///
    /// # Errors
    /// `invalid_argument` naming the parameter.
    pub fn from_js(value: &JsValue) -> Result<Self> {
        let PlainLoadOptions { cache } = from_js(value.clone())?;
        Ok(Self { target: Target::from_js(value)?, cache, on_progress: on_progress(value)? })
    }
}

impl Target {
    /// Reads `{ device, adapter?, team?, precision, kvCache, contextLength?, signal }`.
    ///
    /// # Errors
    /// `invalid_argument` naming the parameter.
    pub fn from_js(value: &JsValue) -> Result<Self> {
        let plain: PlainTarget = from_js(value.clone())?;
        let device = match plain.device.as_str() {
            "cpu" => match Reflect::get(value, &"team".into()) {
                Ok(team) if !team.is_undefined() => {
                    DeviceKind::Threads(Rc::new(team.unchecked_into::<Team>()))
                }
                _ => DeviceKind::Cpu,
            },
            "webgpu" => DeviceKind::Gpu(plain.adapter.map_or_else(AdapterHints::default, hints)),
            other => {
                return Err(Error::argument("no such value")
                    .with("parameter", "device")
                    .with("found", other));
            }
        };
        let context_length = plain
            .context_length
            .map(|length| whole("contextLength", length).map(|length| length as usize))
            .transpose()?;
        let PlainTarget { precision, kv_cache, .. } = plain;
        Ok(Self { device, precision, kv_cache, context_length, signal: signal(value)? })
    }
}

fn hints(facts: AdapterFacts) -> AdapterHints {
    let usable = facts.subgroups && facts.subgroup_min_size.is_power_of_two();
    AdapterHints {
        software: Some(facts.software_adapter),
        subgroup: usable.then_some(facts.subgroup_min_size),
        name: Some(facts.description),
        no_f16: !facts.shader_f16,
        ..Default::default()
    }
}

fn whole(parameter: &'static str, number: f64) -> Result<u64> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if (0.0..=LARGEST).contains(&number) && number.fract() == 0.0 {
        return Ok(number as u64);
    }
    Err(Error::argument("not a whole number")
        .with("parameter", parameter)
        .with("found", number.to_string()))
}

/// Settings of a generation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerateOptions {
    tokens: Vec<u32>,
    max_tokens: Option<f64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    logit_bias: Option<Vec<(u32, f32)>>,
    seed: Option<f64>,
    stop: Option<Vec<String>>,
    /// Whether log-probabilities are reported.
    #[serde(default)]
    pub logprobs: bool,
    top_logprobs: Option<u32>,
    #[serde(default)]
    ignore_eos: bool,
    reuse_prefix: Option<bool>,
    #[serde(default)]
    chat: bool,
    constraint: Option<Constraint>,
    #[serde(default)]
    tools: Vec<PlainTool>,
    tool_choice: Option<PlainToolChoice>,
    parallel_tool_calls: Option<bool>,
}

#[derive(Deserialize)]
struct PlainTool {
    name: String,
    /// The JSON schema of its arguments, as text.
    parameters: String,
    #[serde(default)]
    strict: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PlainToolMode {
    None,
    Auto,
    Required,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PlainToolChoice {
    Mode(PlainToolMode),
    Named { name: String },
}

impl From<PlainToolChoice> for ToolChoice {
    fn from(choice: PlainToolChoice) -> Self {
        match choice {
            PlainToolChoice::Mode(PlainToolMode::None) => Self::None,
            PlainToolChoice::Mode(PlainToolMode::Auto) => Self::Auto,
            PlainToolChoice::Mode(PlainToolMode::Required) => Self::Required,
            PlainToolChoice::Named { name } => Self::Named(name),
        }
    }
}

impl From<PlainTool> for Tool {
    fn from(PlainTool { name, parameters, strict }: PlainTool) -> Self {
        Self { name, parameters, strict }
    }
}

impl From<GenerateOptions> for Request {
    fn from(options: GenerateOptions) -> Self {
        let greedy = SamplingParams::default();
        // A number beyond what a seed or a count can be is cut, not refused: the package has checked.
        let seed = options.seed.unwrap_or_else(|| js_sys::Math::random() * 9e15);
        Self {
            tokens: options.tokens,
            max_tokens: options.max_tokens.map(|number| number as usize),
            sampling: SamplingParams {
                temperature: options.temperature.unwrap_or(1.0),
                top_k: options.top_k.unwrap_or(greedy.top_k),
                top_p: options.top_p.unwrap_or(greedy.top_p),
                min_p: options.min_p.unwrap_or(greedy.min_p),
                repetition_penalty: options.repetition_penalty.unwrap_or(greedy.repetition_penalty),
                frequency_penalty: options.frequency_penalty.unwrap_or(greedy.frequency_penalty),
                presence_penalty: options.presence_penalty.unwrap_or(greedy.presence_penalty),
                logit_bias: options.logit_bias.unwrap_or_default(),
                top_logprobs: options.top_logprobs.unwrap_or(greedy.top_logprobs),
                seed: seed as u64,
            },
            stop: options.stop.unwrap_or_default(),
            ignore_eos: options.ignore_eos,
            reuse_prefix: options.reuse_prefix.unwrap_or(true),
            chat: options.chat,
            demands: Demands {
                answer: options.constraint,
                tools: options.tools.into_iter().map(Tool::from).collect(),
                tool_choice: options.tool_choice.map(ToolChoice::from).unwrap_or_default(),
                single_call: options.parallel_tool_calls == Some(false),
            },
        }
    }
}

/// Options of rendering a conversation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderOptions {
    /// How much to think.
    pub reasoning_effort: Option<String>,
    /// The functions that the model may call, as OpenAI's API describes them.
    pub tools: Option<serde_json::Value>,
    /// The form that the answer must have.
    pub response_format: Option<ResponseFormat>,
}

#[derive(Serialize)]
struct PlainLogprob<'a> {
    token: u32,
    logprob: f32,
    bytes: &'a [u8],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GeneratedToken<'a> {
    token: u32,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprob: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<&'a [u8]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_logprobs: Vec<PlainLogprob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_author: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<bool>,
}

/// Tokens as an array of `{ token, text, logprob?, bytes?, topLogprobs?, channel?, recipient?,
/// contentType?, messageIndex?, otherAuthor?, malformed?, continues? }`; `topLogprobs` are `[{ token,
/// logprob, bytes }]`. `bytes` are what a token stands for, also where that is part of a character; of a
/// drawn token that is no text, none. A token that completes text of several messages has an element for
/// each.
///
/// # Errors
/// Those of [`to_plain_js`].
pub fn token_batch(
    events: &[TokenEvent],
    with_logprobs: bool,
    tokenizer: &Tokenizer,
) -> Result<JsValue> {
    let bytes_of = |token: u32| tokenizer.token_bytes(token).unwrap_or_default();
    let text_of = |token: u32| if tokenizer.is_special(token) { &[] } else { bytes_of(token) };
    let batch: Vec<_> = events
        .iter()
        .flat_map(|event| {
            let further = event.further.iter().map(|piece| (piece, Some(true)));
            let pieces = std::iter::once((&event.piece, None)).chain(further);
            pieces.map(move |(piece, continues)| (event, piece, continues))
        })
        .map(|(event, piece, continues)| {
            let message = piece.message.as_ref();
            let header = message.map(|message| &message.header);
            let channel = header.and_then(|header| header.channel.as_deref());
            let is_call = header.is_some_and(|header| header.kind() == MessageKind::ToolCall);
            GeneratedToken {
                token: event.token,
                text: &piece.text,
                logprob: with_logprobs.then_some(event.logprob),
                bytes: with_logprobs.then(|| text_of(event.token)),
                top_logprobs: event
                    .top_logprobs
                    .iter()
                    .map(|&TokenLogprob { token, logprob }| PlainLogprob {
                        token,
                        logprob,
                        bytes: bytes_of(token),
                    })
                    .collect(),
                channel: channel.filter(|channel| CHANNELS.contains(channel)),
                recipient: header.filter(|_| is_call).and_then(|h| h.recipient.as_deref()),
                content_type: header.and_then(|h| h.constraint().or(h.content_type.as_deref())),
                message_index: message.map(|message| message.index),
                other_author: header.and_then(|h| (h.role != Role::Assistant).then_some(true)),
                malformed: piece.malformed,
                continues,
            }
        })
        .collect();
    to_plain_js(&batch)
}

/// What a generation took.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub finish_reason: &'static str,
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    pub prefill_ms: f64,
    pub decode_ms: f64,
    pub time_to_first_token_ms: f64,
}

/// Bytes of the module's memory, which never shrinks: it is made of pages of 64 KiB.
pub fn heap_bytes() -> u64 {
    core::arch::wasm32::memory_size::<0>() as u64 * (64 << 10)
}

/// Bytes in use.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InUse {
    pub device_bytes: u64,
    pub set_aside_bytes: u64,
    pub heap_bytes: u64,
}

/// What disposing freed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Freed {
    pub freed_bytes: u64,
}

/// How far a load is.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub phase: &'static str,
    pub file: String,
    pub loaded_bytes: u64,
    pub total_bytes: u64,
    pub bytes_per_second: f64,
    pub eta_seconds: f64,
}

/// What a model is and where it runs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub id: String,
    pub architecture: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub parameters: u64,
    pub context_length: usize,
    pub vocabulary_size: usize,
    pub device: &'static str,
    pub memory: Memory,
    pub from_storage: bool,
    /// Why the model is not in storage, where it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_error: Option<String>,
    pub chat_template: bool,
    pub chat_format: &'static str,
    pub layers: usize,
    pub hidden_size: usize,
}

/// Bytes on the device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    pub weights_bytes: u64,
    pub cache_bytes: u64,
    pub scratch_bytes: u64,
    pub total_bytes: u64,
    /// Of the module itself, where a model is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<u64>,
}

impl Memory {
    /// What a device holds.
    pub fn new(memory: MemoryUse, heap_bytes: Option<u64>) -> Self {
        Self {
            weights_bytes: memory.weights,
            cache_bytes: memory.caches,
            scratch_bytes: memory.scratch,
            total_bytes: memory.total(),
            heap_bytes,
        }
    }
}
