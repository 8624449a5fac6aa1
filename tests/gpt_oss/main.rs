//! Small gpt-oss models with random weights, as safetensors and as GGUF, against the float32 reference:
//! logits, greedy tokens, hidden states, in every way that a prompt may be cut; both formats against
//! each other; sets of several files; 8-bit against 16-bit weights; the whole vocabulary; answers;
//! forecasts; hostile files.

mod answers;
mod autotune;
mod compact;
mod damage;
mod damage_gguf;
mod divergence;
mod files;
mod forecast;
mod formats;
mod golden;
mod kv_cache;
mod logprobs;
mod memory;
mod model;
mod outputs;
mod real_vocabulary;
#[path = "../checkpoint/reread.rs"]
mod reread;
mod ring;
mod split;
mod threads;
#[path = "../checkpoint/writer.rs"]
#[expect(dead_code, reason = "these tests change files that are there")]
mod writer;
