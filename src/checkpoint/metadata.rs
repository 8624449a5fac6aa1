//! The metadata of a GGUF file: keys and typed values.

use std::borrow::Cow;

use super::reader::{Read, Reader};
pub use super::value::{Array, Strings, Value};
use crate::{Error, Result};

/// The metadata of a file: values by key.
///
/// The typed accessors come in pairs. `u32(key)` fails if the key is absent; `optional_u32(key)`
/// returns `None` then. Both fail if the value has another type or does not fit. Errors are of kind
/// [`InvalidModel`](crate::ErrorKind::InvalidModel) and name the `key` and what was `expected` and
/// `found`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// In the order of the file.
    entries: Vec<(Box<str>, Value)>,
    /// Indices into `entries`, sorted by key. A sorted index takes the same time whatever the keys
    /// are, where a hash table could be attacked with colliding ones.
    by_key: Vec<u32>,
}

/// Defines pairs of accessors from functions that return `None` if a value does not fit.
macro_rules! accessors {
    ($($(#[$doc:meta])+ $name:ident, $optional:ident: $type:ty, $expected:literal, $convert:expr;)+) => {
        $(
            $(#[$doc])+
            pub fn $name(&self, key: &str) -> Result<$type> {
                self.$optional(key)?.ok_or_else(|| missing(key, $expected))
            }

            #[doc = concat!("As [`Metadata::", stringify!($name), "`], but `None` if the key is absent.")]
            pub fn $optional(&self, key: &str) -> Result<Option<$type>> {
                self.get(key)
                    .map(|value| $convert(value).ok_or_else(|| mismatch(key, $expected, value)))
                    .transpose()
            }
        )+
    };
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.by_key.binary_search_by(|index| self.key_at(*index).cmp(key)).ok()?;
        Some(&self.entries[self.by_key[found] as usize].1)
    }

    /// Every key and its value, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    accessors! {
        /// An integer of any width that fits 32 bits without a sign.
        u32, optional_u32: u32, "u32", integer;
        /// An integer of any width that fits 64 bits without a sign.
        u64, optional_u64: u64, "u64", integer;
        /// An integer of any width that fits 32 bits with a sign.
        i32, optional_i32: i32, "i32", integer;
        /// A float; one of double precision is rounded to the nearest.
        f32, optional_f32: f32, "f32", float;
        /// A truth value.
        bool, optional_bool: bool, "bool", boolean;
        /// A string.
        str, optional_str: &str, "string", string;
        /// An array of strings.
        str_array, optional_str_array: &Strings, "array of string", strings;
        /// An array of floats in single precision.
        f32_array, optional_f32_array: &[f32], "array of f32", floats;
        /// An array of integers of any width that fit 32 bits with a sign.
        i32_array, optional_i32_array: Cow<'_, [i32]>, "array of i32", i32s;
        /// An array of integers of any width that fit 32 bits without a sign.
        u32_array, optional_u32_array: Cow<'_, [u32]>, "array of u32", u32s;
    }

    fn key_at(&self, index: u32) -> &str {
        &self.entries[index as usize].0
    }

    /// The fewest bytes an entry takes in a file: a key's length, a type and a byte of value.
    pub(super) const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;

    /// Reads `n_entries` entries, for which `reader` is known to have the fewest bytes possible.
    pub(super) fn read(reader: &mut Reader<'_>, n_entries: u64) -> Read<Self> {
        let mut entries = Vec::with_capacity(n_entries as usize);
        for _ in 0..n_entries {
            let key = reader.name()?;
            let value = reader.u32().and_then(|type_number| Value::read(reader, type_number));
            entries.push((key.into(), value.map_err(|stop| stop.with("key", key))?));
        }
        Ok(Self::new(entries)?)
    }

    fn new(entries: Vec<(Box<str>, Value)>) -> Result<Self> {
        let mut metadata = Self { by_key: (0..entries.len() as u32).collect(), entries };
        let entries = &metadata.entries;
        let key = |index: &u32| &entries[*index as usize].0;
        metadata.by_key.sort_unstable_by(|left, right| key(left).cmp(key(right)));
        for pair in metadata.by_key.windows(2) {
            let key = metadata.key_at(pair[0]);
            if key == metadata.key_at(pair[1]) {
                return Err(Error::invalid("two metadata entries have the same key")
                    .with("key", key)
                    .with("first", pair[0].min(pair[1]))
                    .with("second", pair[0].max(pair[1])));
            }
        }
        Ok(metadata)
    }
}

fn missing(key: &str, expected: &'static str) -> Error {
    Error::invalid("a metadata key is missing").with("key", key).with("expected", expected)
}

fn mismatch(key: &str, expected: &'static str, value: &Value) -> Error {
    Error::invalid("a metadata value has the wrong type")
        .with("key", key)
        .with("expected", expected)
        .with("found", value.describe())
}

fn integer<T: TryFrom<i128>>(value: &Value) -> Option<T> {
    T::try_from(value.as_integer()?).ok()
}

fn float(value: &Value) -> Option<f32> {
    match value {
        Value::F32(value) => Some(*value),
        Value::F64(value) => Some(*value as f32),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    if let Value::Bool(value) = value { Some(*value) } else { None }
}

fn string(value: &Value) -> Option<&str> {
    if let Value::String(value) = value { Some(value) } else { None }
}

fn strings(value: &Value) -> Option<&Strings> {
    if let Value::Array(Array::Strings(values)) = value { Some(values) } else { None }
}

fn floats(value: &Value) -> Option<&[f32]> {
    if let Value::Array(Array::F32(values)) = value { Some(values) } else { None }
}

fn i32s(value: &Value) -> Option<Cow<'_, [i32]>> {
    match value {
        Value::Array(Array::I32(values)) => Some(values.into()),
        other => integers(other).map(Cow::Owned),
    }
}

fn u32s(value: &Value) -> Option<Cow<'_, [u32]>> {
    match value {
        Value::Array(Array::U32(values)) => Some(values.into()),
        other => integers(other).map(Cow::Owned),
    }
}

/// The elements of an array of integers, if each fits `T`.
fn integers<T>(value: &Value) -> Option<Vec<T>>
where
    T: TryFrom<u8> + TryFrom<i8> + TryFrom<u16> + TryFrom<i16>,
    T: TryFrom<u32> + TryFrom<i32> + TryFrom<u64> + TryFrom<i64>,
{
    fn convert<S: Copy, T: TryFrom<S>>(values: &[S]) -> Option<Vec<T>> {
        values.iter().map(|value| T::try_from(*value).ok()).collect()
    }
    let Value::Array(array) = value else { return None };
    match array {
        Array::U8(values) => convert(values),
        Array::I8(values) => convert(values),
        Array::U16(values) => convert(values),
        Array::I16(values) => convert(values),
        Array::U32(values) => convert(values),
        Array::I32(values) => convert(values),
        Array::U64(values) => convert(values),
        Array::I64(values) => convert(values),
        Array::F32(_) | Array::F64(_) | Array::Bool(_) | Array::Strings(_) | Array::Arrays(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Detail;

    fn metadata(values: &[(&str, Value)]) -> Metadata {
        let entries = values.iter().map(|(key, value)| ((*key).into(), value.clone()));
        Metadata::new(entries.collect()).unwrap()
    }

    #[test]
    fn integers_of_any_width_are_accepted_in_range_only() {
        let metadata = metadata(&[
            ("u8", Value::U8(7)),
            ("i64", Value::I64(7)),
            ("negative", Value::I16(-1)),
            ("large", Value::U64(1 << 32)),
            ("array", Value::Array(Array::U16(vec![1, 2]))),
            ("negatives", Value::Array(Array::I8(vec![1, -2]))),
        ]);
        assert_eq!(metadata.u32("u8").unwrap(), 7);
        assert_eq!(metadata.u32("i64").unwrap(), 7);
        assert_eq!(metadata.i32("negative").unwrap(), -1);
        assert_eq!(metadata.u64("large").unwrap(), 1 << 32);
        assert_eq!(*metadata.i32_array("array").unwrap(), [1, 2]);
        assert_eq!(*metadata.i32_array("negatives").unwrap(), [1, -2]);
        for key in ["negative", "large"] {
            let error = metadata.optional_u32(key).unwrap_err();
            assert_eq!(error.detail("key"), Some(&Detail::from(key)));
        }
        let error = metadata.u32_array("negatives").unwrap_err();
        assert_eq!(error.detail("found"), Some(&Detail::from("array of 2 i8")));
    }

    #[test]
    fn absent_is_none_where_optional_and_an_error_where_required() {
        let metadata = metadata(&[("present", Value::Bool(true))]);
        assert_eq!(metadata.optional_str("absent").unwrap(), None);
        let error = metadata.str("absent").unwrap_err();
        assert_eq!(error.to_string(), "a metadata key is missing (key: absent, expected: string)");
        let error = metadata.optional_f32("present").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a metadata value has the wrong type (key: present, expected: f32, found: bool true)"
        );
    }

    #[test]
    fn floats_booleans_and_strings_are_not_converted_into_each_other() {
        let metadata = metadata(&[
            ("f64", Value::F64(0.1)),
            ("u32", Value::U32(1)),
            ("string", Value::String("1".into())),
        ]);
        assert_eq!(metadata.f32("f64").unwrap(), 0.1);
        assert!(metadata.f32("u32").is_err());
        assert!(metadata.bool("u32").is_err());
        assert!(metadata.u32("string").is_err());
        assert!(metadata.str("u32").is_err());
    }
}
