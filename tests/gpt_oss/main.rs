//! Small gpt-oss models with random weights, as safetensors and as GGUF, against the float32 reference:
//! logits, greedy tokens, hidden states, in every way that a prompt may be cut; both formats against
//! each other; 8-bit against 16-bit weights; hostile files.

mod compact;
mod damage;
mod formats;
mod golden;
mod model;
mod ring;
