//! Metadata → a validated [`ModelConfig`].
//!
//! Input: the metadata of a GGUF file (`gguf`) or a `config.json` (`hugging_face`). Output: the
//! numbers of one model, checked once, so that nothing after this module looks at metadata again or
//! doubts a division.

mod gguf;
mod hugging_face;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest context that is planned for, in tokens. Larger values in a file are taken for damage.
const MAX_CONTEXT: u32 = 1 << 24;

/// Widest row of activations that is planned for. Larger values in a file are taken for damage.
const MAX_WIDTH: u64 = 1 << 24;

/// Most layers and widest head that are planned for: lists have an entry for each layer, tables of
/// rotations one for each pair of a head.
const MAX_LAYERS: usize = 1 << 12;
const MAX_HEAD_DIM: usize = 1 << 12;

/// Most experts of a layer that are planned for, and most rows of their matrices of one kind together:
/// such products of two counts must fit addresses of 32 bits.
const MAX_EXPERTS: usize = 1 << 12;
const MAX_EXPERT_ROWS: u64 = 1 << 30;

/// A family of models: which file under `model/` writes the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and what is built like it.
    Llama,
    /// OpenAI's gpt-oss.
    GptOss,
}

impl Architecture {
    /// The name that files give it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::GptOss => "gpt-oss",
        }
    }
}

/// The numbers that define a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Human name of the model, where the file has one.
    pub name: Option<String>,
    /// Number of transformer layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward layer; of one expert where there are experts.
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
    /// Attention that sees only recent positions, where some layers have it.
    pub sliding: Option<SlidingWindow>,
    /// Experts in place of one feed-forward layer, where the model has them.
    pub experts: Option<ExpertsConfig>,
}

/// Attention over recent positions.
#[derive(Clone, Debug, PartialEq)]
pub struct SlidingWindow {
    /// Positions that a token sees, its own among them.
    pub size: usize,
    /// Whether each layer has the window.
    pub layers: Vec<bool>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertsConfig {
    /// Experts of a layer.
    pub n_experts: usize,
    /// Experts that a token goes through.
    pub n_used: usize,
    /// Bound on gates (from above) and ups (from both sides).
    pub swiglu_limit: f32,
}

/// Which two elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// queries and keys.
    Yarn {
        /// How many times longer the context becomes.
        factor: f64,
        /// Context that the model was trained on, in tokens.
        original_context: f64,
        /// Rotations over the original context above which a frequency stays.
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is divided by `factor`.
        beta_slow: f64,
        /// Whether the bounds of the transition are rounded to whole pairs.
        truncate: bool,
        /// Factor on queries and keys.
        magnitude: f64,
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
            RopeScaling::Yarn {
                factor, original_context, beta_fast, beta_slow, truncate, ..
            } => {
                // The pair whose wavelength makes `rotations` turns over the original context.
                let pair_of = |rotations: f64| {
                    self.n_rot as f64
                        * (original_context / (rotations * std::f64::consts::TAU)).ln()
                        / (2.0 * self.theta.ln())
                };
                let (low, high) = (pair_of(beta_fast), pair_of(beta_slow));
                let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(self.n_rot as f64 - 1.0));
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
            RopeScaling::Yarn { magnitude, .. } => magnitude as f32,
            RopeScaling::None | RopeScaling::Linear { .. } => 1.0,
        }
    }
}

/// The magnitude of YaRN where a file does not give one.
fn yarn_magnitude(factor: f64) -> f64 {
    if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 }
}

/// What a kind of file calls the numbers of a configuration.
struct Keys {
    prefix: String,
    n_layers: &'static str,
    n_embd: &'static str,
    n_ffn: &'static str,
    n_heads: &'static str,
    n_kv_heads: &'static str,
    head_dim: &'static str,
    n_rot: &'static str,
    n_vocab: &'static str,
    context_length: &'static str,
    rms_eps: &'static str,
    theta: &'static str,
    window: &'static str,
    layer_types: &'static str,
    n_experts: &'static str,
    n_used: &'static str,
    swiglu_limit: &'static str,
}

/// The number of layers `n_layers`, if lists may have so many entries.
///
/// # Errors
/// `invalid_model` naming `key`.
fn checked_layers(n_layers: usize, key: String) -> Result<usize> {
    if n_layers > MAX_LAYERS {
        return Err(Error::invalid("number of layers is absurd")
            .with("key", key)
            .with("found", n_layers)
            .with("limit", MAX_LAYERS));
    }
    Ok(n_layers)
}

impl ModelConfig {
    /// The same configuration, if its numbers fit together.
    ///
    /// # Errors
    /// `invalid_model` naming the key, what was found and what is possible.
    fn checked(self, keys: &Keys) -> Result<Self> {
        let invalid = |message: &'static str, name: &str| {
            Error::invalid(message).with("key", format!("{}{name}", keys.prefix))
        };
        for (name, count) in [
            (keys.n_layers, self.n_layers),
            (keys.n_embd, self.n_embd),
            (keys.n_ffn, self.n_ffn),
            (keys.n_heads, self.n_heads),
            (keys.n_kv_heads, self.n_kv_heads),
            (keys.n_vocab, self.n_vocab),
            (keys.context_length, self.context_length),
            (keys.n_rot, self.rope.n_rot),
        ] {
            if count == 0 {
                return Err(invalid("count is zero", name));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(invalid("count does not divide", keys.n_kv_heads)
                .with("found", self.n_kv_heads)
                .with("expected", format!("a divisor of {}", self.n_heads)));
        }
        if !self.rope.n_rot.is_multiple_of(2) || self.rope.n_rot > self.head_dim {
            return Err(invalid("rotated width is odd or wider than a head", keys.n_rot)
                .with("found", self.rope.n_rot)
                .with("limit", self.head_dim));
        }
        if self.head_dim > MAX_HEAD_DIM {
            return Err(invalid("a head is absurdly wide", keys.head_dim)
                .with("found", self.head_dim)
                .with("limit", MAX_HEAD_DIM));
        }
        let n_heads = self.n_heads as u64 + 2 * self.n_kv_heads as u64;
        let n_used = self.experts.map_or(1, |experts| experts.n_used as u64);
        for (name, width) in [
            (keys.n_heads, n_heads.saturating_mul(self.head_dim as u64)),
            (keys.n_embd, self.n_embd as u64),
            (keys.n_ffn, self.n_ffn as u64),
            (keys.n_used, n_used.saturating_mul(self.n_ffn as u64)),
            (keys.n_vocab, self.n_vocab as u64),
        ] {
            if width > MAX_WIDTH {
                return Err(invalid("a row of activations is absurdly wide", name)
                    .with("found", width)
                    .with("limit", MAX_WIDTH));
            }
        }
        if self.context_length > MAX_CONTEXT as usize {
            return Err(invalid("context length is absurd", keys.context_length)
                .with("found", self.context_length)
                .with("limit", MAX_CONTEXT));
        }
        if !(self.rms_eps > 0.0 && self.rms_eps < 1.0) {
            return Err(invalid("epsilon is not between 0 and 1", keys.rms_eps)
                .with("found", self.rms_eps.to_string()));
        }
        if !(self.rope.theta > 1.0 && self.rope.theta.is_finite()) {
            return Err(invalid("base of rotary frequencies is not above 1", keys.theta)
                .with("found", self.rope.theta.to_string()));
        }
        if let Some(sliding) = &self.sliding {
            if sliding.size == 0 {
                return Err(invalid("the window is empty", keys.window));
            }
            if sliding.layers.len() != self.n_layers {
                return Err(invalid("not one kind of attention for each layer", keys.layer_types)
                    .with("found", sliding.layers.len())
                    .with("expected", self.n_layers));
            }
        }
        if let Some(experts) = &self.experts {
            let rows_of_expert = (2 * self.n_ffn as u64).max(self.n_embd as u64);
            let n_rows = (experts.n_experts as u64).saturating_mul(rows_of_expert);
            if experts.n_experts == 0 || experts.n_experts > MAX_EXPERTS || n_rows > MAX_EXPERT_ROWS
            {
                return Err(invalid("number of experts is not possible", keys.n_experts)
                    .with("found", experts.n_experts)
                    .with("limit", MAX_EXPERTS));
            }
            if experts.n_used == 0 || experts.n_used > experts.n_experts {
                return Err(invalid("number of experts in use is not possible", keys.n_used)
                    .with("found", experts.n_used)
                    .with("limit", experts.n_experts));
            }
            if experts.swiglu_limit.is_nan() || experts.swiglu_limit <= 0.0 {
                return Err(invalid("limit is not positive", keys.swiglu_limit)
                    .with("found", experts.swiglu_limit.to_string()));
            }
        }
        Ok(self)
    }
}
