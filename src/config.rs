//! Metadata → a validated [`ModelConfig`].
//!
//! Input: the metadata of a checkpoint. Output: the numbers of one model, checked once, so that
//! nothing after this module looks at metadata again or doubts a division.

use crate::{
    checkpoint::{Gguf, Metadata, Value},
    error::{Error, Result},
};

/// Longest context that is planned for, in tokens. Larger values in a file are taken for damage.
const MAX_CONTEXT: u32 = 1 << 24;

/// Widest row of activations that is planned for. Larger values in a file are taken for damage.
const MAX_WIDTH: u64 = 1 << 24;

/// The numbers that define a model of the Llama family.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Name of the architecture in the file, such as `llama`.
    pub architecture: String,
    /// Human name of the model, where the file has one.
    pub name: Option<String>,
    /// Number of transformer layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward layer.
    pub n_ffn: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of rows of the embedding table and of logits.
    pub n_vocab: usize,
    /// Longest context the model was made for, in tokens.
    pub context_length: usize,
    /// The ε of RMSNorm.
    pub rms_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
}

/// Which two elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// Elements `2i` and `2i + 1`: what converters to GGUF make of Llama.
    Adjacent,
    /// Elements `i` and `i + n/2`: the layout of Hugging Face checkpoints.
    Halves,
}

/// Rotary position embedding: the frequency of each pair and how pairs are laid out.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Number of leading elements of a head that rotate; even.
    pub n_rot: usize,
    /// Which elements rotate together.
    pub pairing: RopePairing,
    /// Change to the frequencies for contexts longer than those trained on.
    pub scaling: RopeScaling,
}

/// Published ways to stretch rotary embeddings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as defined by θ.
    None,
    /// Every frequency divided by `factor` (position interpolation, arXiv:2306.15595).
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// YaRN (arXiv:2309.00071): interpolates long wavelengths, keeps short ones, and scales
    /// queries and keys by `0.1 ln(factor) + 1`.
    Yarn {
        /// How many times longer the context becomes.
        factor: f64,
        /// Context that the model was trained on, in tokens.
        original_context: f64,
        /// Rotations over the original context above which a frequency stays.
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is divided by `factor`.
        beta_slow: f64,
    },
}

impl RopeConfig {
    /// Angular frequency of each pair, in radians a token, `n_rot / 2` of them.
    ///
    /// `divisors` is the file's `rope_freqs` tensor where it has one (Llama 3.1 and later): each
    /// frequency is divided by it.
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f64> {
        let n_pairs = self.n_rot / 2;
        let plain = |pair: usize| self.theta.powf(-2.0 * pair as f64 / self.n_rot as f64);
        let scaled = |pair: usize| match self.scaling {
            RopeScaling::None => plain(pair),
            RopeScaling::Linear { factor } => plain(pair) / factor,
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow } => {
                // The pair whose wavelength makes `rotations` turns over the original context.
                let pair_of = |rotations: f64| {
                    self.n_rot as f64
                        * (original_context / (rotations * std::f64::consts::TAU)).ln()
                        / (2.0 * self.theta.ln())
                };
                let low = pair_of(beta_fast).floor().max(0.0);
                let high = pair_of(beta_slow).ceil().min(self.n_rot as f64 - 1.0);
                let ramp = ((pair as f64 - low) / (high - low).max(1e-3)).clamp(0.0, 1.0);
                plain(pair) * (1.0 - ramp) + plain(pair) / factor * ramp
            }
        };
        (0..n_pairs)
            .map(|pair| scaled(pair) / divisors.map_or(1.0, |divisors| f64::from(divisors[pair])))
            .collect()
    }

    /// Factor on rotated queries and keys.
    pub fn magnitude(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { factor, .. } if factor > 1.0 => (0.1 * factor.ln() + 1.0) as f32,
            _ => 1.0,
        }
    }
}

impl ModelConfig {
    /// Reads the configuration of a GGUF file.
    ///
    /// # Errors
    /// `unsupported` for an architecture that has no file under `model/`; `invalid_model` naming
    /// the key for numbers that are missing, zero or do not divide.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let metadata = &gguf.metadata;
        let architecture = metadata.str("general.architecture")?.to_owned();
        if architecture != "llama" {
            return Err(Error::unsupported("no such model architecture here")
                .with("key", "general.architecture")
                .with("found", architecture));
        }
        if metadata.optional_u32("llama.expert_count")?.unwrap_or(0) > 0 {
            return Err(Error::unsupported("Llama with experts").with("key", "llama.expert_count"));
        }
        let count = |key: &str| count(metadata, &format!("{architecture}.{key}"));
        let n_embd = count("embedding_length")?;
        let n_heads = count("attention.head_count")?;
        let n_kv_heads = match metadata.get(&format!("{architecture}.attention.head_count_kv")) {
            Some(Value::Array(_)) => {
                return Err(Error::unsupported("key/value heads that differ between layers")
                    .with("key", format!("{architecture}.attention.head_count_kv")));
            }
            Some(_) => count("attention.head_count_kv")?,
            None => n_heads,
        };
        divides("attention.head_count_kv", n_kv_heads, n_heads)?;
        let key_length = format!("{architecture}.attention.key_length");
        let head_dim = match metadata.optional_u32(&key_length)? {
            Some(_) => count("attention.key_length")?,
            None => {
                divides("attention.head_count", n_heads, n_embd)?;
                n_embd / n_heads
            }
        };
        if let Some(value_length) =
            metadata.optional_u32(&format!("{architecture}.attention.value_length"))?
            && value_length as usize != head_dim
        {
            return Err(Error::unsupported("values of another width than keys")
                .with("key", format!("{architecture}.attention.value_length"))
                .with("expected", head_dim)
                .with("found", value_length));
        }
        let n_rot = match metadata.optional_u32(&format!("{architecture}.rope.dimension_count"))? {
            Some(_) => count("rope.dimension_count")?,
            None => head_dim,
        };
        if n_rot % 2 != 0 || n_rot > head_dim {
            return Err(Error::invalid("rotated width is odd or wider than a head")
                .with("key", format!("{architecture}.rope.dimension_count"))
                .with("found", n_rot)
                .with("limit", head_dim));
        }
        let qkv_width = (n_heads as u64 + 2 * n_kv_heads as u64).saturating_mul(head_dim as u64);
        let n_ffn = count("feed_forward_length")?;
        for (what, width) in [
            ("attention.head_count", qkv_width),
            ("embedding_length", n_embd as u64),
            ("feed_forward_length", n_ffn as u64),
        ] {
            if width > MAX_WIDTH {
                return Err(Error::invalid("a row of activations is absurdly wide")
                    .with("key", format!("{architecture}.{what}"))
                    .with("found", width)
                    .with("limit", MAX_WIDTH));
            }
        }
        let table = gguf.tensor("token_embd.weight").ok_or_else(|| {
            Error::invalid("tensor is missing").with("tensor", "token_embd.weight")
        })?;
        let n_vocab = *table.shape.first().unwrap_or(&0);
        let rms_eps = metadata.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"))?;
        if !(rms_eps > 0.0 && rms_eps < 1.0) {
            return Err(Error::invalid("epsilon is not between 0 and 1")
                .with("key", format!("{architecture}.attention.layer_norm_rms_epsilon"))
                .with("found", rms_eps.to_string()));
        }
        let context_length = count("context_length")?;
        if context_length > MAX_CONTEXT as usize {
            return Err(Error::invalid("context length is absurd")
                .with("key", format!("{architecture}.context_length"))
                .with("found", context_length)
                .with("limit", MAX_CONTEXT));
        }
        Ok(Self {
            name: metadata.optional_str("general.name")?.map(str::to_owned),
            n_layers: count("block_count")?,
            n_embd,
            n_ffn,
            n_heads,
            n_kv_heads,
            head_dim,
            n_vocab: usize::try_from(n_vocab)
                .map_err(|_| Error::invalid("vocabulary is too large").with("found", n_vocab))?,
            context_length,
            rms_eps,
            rope: RopeConfig {
                theta: theta(metadata, &architecture)?,
                n_rot,
                pairing: RopePairing::Adjacent,
                scaling: rope_scaling(metadata, &architecture)?,
            },
            architecture,
        })
    }
}

fn count(metadata: &Metadata, key: &str) -> Result<usize> {
    match metadata.u32(key)? {
        0 => Err(Error::invalid("count is zero").with("key", key)),
        number => Ok(number as usize),
    }
}

fn divides(key: &'static str, divisor: usize, number: usize) -> Result<()> {
    if number.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(Error::invalid("count does not divide")
        .with("key", key)
        .with("found", divisor)
        .with("expected", format!("a divisor of {number}")))
}

fn theta(metadata: &Metadata, architecture: &str) -> Result<f64> {
    let key = format!("{architecture}.rope.freq_base");
    let theta = metadata.optional_f32(&key)?.unwrap_or(10_000.0);
    if !(theta > 1.0 && theta.is_finite()) {
        return Err(Error::invalid("base of rotary frequencies is not above 1")
            .with("key", key)
            .with("found", theta.to_string()));
    }
    Ok(theta.into())
}

fn rope_scaling(metadata: &Metadata, architecture: &str) -> Result<RopeScaling> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let kind = metadata.optional_str(&key("type"))?.unwrap_or("none");
    let positive = |name: &str| -> Result<f64> {
        let number = f64::from(metadata.f32(&key(name))?);
        if number > 0.0 && number.is_finite() {
            return Ok(number);
        }
        Err(Error::invalid("not a positive number")
            .with("key", key(name))
            .with("found", number.to_string()))
    };
    let positive_or = |name: &str, default: f64| match metadata.get(&key(name)) {
        Some(_) => positive(name),
        None => Ok(default),
    };
    match kind {
        "none" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: positive("factor")? }),
        "yarn" => Ok(RopeScaling::Yarn {
            factor: positive("factor")?,
            original_context: count(metadata, &key("original_context_length"))? as f64,
            beta_fast: positive_or("yarn_beta_fast", 32.0)?,
            beta_slow: positive_or("yarn_beta_slow", 1.0)?,
        }),
        other => Err(Error::unsupported("rotary scaling of this kind")
            .with("key", key("type"))
            .with("found", other)),
    }
}
