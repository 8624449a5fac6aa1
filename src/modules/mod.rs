//! The WebAssembly modules beside a page's own: the bindings to those of `modules/`.
//!
//! Each has a twin here with the interface that the code has where it is linked. Constraints and requests go
//! there as JSON, tokens and masks as numbers; errors come back as JSON.

#[cfg(not(feature = "grammars"))]
pub mod grammars;
#[cfg(not(feature = "templates"))]
pub mod templates;

use wasm_bindgen::JsValue;

use crate::error::Error;

/// What another module threw: an error as JSON. Anything else is a defect there, and goes on as a defect here
/// would.
fn revived(thrown: JsValue) -> Error {
    let error = thrown.as_string().and_then(|json| serde_json::from_str(&json).ok());
    error.unwrap_or_else(|| wasm_bindgen::throw_val(thrown))
}
