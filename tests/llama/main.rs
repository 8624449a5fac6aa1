//! Small Llama models of every kind that a file may hold: packed weights against the file's own decoding,
//! whole models on the CPU and the GPU against a plain double-precision forward pass, forecasts,
//! damaged files.

mod damage;
mod forecast;
mod forward;
mod packing;
mod tiny;
#[path = "../checkpoint/writer.rs"]
#[expect(dead_code, reason = "these tests write sound files only")]
mod writer;
