//! SmolLM2-135M-Instruct on the CPU and on the GPU: against the float32 reference, in 8 bits against 16,
//! over time, against its forecast, and where memory is refused.
//!
//! The model file is put into `.cache/models` by the set-up; without it, or without a GPU adapter
//! (a software one will do), these tests fail.

mod compact;
#[path = "../gpt_oss/divergence.rs"]
mod divergence;
mod forecast;
mod golden;
mod kv_cache;
mod limited;
mod lookup;
mod model;
mod out_of_memory;
#[path = "../checkpoint/reread.rs"]
#[expect(dead_code, reason = "these tests change no metadata")]
mod reread;
mod session;
#[path = "../checkpoint/writer.rs"]
#[expect(dead_code, reason = "these tests rewrite a file that is there")]
mod writer;
