//! Errors on their way to JavaScript, and failures of browser calls on their way in.

use js_sys::{Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};

use crate::error::{Detail, Error, ErrorKind};

/// The error as `{ name: "PesiError", kind, message, details }`.
pub fn to_js(error: Error) -> JsValue {
    let details = Object::new();
    for (name, detail) in error.details() {
        let value = match detail {
            Detail::Number(number) => JsValue::from_f64(*number as f64),
            Detail::Text(text) => JsValue::from_str(text),
        };
        set(&details, name, &value);
    }
    let object = Object::new();
    set(&object, "name", &"PesiError".into());
    set(&object, "kind", &error.kind().as_str().into());
    set(&object, "message", &error.to_string().into());
    set(&object, "details", &details);
    object.into()
}

/// Sets a property of a new object.
pub fn set(object: &Object, name: &str, value: &JsValue) {
    Reflect::set(object, &name.into(), value).expect("a new object takes properties");
}

/// What a browser call threw, as an error of `kind` unless it says otherwise itself.
pub fn from_thrown(kind: ErrorKind, what: &str, thrown: &JsValue) -> Error {
    let text = |name: &str| Reflect::get(thrown, &name.into()).ok().and_then(|v| v.as_string());
    let (name, message) = match thrown.is_object() {
        true => (text("name").unwrap_or_default(), text("message").unwrap_or_default()),
        false => (String::new(), thrown.as_string().unwrap_or_default()),
    };
    let kind = match name.as_str() {
        "QuotaExceededError" => ErrorKind::QuotaExceeded,
        "AbortError" => ErrorKind::Aborted,
        _ => kind,
    };
    Error::new(kind, format!("{what}: {name} {message}"))
}

/// The cast of a value that a browser call returned.
///
/// # Errors
/// `storage` or whatever `kind` is, when the browser returned something else.
pub fn cast<T: JsCast>(kind: ErrorKind, what: &str, value: JsValue) -> Result<T, Error> {
    value
        .dyn_into()
        .map_err(|_| Error::new(kind, format!("{what}: the browser returned something else")))
}
