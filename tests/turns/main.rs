//! Several requests to one model over time: those that are aborted leave nothing behind, and those that
//! take turns have the tokens that they have alone.

mod aborts;
#[path = "../gpt_oss/model.rs"]
#[expect(dead_code, reason = "these tests compare with no golden file")]
mod gpt_oss;
mod interleaved;
mod models;
#[path = "../llama/tiny.rs"]
mod tiny;
#[path = "../checkpoint/writer.rs"]
#[expect(dead_code, reason = "these tests write sound files only")]
mod writer;
