//! From the heads of a model's files to everything that is known before its weights are read.

use std::{rc::Rc, sync::Arc};

use super::{Request, gguf_set, heads::Heads, safetensors_set};
use crate::{
    chat::{ChatFormat, ChatTemplate, harmony::Harmony},
    checkpoint::{TensorInfo, TensorTable, dequantize},
    config::{Architecture, ModelConfig},
    error::{Error, Result},
    model,
    ops::Plan,
    source::{Folder, Source},
    tokenizer::Tokenizer,
    weights::{Pieces, Precision},
};

/// How the files of a model are found in their folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A GGUF file of this name, the first one if there are several.
    Gguf(String),
    /// `config.json` beside safetensors, as the Hugging Face hub has them.
    Safetensors,
}

/// What a model's files say of it.
pub struct Description {
    /// The names of its tensors, and where they are.
    pub tensors: TensorTable,
    /// The model's numbers.
    pub config: ModelConfig,
    /// Text ↔ tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages ↔ tokens, where the model is made for conversations.
    pub chat: Option<ChatFormat>,
    /// Divisors of the rotary frequencies, where the files have them.
    pub rope_divisors: Option<Vec<f32>>,
}

/// A model's files, opened.
pub struct Opened {
    /// What they say.
    pub description: Description,
    /// Their heads, from which [`Description::new`] makes the same again.
    pub heads: Heads,
    /// The files with tensors, as [`TensorTable`] counts them.
    pub sources: Vec<Rc<dyn Source>>,
}

impl Description {
    /// Reads the heads of the files in `folder`.
    ///
    /// # Errors
    /// Those of the folder; `invalid_model` and `unsupported` naming the file, tensor or key.
    pub async fn open(folder: &dyn Folder, entry: &Entry) -> Result<Opened> {
        let (heads, sources) = match entry {
            Entry::Gguf(name) => gguf_set::open(folder, name).await?,
            Entry::Safetensors => safetensors_set::open(folder).await?,
        };
        let tensors = tensors(&heads)?;
        let rope_divisors = match tensors.get(model::ROPE_DIVISORS_TENSOR) {
            Some((file, tensor)) => Some(read_vector(sources[file].as_ref(), tensor).await?),
            None => None,
        };
        let description = Self::with_tensors(&heads, tensors, rope_divisors)?;
        Ok(Opened { description, heads, sources })
    }

    /// What the heads of files and their rotary divisors make.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(heads: &Heads, rope_divisors: Option<Vec<f32>>) -> Result<Self> {
        Self::with_tensors(heads, tensors(heads)?, rope_divisors)
    }

    fn with_tensors(
        heads: &Heads,
        tensors: TensorTable,
        rope_divisors: Option<Vec<f32>>,
    ) -> Result<Self> {
        let (config, tokenizer, template) = if is_gguf(heads) {
            let metadata = gguf_set::metadata(heads)?;
            let template = metadata.optional_str("tokenizer.chat_template")?.map(str::to_owned);
            let config = ModelConfig::from_gguf(&metadata, &tensors)?;
            (config, Tokenizer::from_gguf(&metadata)?, template)
        } else {
            safetensors_set::describe(heads)?
        };
        if let Some(divisors) = &rope_divisors {
            check_divisors(divisors, config.rope.n_rot / 2)?;
        }
        if tokenizer.n_vocab() > config.n_vocab {
            return Err(Error::invalid("vocabulary has more tokens than the embedding has rows")
                .with("needed", tokenizer.n_vocab())
                .with("found", config.n_vocab));
        }
        let chat = chat_format(config.architecture, &tokenizer, template.as_deref())?;
        let tokenizer = match &chat {
            // Some files name it among the ends of a turn; an answer goes on after its thoughts.
            Some(ChatFormat::Harmony(harmony)) => tokenizer.without_stop_id(harmony.end_id()),
            _ => tokenizer,
        };
        Ok(Self { tensors, config, tokenizer: Arc::new(tokenizer), chat, rope_divisors })
    }

    /// Tokens of a prompt: `text`, after the token that begins a text if the model wants one. Special
    /// tokens in the text are recognised.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn prompt_tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(text)?;
        if self.tokenizer.add_bos() {
            tokens.splice(0..0, self.tokenizer.bos());
        }
        Ok(tokens)
    }

    /// Whether the answer to `request` is held to a grammar.
    pub fn is_guided(&self, Request { demands, chat, .. }: &Request) -> bool {
        demands.are_needed(*chat && matches!(self.chat, Some(ChatFormat::Harmony(_))))
    }

    /// The plan of the model.
    ///
    /// # Errors
    /// `invalid_model` and `unsupported` naming the tensor.
    pub fn plan(&self, precision: Precision) -> Result<Plan> {
        model::plan(&self.tensors, &self.config, precision, self.rope_divisors.as_deref())
    }

    /// The pieces of the weights of `plan`, in files that begin with `heads`.
    pub fn pieces(&self, plan: &Plan, heads: &Heads) -> Pieces {
        let span =
            |name: &String| heads.get(name).map_or(0..0, |head| head.bytes.len() as u64..head.len);
        let spans: Vec<_> = self.tensors.file_names().iter().map(span).collect();
        Pieces::new(&plan.weights, &spans)
    }
}

/// Harmony for gpt-oss, whatever template its files have beside it; else the template.
fn chat_format(
    architecture: Architecture,
    tokenizer: &Tokenizer,
    template: Option<&str>,
) -> Result<Option<ChatFormat>> {
    if architecture == Architecture::GptOss
        && let Some(harmony) = Harmony::new(tokenizer)
    {
        return Ok(Some(ChatFormat::Harmony(harmony)));
    }
    let Some(template) = template else { return Ok(None) };
    let text_of = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id]));
    let bos = text_of(tokenizer.bos());
    let eos = text_of(tokenizer.stop_ids().first().copied());
    let template = ChatTemplate::new(template, bos.as_deref(), eos.as_deref())?;
    Ok(Some(ChatFormat::Template(Box::new(template))))
}

fn is_gguf(heads: &Heads) -> bool {
    heads.0.first().is_some_and(|head| head.bytes.starts_with(b"GGUF"))
}

fn tensors(heads: &Heads) -> Result<TensorTable> {
    if is_gguf(heads) { gguf_set::tensors(heads) } else { safetensors_set::tensors(heads) }
}

fn check_divisors(divisors: &[f32], n_pairs: usize) -> Result<()> {
    let error =
        |message: &'static str| Error::invalid(message).with("tensor", model::ROPE_DIVISORS_TENSOR);
    if divisors.len() != n_pairs {
        return Err(error("one divisor for each rotated pair is needed")
            .with("expected", n_pairs)
            .with("found", divisors.len()));
    }
    match divisors.iter().position(|divisor| !(divisor.is_finite() && *divisor > 0.0)) {
        Some(index) => Err(error("divisor is not a positive number").with("index", index)),
        None => Ok(()),
    }
}

async fn read_vector(source: &dyn Source, tensor: &TensorInfo) -> Result<Vec<f32>> {
    const MAX_ELEMENTS: u64 = 1 << 16;
    let n_elements = tensor.n_elements();
    if n_elements > MAX_ELEMENTS {
        return Err(Error::invalid("tensor is too long")
            .with("tensor", tensor.name.as_str())
            .with("found", n_elements)
            .with("limit", MAX_ELEMENTS));
    }
    let mut bytes = vec![0; tensor.n_bytes as usize];
    source.read(tensor.offset, &mut bytes).await?;
    let mut elements = vec![0.0; n_elements as usize];
    dequantize(tensor.dtype, &bytes, &mut elements);
    Ok(elements)
}
