//! JSON schemas as `llguidance` takes them, and what it says of those it does not serve.

use serde_json::{Value, json};

use super::reason;
use crate::error::{Error, ErrorKind, Result};

/// Where `llguidance` looks for its options.
const OPTIONS: &str = "x-guidance";

/// White space between the parts of JSON: enough to write it on lines, and an end to it, since a model
/// that draws at random may go on with spaces for good.
const WHITE_SPACE: &str = r"[ \t\r\n]{1,32}";

/// The formats of the standard. Others are remarks of their author, and the standard has them ignored.
const FORMATS: [&str; 19] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uuid",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];

/// Keywords whose values have schemas by names that are not keywords.
const NAMED: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords whose values are data and not schemas.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// The schema of all objects.
pub fn any_object() -> Value {
    with_options(json!({ "type": "object" }))
}

/// Reads a schema.
///
/// # Errors
/// `invalid_argument` when it is no JSON, or neither an object nor a truth value.
pub fn read(source: &str) -> Result<Value> {
    let schema = serde_json::from_str(source).map_err(|error| {
        Error::argument("the schema is not JSON").with("reason", error.to_string())
    })?;
    match schema {
        Value::Object(_) => {
            let mut schema = schema;
            ignore_own_formats(&mut schema);
            Ok(with_options(schema))
        }
        Value::Bool(true) => Ok(with_options(json!({}))),
        _ => Err(Error::argument("the schema is no object")),
    }
}

/// Takes out formats that no standard has. Recursion is bounded by the reader of JSON, which takes 128
/// levels.
fn ignore_own_formats(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(ignore_own_formats),
        Value::Object(keywords) => {
            let format = keywords.get("format").and_then(Value::as_str);
            if format.is_some_and(|format| !FORMATS.contains(&format)) {
                keywords.shift_remove("format");
            }
            for (keyword, value) in keywords.iter_mut() {
                if DATA.contains(&keyword.as_str()) {
                    continue;
                }
                match value {
                    Value::Object(schemas) if NAMED.contains(&keyword.as_str()) => {
                        schemas.values_mut().for_each(ignore_own_formats);
                    }
                    value => ignore_own_formats(value),
                }
            }
        }
        _ => {}
    }
}

fn with_options(mut schema: Value) -> Value {
    // Whatever a schema says under this name is not for the caller to set.
    schema[OPTIONS] = json!({ "whitespace_pattern": WHITE_SPACE });
    schema
}

/// An error about a schema: `unsupported` where a keyword or what it says is not served.
pub fn refused(error: &anyhow::Error) -> Error {
    let reason = reason(error);
    let unserved = ["Unimplemented keys", "not supported", "only supported", "Unknown format"];
    let is_unserved = unserved.iter().any(|what| reason.contains(what));
    let kind = if is_unserved { ErrorKind::Unsupported } else { ErrorKind::InvalidArgument };
    let keyword = keyword(&reason);
    let error = Error::new(kind, "the schema cannot be served").with("reason", reason);
    match keyword {
        Some(keyword) => error.with("keyword", keyword),
        None => error,
    }
}

/// The keyword that a message is about.
fn keyword(message: &str) -> Option<String> {
    if let Some((_, list)) = message.split_once("Unimplemented keys: [") {
        let names = list.split(']').next()?.replace('"', "");
        return Some(names);
    }
    let named =
        ["oneOf", "format", "maxProperties", "patternProperties", "pattern", "multipleOf", "$ref"];
    named.into_iter().find(|name| message.contains(name)).map(str::to_owned)
}
