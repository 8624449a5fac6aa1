//! Chat templates as a WebAssembly module of their own.
//!
//! What `pesi::chat::template` does, for the module that has the model: `src/modules/templates.rs` there is the
//! other end. Requests come as JSON, errors are thrown as JSON. What else is thrown is a defect.
#![cfg(target_arch = "wasm32")]

use pesi::{Error, chat::template};
use wasm_bindgen::prelude::*;

/// Makes defects tell where they are.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
}

/// A compiled template.
#[wasm_bindgen]
pub struct Template(template::Template);

#[wasm_bindgen]
impl Template {
    /// Compiles `source`; `bos` and `eos` are the texts of special tokens.
    #[wasm_bindgen(constructor)]
    pub fn new(
        source: &str,
        bos: Option<String>,
        eos: Option<String>,
    ) -> Result<Template, JsValue> {
        template::Template::new(source, bos.as_deref(), eos.as_deref()).map(Self).map_err(thrown)
    }

    /// Whether it has a place for tools.
    #[wasm_bindgen(js_name = takesTools)]
    pub fn takes_tools(&self) -> Result<bool, JsValue> {
        self.0.takes_tools().map_err(thrown)
    }

    /// The prompt of a conversation.
    pub fn render(&self, request: &str) -> Result<String, JsValue> {
        // The other module wrote it: it is only too deep, if anything is wrong.
        let request = serde_json::from_str(request).map_err(|error| {
            thrown(Error::argument("the messages cannot be read").with("reason", error.to_string()))
        })?;
        self.0.render(&request).map_err(thrown)
    }
}

fn thrown(error: Error) -> JsValue {
    serde_json::to_string(&error).expect("errors are JSON").into()
}
