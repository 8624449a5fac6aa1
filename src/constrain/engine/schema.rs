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

/// Addresses of mail whose parts are no longer than they may be (RFC 5321): 64 characters ahead of the
/// sign, 253 after it. Up to 32 that are no stops, and eight names of up to 30 characters, are within that.
const EMAIL: &str = concat!(
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-](\.?[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]){0,31}",
    r"@[A-Za-z0-9]([A-Za-z0-9-]{0,28}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,28}[A-Za-z0-9])?){0,7}$",
);

/// Times whose minutes have 60 seconds: a leap second is one only at the end of a day, which a pattern
/// cannot tell.
const NO_LEAP_SECOND: &str = r":[0-5][0-9]:[0-5]";

/// The whole numbers that doubles are exact for. Whether one is a multiple cannot be told beyond them by
/// those who read numbers as doubles.
const EXACT: [(&str, &str, i64); 2] = [
    ("minimum", "exclusiveMinimum", -((1 << 53) - 1)),
    ("maximum", "exclusiveMaximum", (1 << 53) - 1),
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
            adapt(&mut schema);
            Ok(with_options(schema))
        }
        Value::Bool(true) => Ok(with_options(json!({}))),
        _ => Err(Error::argument("the schema is no object")),
    }
}

/// Takes out formats that no standard has, and adds what `llguidance` does not hold to of itself. Recursion
/// is bounded by the reader of JSON, which takes 128 levels.
fn adapt(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(adapt),
        Value::Object(keywords) => {
            let format = keywords.get("format").and_then(Value::as_str);
            if format.is_some_and(|format| !FORMATS.contains(&format)) {
                keywords.shift_remove("format");
            }
            if keywords.get("format").is_some_and(|format| format == "email")
                && !keywords.contains_key("pattern")
            {
                keywords.shift_remove("format");
                keywords.insert("pattern".to_owned(), EMAIL.into());
            }
            let has_time = keywords
                .get("format")
                .is_some_and(|format| format == "date-time" || format == "time");
            if has_time && !keywords.contains_key("pattern") {
                keywords.insert("pattern".to_owned(), NO_LEAP_SECOND.into());
            }
            if keywords.contains_key("multipleOf") {
                for (bound, other, limit) in EXACT {
                    if !keywords.contains_key(bound) && !keywords.contains_key(other) {
                        keywords.insert(bound.to_owned(), limit.into());
                    }
                }
            }
            for (keyword, value) in keywords.iter_mut() {
                if DATA.contains(&keyword.as_str()) {
                    continue;
                }
                match value {
                    Value::Object(schemas) if NAMED.contains(&keyword.as_str()) => {
                        schemas.values_mut().for_each(adapt);
                    }
                    value => adapt(value),
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
