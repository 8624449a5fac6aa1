//! Chat templates, which run in a WebAssembly module of their own: the bindings to `modules/templates`.
//!
//! The worker has it ready before a template is used; until then a template is but its text.

use std::cell::OnceCell;

use wasm_bindgen::prelude::*;

use super::revived;
use crate::{chat::TemplateRequest, error::Result};

#[wasm_bindgen(raw_module = "./pesi_templates.js")]
extern "C" {
    #[wasm_bindgen(js_name = Template)]
    type Compiled;

    #[wasm_bindgen(constructor, js_class = Template, catch)]
    fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Compiled, JsValue>;

    #[wasm_bindgen(method, js_class = Template, js_name = takesTools, catch)]
    fn takes_tools(this: &Compiled) -> Result<bool, JsValue>;

    #[wasm_bindgen(method, js_class = Template, catch)]
    fn render(this: &Compiled, request: &str) -> Result<String, JsValue>;

    #[wasm_bindgen(method, js_class = Template)]
    fn free(this: &Compiled);
}

/// A template, compiled when it is first used.
pub struct Template {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
    compiled: OnceCell<Compiled>,
}

impl Template {
    /// The template that `source` is, with the texts of special tokens.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        let (source, bos, eos) =
            (source.to_owned(), bos.map(str::to_owned), eos.map(str::to_owned));
        Ok(Self { source, bos, eos, compiled: OnceCell::new() })
    }

    /// Whether the template has a place for tools.
    pub fn takes_tools(&self) -> Result<bool> {
        self.compiled()?.takes_tools().map_err(revived)
    }

    /// The prompt that the template makes of a conversation.
    pub fn render(&self, request: &TemplateRequest) -> Result<String> {
        let request = serde_json::to_string(request).expect("requests are JSON");
        self.compiled()?.render(&request).map_err(revived)
    }

    fn compiled(&self) -> Result<&Compiled> {
        if let Some(compiled) = self.compiled.get() {
            return Ok(compiled);
        }
        let compiled = Compiled::new(&self.source, self.bos.as_deref(), self.eos.as_deref());
        let compiled = compiled.map_err(revived)?;
        Ok(self.compiled.get_or_init(|| compiled))
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        if let Some(compiled) = self.compiled.get() {
            compiled.free();
        }
    }
}
