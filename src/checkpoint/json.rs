//! What the JSON parts of checkpoints share: maps in the order of the file, and error messages.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::Error;

/// The longest part of a file, or of a message about it, that an error carries, in characters.
const MAX_EXCERPT: usize = 200;

/// A string that is not copied unless it has escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Strings by key, every occurrence of a key included.
pub(super) struct Pairs<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<'a>(PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for PairsVisitor<'a> {
            type Value = Pairs<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

/// The beginning of `text`. Files from strangers may have strings of many megabytes.
pub(super) fn excerpt(text: &str) -> &str {
    text.char_indices().nth(MAX_EXCERPT).map_or(text, |(end, _)| &text[..end])
}

/// The error for JSON that is not well-formed or not of the form that is read.
pub(super) fn malformed(what: &str, error: &serde_json::Error) -> Error {
    Error::invalid(format!("{what} cannot be read: {}", excerpt(&error.to_string())))
        .with("line", error.line())
        .with("column", error.column())
}
