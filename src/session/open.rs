//! From the head of a model file to everything that is known before its weights are read.

use crate::{
    chat::ChatTemplate,
    checkpoint::{Gguf, TensorInfo, dequantize},
    config::ModelConfig,
    error::{Error, Result},
    model,
    ops::Plan,
    source::Source,
    tokenizer::Tokenizer,
    weights::{Precision, read_gguf_header},
};

/// What a model file says of itself.
pub struct ModelFile {
    /// The file's tables.
    pub gguf: Gguf,
    /// The model's numbers.
    pub config: ModelConfig,
    /// Text ↔ tokens.
    pub tokenizer: Tokenizer,
    /// Messages → text, where the file has a template.
    pub template: Option<ChatTemplate>,
    /// Divisors of the rotary frequencies, where the file has them.
    pub rope_divisors: Option<Vec<f32>>,
}

impl ModelFile {
    /// Reads the head of the file at `source`; also returns the head's bytes, for storage.
    ///
    /// # Errors
    /// Those of the source; `invalid_model` and `unsupported` naming the tensor or key.
    pub async fn open(source: &dyn Source) -> Result<(Self, Vec<u8>)> {
        let (head, gguf) = read_gguf_header(source).await?;
        let rope_divisors = match gguf.tensor(model::ROPE_DIVISORS_TENSOR) {
            Some(tensor) => Some(read_vector(source, tensor).await?),
            None => None,
        };
        Ok((Self::new(gguf, rope_divisors)?, head))
    }

    /// What the tables of a file and its rotary divisors make.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(gguf: Gguf, rope_divisors: Option<Vec<f32>>) -> Result<Self> {
        let config = ModelConfig::from_gguf(&gguf)?;
        if let Some(divisors) = &rope_divisors {
            check_divisors(divisors, config.rope.n_rot / 2)?;
        }
        let tokenizer = Tokenizer::from_gguf(&gguf.metadata)?;
        if tokenizer.n_vocab() > config.n_vocab {
            return Err(Error::invalid("vocabulary has more tokens than the embedding has rows")
                .with("tensor", "token_embd.weight")
                .with("needed", tokenizer.n_vocab())
                .with("found", config.n_vocab));
        }
        let text_of = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id]));
        let template = match gguf.metadata.optional_str("tokenizer.chat_template")? {
            Some(template) => Some(ChatTemplate::new(
                template,
                text_of(tokenizer.bos()).as_deref(),
                text_of(tokenizer.stop_ids().first().copied()).as_deref(),
            )?),
            None => None,
        };
        Ok(Self { gguf, config, tokenizer, template, rope_divisors })
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

    /// The plan of the model.
    ///
    /// # Errors
    /// `invalid_model` and `unsupported` naming the tensor.
    pub fn plan(&self, precision: Precision) -> Result<Plan> {
        model::plan(&self.gguf, &self.config, precision, self.rope_divisors.as_deref())
    }
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
