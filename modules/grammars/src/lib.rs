//! Grammars as a WebAssembly module of their own.
//!
//! What `pesi::constrain::engine` does, for the module that has the model: `src/modules/grammars.rs` there is the
//! other end. Constraints come as JSON, tokens and masks as numbers, errors are thrown as JSON. What else is
//! thrown is a defect.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;

use js_sys::{Function, Uint32Array};
use pesi::constrain::{
    Words,
    engine::{Factory, Matcher},
};
use wasm_bindgen::prelude::*;

thread_local! {
    /// Cuts a text into tokens: the worker has one model, whose vocabulary it is. `llguidance` would have what it
    /// holds itself go to other threads, where functions of JavaScript cannot go.
    static ENCODE: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Makes defects tell where they are.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
}

/// Makes grammars for one vocabulary.
#[wasm_bindgen]
pub struct Grammars(Factory);

#[wasm_bindgen]
impl Grammars {
    /// For tokens of so many `bytes`, one after the other, into which `encode` cuts a text.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>, lengths: Vec<u32>, encode: Function) -> Result<Grammars, JsValue> {
        ENCODE.set(Some(encode));
        Factory::new(&Words { bytes, lengths }, Box::new(encoded)).map(Self).map_err(thrown)
    }

    /// The grammar of the first of `parts`, a list of names with their constraints.
    pub fn make(&self, parts: &str) -> Result<Grammar, JsValue> {
        let parts: Vec<_> = serde_json::from_str(parts).expect("the other module wrote it");
        self.0.make(&parts).map(Grammar).map_err(thrown)
    }
}

/// A grammar, somewhere in a text.
#[wasm_bindgen]
pub struct Grammar(Matcher);

#[wasm_bindgen]
impl Grammar {
    /// Another one in the same place.
    pub fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    /// Bits of what may come next.
    pub fn allowed(&mut self) -> Result<Vec<u32>, JsValue> {
        self.0.allowed().map_err(thrown)
    }

    /// Takes the token that came.
    pub fn push(&mut self, token: u32) -> Result<(), JsValue> {
        self.0.push(token).map_err(thrown)
    }

    /// Whether nothing can follow.
    #[wasm_bindgen(js_name = isComplete)]
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// How many of `tokens` may come after each other.
    #[wasm_bindgen(js_name = countAllowed)]
    pub fn count_allowed(&mut self, tokens: &[u32]) -> usize {
        self.0.n_allowed(tokens)
    }
}

fn encoded(text: &str) -> Vec<u32> {
    let encode = ENCODE.with_borrow(Option::clone).expect("vocabularies come with it");
    let tokens = encode.call1(&JsValue::NULL, &text.into());
    Uint32Array::new(&tokens.unwrap_or_else(|thrown| wasm_bindgen::throw_val(thrown))).to_vec()
}

fn thrown(error: pesi::Error) -> JsValue {
    serde_json::to_string(&error).expect("errors are JSON").into()
}
