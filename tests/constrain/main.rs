//! Grammars over real vocabularies: what they accept and reject, and answers that follow them.

mod answers;
mod calls;
#[path = "../gpt_oss/model.rs"]
#[expect(dead_code, reason = "these tests compare with no golden file")]
mod gpt_oss;
mod samples;
mod schemas;
#[path = "../smollm2/model.rs"]
#[expect(dead_code, reason = "these tests open the model as it is")]
mod smollm2;
