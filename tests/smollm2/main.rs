//! SmolLM2-135M-Instruct on the CPU and on the GPU: against the float32 reference, and over time.
//!
//! The model file is put into `.cache/models` by the set-up; without it, or without a GPU adapter
//! (a software one will do), these tests fail.

mod golden;
mod model;
mod session;
