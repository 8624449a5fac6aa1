//! Model families: each file writes one family's computation as a plan, in reading order.

mod llama;

use crate::{checkpoint::Gguf, config::ModelConfig, error::Result, ops::Plan, weights::Precision};

/// The plan of the model that `gguf` holds.
///
/// `rope_divisors` is the content of the tensor that [`rope_divisors_tensor`] names, if any.
///
/// # Errors
/// `invalid_model` or `unsupported`, naming the tensor.
pub fn plan(
    gguf: &Gguf,
    config: &ModelConfig,
    precision: Precision,
    rope_divisors: Option<&[f32]>,
) -> Result<Plan> {
    llama::plan(gguf, config, precision, rope_divisors)
}

/// Name of the tensor by which the file's model divides its rotary frequencies.
pub const ROPE_DIVISORS_TENSOR: &str = "rope_freqs.weight";
