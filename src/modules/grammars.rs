//! Grammars, which are computed in a WebAssembly module of their own: the bindings to `modules/grammars`.
//!
//! The worker has it ready before anything here is called.

use js_sys::Function;
use wasm_bindgen::prelude::*;

use super::revived;
use crate::{
    constrain::{Encode, Part, Words},
    error::Result,
};

#[wasm_bindgen(raw_module = "./pesi_grammars.js")]
extern "C" {
    type Grammars;

    #[wasm_bindgen(constructor, catch)]
    fn new(bytes: &[u8], lengths: &[u32], encode: &Function) -> Result<Grammars, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn make(this: &Grammars, parts: &str) -> Result<Grammar, JsValue>;

    #[wasm_bindgen(method, js_name = free)]
    fn free(this: &Grammars);

    type Grammar;

    #[wasm_bindgen(method)]
    fn copy(this: &Grammar) -> Grammar;

    #[wasm_bindgen(method, catch)]
    fn allowed(this: &Grammar) -> Result<Vec<u32>, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn push(this: &Grammar, token: u32) -> Result<(), JsValue>;

    #[wasm_bindgen(method, js_name = isComplete)]
    fn is_complete(this: &Grammar) -> bool;

    #[wasm_bindgen(method, js_name = countAllowed)]
    fn count_allowed(this: &Grammar, tokens: &[u32]) -> usize;

    #[wasm_bindgen(method, js_name = free)]
    fn free_grammar(this: &Grammar);
}

/// Makes grammars for one vocabulary.
pub struct Factory {
    grammars: Grammars,
    /// Called by grammars as long as there are any.
    _encode: Closure<dyn Fn(String) -> Vec<u32>>,
}

impl Factory {
    /// For the tokens `words`, into which `encode` cuts a text.
    pub fn new(words: &Words, encode: Encode) -> Result<Self> {
        let encode = Closure::new(move |text: String| encode(&text));
        let function = encode.as_ref().unchecked_ref();
        let grammars = Grammars::new(&words.bytes, &words.lengths, function).map_err(revived)?;
        Ok(Self { grammars, _encode: encode })
    }

    /// The grammar of the first of `parts`, at the start of a text.
    pub fn make(&self, parts: &[Part]) -> Result<Matcher> {
        let parts = serde_json::to_string(parts).expect("names and texts are JSON");
        self.grammars.make(&parts).map(Matcher).map_err(revived)
    }
}

impl Drop for Factory {
    fn drop(&mut self) {
        self.grammars.free();
    }
}

/// A grammar, somewhere in a text.
pub struct Matcher(Grammar);

impl Matcher {
    /// Bits of what may come next, the lowest first.
    pub fn allowed(&mut self) -> Result<Vec<u32>> {
        self.0.allowed().map_err(revived)
    }

    /// Takes the token that came.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.0.push(token).map_err(revived)
    }

    /// Whether the text is complete, and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// How many of `tokens` the grammar allows after each other; it stays where it is.
    pub fn n_allowed(&mut self, tokens: &[u32]) -> usize {
        self.0.count_allowed(tokens)
    }
}

impl Clone for Matcher {
    fn clone(&self) -> Self {
        Self(self.0.copy())
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        self.0.free_grammar();
    }
}
