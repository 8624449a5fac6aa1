//! The configuration in the metadata of a GGUF file.

use super::{
    Architecture, ExpertsConfig, Keys, ModelConfig, RopeConfig, RopePairing, RopeScaling,
    SlidingWindow, checked_layers, yarn_magnitude,
};
use crate::{
    checkpoint::{Array, Metadata, TensorTable, Value},
    error::{Error, Result},
};

const EMBEDDING: &str = "token_embd.weight";

/// What llama.cpp's converters leave out for gpt-oss because the architecture implies it.
const SWIGLU_LIMIT: f32 = 7.0;
const SLIDING_PERIOD: usize = 2;

impl ModelConfig {
    /// Reads the configuration of a GGUF file with `metadata` and `tensors`.
    ///
    /// # Errors
    /// `unsupported` for an architecture that has no file under `model/`; `invalid_model` naming
    /// the key for numbers that are missing, zero or do not divide.
    pub fn from_gguf(metadata: &Metadata, tensors: &TensorTable) -> Result<Self> {
        let name = metadata.str("general.architecture")?;
        let architecture = match name {
            "llama" => Architecture::Llama,
            "gpt-oss" => Architecture::GptOss,
            "gptoss" => {
                return Err(Error::unsupported(
                    "gpt-oss as Ollama stores it; a GGUF file made by llama.cpp's converter is needed",
                )
                .with("key", "general.architecture")
                .with("found", name)
                .with("expected", Architecture::GptOss.name()));
            }
            other => {
                return Err(Error::unsupported("no such model architecture here")
                    .with("key", "general.architecture")
                    .with("found", other));
            }
        };
        let reader = Reader { metadata, prefix: name };
        let experts = match architecture {
            Architecture::Llama => {
                if reader.optional("expert_count")?.unwrap_or(0) > 0 {
                    return Err(Error::unsupported("Llama with experts")
                        .with("key", reader.key("expert_count")));
                }
                None
            }
            Architecture::GptOss => Some(ExpertsConfig {
                n_experts: reader.count("expert_count")?,
                n_used: reader.count("expert_used_count")?,
                swiglu_limit: SWIGLU_LIMIT,
            }),
        };
        let n_layers = checked_layers(reader.count("block_count")?, reader.key("block_count"))?;
        let n_embd = reader.count("embedding_length")?;
        let n_heads = reader.count("attention.head_count")?;
        let n_kv_heads = match metadata.get(&reader.key("attention.head_count_kv")) {
            Some(Value::Array(_)) => {
                return Err(Error::unsupported("key/value heads that differ between layers")
                    .with("key", reader.key("attention.head_count_kv")));
            }
            Some(_) => reader.count("attention.head_count_kv")?,
            None => n_heads,
        };
        let head_dim = match reader.optional("attention.key_length")? {
            Some(0) => return Err(reader.zero("attention.key_length")),
            Some(length) => length,
            None if n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => {
                return Err(Error::invalid("count does not divide")
                    .with("key", reader.key("attention.head_count"))
                    .with("found", n_heads)
                    .with("expected", format!("a divisor of {n_embd}")));
            }
        };
        if let Some(value_length) = reader.optional("attention.value_length")?
            && value_length != head_dim
        {
            return Err(Error::unsupported("values of another width than keys")
                .with("key", reader.key("attention.value_length"))
                .with("expected", head_dim)
                .with("found", value_length));
        }
        let (_, table) = tensors
            .get(EMBEDDING)
            .ok_or_else(|| Error::invalid("tensor is missing").with("tensor", EMBEDDING))?;
        let n_vocab = *table.shape.first().unwrap_or(&0);
        let n_ffn = match architecture {
            Architecture::GptOss => match reader.optional("expert_feed_forward_length")? {
                Some(0) => return Err(reader.zero("expert_feed_forward_length")),
                Some(length) => length,
                None => reader.count("feed_forward_length")?,
            },
            Architecture::Llama => reader.count("feed_forward_length")?,
        };
        let config = Self {
            architecture,
            name: metadata.optional_str("general.name")?.map(str::to_owned),
            n_layers,
            n_embd,
            n_ffn,
            n_heads,
            n_kv_heads,
            head_dim,
            n_vocab: usize::try_from(n_vocab)
                .map_err(|_| Error::invalid("vocabulary is too large").with("found", n_vocab))?,
            context_length: reader.count("context_length")?,
            rms_eps: metadata.f32(&reader.key("attention.layer_norm_rms_epsilon"))?,
            rope: RopeConfig {
                theta: metadata
                    .optional_f32(&reader.key("rope.freq_base"))?
                    .map_or(10_000.0, f64::from),
                n_rot: reader.optional("rope.dimension_count")?.unwrap_or(head_dim),
                pairing: match architecture {
                    Architecture::Llama => RopePairing::Adjacent,
                    Architecture::GptOss => RopePairing::Halves,
                },
                scaling: reader.rope_scaling(architecture)?,
            },
            sliding: match architecture {
                Architecture::Llama => None,
                Architecture::GptOss => Some(SlidingWindow {
                    size: reader.count("attention.sliding_window")?,
                    layers: reader.sliding_layers(n_layers)?,
                }),
            },
            experts,
        };
        config.checked(&Keys {
            prefix: format!("{name}."),
            n_layers: "block_count",
            n_embd: "embedding_length",
            n_ffn: "feed_forward_length",
            n_heads: "attention.head_count",
            n_kv_heads: "attention.head_count_kv",
            head_dim: "attention.key_length",
            n_rot: "rope.dimension_count",
            n_vocab: "vocab_size",
            context_length: "context_length",
            rms_eps: "attention.layer_norm_rms_epsilon",
            theta: "rope.freq_base",
            window: "attention.sliding_window",
            layer_types: "attention.sliding_window_pattern",
            n_experts: "expert_count",
            n_used: "expert_used_count",
            swiglu_limit: "swiglu_limit",
        })
    }
}

/// Metadata under the keys of one architecture.
struct Reader<'a> {
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn zero(&self, name: &str) -> Error {
        Error::invalid("count is zero").with("key", self.key(name))
    }

    fn optional(&self, name: &str) -> Result<Option<usize>> {
        Ok(self.metadata.optional_u32(&self.key(name))?.map(|number| number as usize))
    }

    fn count(&self, name: &str) -> Result<usize> {
        match self.metadata.u32(&self.key(name))? {
            0 => Err(self.zero(name)),
            number => Ok(number as usize),
        }
    }

    fn positive(&self, name: &str) -> Result<f64> {
        let key = self.key(name);
        let number = f64::from(self.metadata.f32(&key)?);
        if number > 0.0 && number.is_finite() {
            return Ok(number);
        }
        Err(Error::invalid("not a positive number")
            .with("key", key)
            .with("found", number.to_string()))
    }

    fn positive_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.metadata.get(&self.key(name)) {
            Some(_) => self.positive(name),
            None => Ok(default),
        }
    }

    fn rope_scaling(&self, architecture: Architecture) -> Result<RopeScaling> {
        let key = self.key("rope.scaling.type");
        match self.metadata.optional_str(&key)?.unwrap_or("none") {
            "none" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.positive("rope.scaling.factor")? }),
            "yarn" => {
                let factor = self.positive("rope.scaling.factor")?;
                let original = self.count("rope.scaling.original_context_length")?;
                Ok(RopeScaling::Yarn {
                    factor,
                    original_context: original as f64,
                    beta_fast: self.positive_or("rope.scaling.yarn_beta_fast", 32.0)?,
                    beta_slow: self.positive_or("rope.scaling.yarn_beta_slow", 1.0)?,
                    // There is no key for it; gpt-oss was trained without.
                    truncate: architecture != Architecture::GptOss,
                    magnitude: yarn_magnitude(factor),
                })
            }
            other => Err(Error::unsupported("rotary scaling of this kind")
                .with("key", key)
                .with("found", other)),
        }
    }

    /// Which layers slide: all but the last of each period, or as an array says.
    fn sliding_layers(&self, n_layers: usize) -> Result<Vec<bool>> {
        let key = self.key("attention.sliding_window_pattern");
        let period = match self.metadata.get(&key) {
            Some(Value::Array(Array::Bool(layers))) => return Ok(layers.clone()),
            Some(_) => self.count("attention.sliding_window_pattern")?,
            None => SLIDING_PERIOD,
        };
        Ok((0..n_layers).map(|layer| layer % period + 1 < period).collect())
    }
}
