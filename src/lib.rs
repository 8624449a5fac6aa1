//! Pesi runs open-weight language models on WebGPU, inside a web page or natively.
//!
//! Data flows one way through the modules, in this order: [`source`] reads bytes, [`checkpoint`]
//! finds tensors in them, [`config`] says what model they make, [`weights`] packs them the way the
//! GPU reads them, [`model`] writes the computation as a plan of [`ops`], which `gpu` and [`cpu`]
//! carry out, [`sampler`] turns logits into tokens, [`session`] runs the whole over time,
//! [`tokenizer`] and [`chat`] translate to and from text, [`constrain`] says which tokens a grammar
//! allows. [`forecast`] tells what a model would take.

pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod constrain;
pub mod cpu;
pub mod engine;
pub mod error;
pub mod forecast;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;
pub mod model;
#[cfg(all(target_arch = "wasm32", not(all(feature = "grammars", feature = "templates"))))]
mod modules;
pub mod ops;
pub mod sampler;
pub mod session;
pub mod source;
pub mod store;
pub mod tokenizer;
#[cfg(all(target_arch = "wasm32", not(any(feature = "grammars", feature = "templates"))))]
mod wasm;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
