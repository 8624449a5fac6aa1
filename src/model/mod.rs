//! Model families: each file writes one family's computation as a plan, in reading order.

mod gpt_oss;
mod llama;

use crate::{
    checkpoint::TensorTable,
    config::{Architecture, ModelConfig},
    error::Result,
    ops::{Heads, Norm, Plan, rope::RopeTable},
    weights::{Precision, WeightId, WeightTableBuilder},
};

/// The plan of the model whose files hold `tensors`.
///
/// `rope_divisors` is the content of the tensor called [`ROPE_DIVISORS_TENSOR`], if any.
///
/// # Errors
/// `invalid_model` or `unsupported`, naming the tensor.
pub fn plan(
    tensors: &TensorTable,
    config: &ModelConfig,
    precision: Precision,
    rope_divisors: Option<&[f32]>,
) -> Result<Plan> {
    match config.architecture {
        Architecture::Llama => llama::plan(tensors, config, precision, rope_divisors),
        Architecture::GptOss => gpt_oss::plan(tensors, config, precision, rope_divisors),
    }
}

/// Name of the tensor by which a model divides its rotary frequencies.
pub const ROPE_DIVISORS_TENSOR: &str = "rope_freqs.weight";

fn heads(config: &ModelConfig) -> Heads {
    Heads { n_heads: config.n_heads, n_kv_heads: config.n_kv_heads, head_dim: config.head_dim }
}

fn rope_table(config: &ModelConfig, divisors: Option<&[f32]>) -> RopeTable {
    RopeTable { frequencies: config.rope.frequencies(divisors), magnitude: config.rope.magnitude() }
}

fn norm(
    weights: &mut WeightTableBuilder<'_>,
    config: &ModelConfig,
    name: String,
    tensor: &str,
) -> Result<Norm> {
    let gain = weights.vector(name, &[(tensor, config.n_embd)])?;
    Ok(Norm { gain, eps: config.rms_eps })
}

/// The biases of a projection, where the file has them: all or none.
fn optional_bias(
    weights: &mut WeightTableBuilder<'_>,
    name: String,
    tensors: &[(&str, usize)],
) -> Result<Option<WeightId>> {
    if tensors.iter().any(|(tensor, _)| weights.has(tensor)) {
        weights.vector(name, tensors).map(Some)
    } else {
        Ok(None)
    }
}
