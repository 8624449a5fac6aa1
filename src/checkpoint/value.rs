//! The values that GGUF metadata can have.

use std::{fmt, iter::FusedIterator};

use super::reader::{Read, Reader, utf8};
use crate::Error;

/// How deep arrays may contain arrays: `[[[[…]]]]` is the deepest. No published file nests any.
const MAX_ARRAY_DEPTH: u32 = 4;

/// One metadata value, in the type the file gives it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is named after its only field")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array of metadata values, which all have the same type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is named after its only field")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Strings(Strings),
    Arrays(Vec<Array>),
}

/// An immutable list of strings, held end to end in one allocation: a vocabulary and its merges are
/// several hundred thousand of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: Box<str>,
    /// Where each string ends in `text`, which is shorter than a header may be.
    ends: Box<[u32]>,
}

impl Strings {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |previous| self.ends[previous] as usize);
        Some(&self.text[start..end])
    }

    /// The strings in order.
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + FusedIterator + Clone {
        (0..self.len()).map(|index| &self[index])
    }
}

impl std::ops::Index<usize> for Strings {
    type Output = str;

    /// # Panics
    /// If `index` is not less than [`Strings::len`].
    fn index(&self, index: usize) -> &str {
        self.get(index).expect("the index is within the list")
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl Value {
    /// The value, if it is an integer of any width.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            _ => return None,
        })
    }

    /// The type, and the value where it is a number: a few words for error messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::F32(value) => format!("f32 {value}"),
            Self::F64(value) => format!("f64 {value}"),
            Self::Bool(value) => format!("bool {value}"),
            Self::String(_) => "string".to_owned(),
            Self::Array(array) => format!("array of {} {}", array.len(), array.element_name()),
            integer => format!("integer {}", integer.as_integer().unwrap_or_default()),
        }
    }

    /// Reads a value whose type the file numbers `type_number`.
    pub(super) fn read(reader: &mut Reader<'_>, type_number: u32) -> Read<Self> {
        Ok(match type_number {
            0 => Self::U8(u8::from_le_bytes(reader.array()?)),
            1 => Self::I8(i8::from_le_bytes(reader.array()?)),
            2 => Self::U16(u16::from_le_bytes(reader.array()?)),
            3 => Self::I16(i16::from_le_bytes(reader.array()?)),
            4 => Self::U32(reader.u32()?),
            5 => Self::I32(i32::from_le_bytes(reader.array()?)),
            6 => Self::F32(f32::from_le_bytes(reader.array()?)),
            7 => Self::Bool(read_bools(reader, 1, 0)?[0]),
            8 => Self::String(reader.str()?.to_owned()),
            9 => Self::Array(Array::read(reader, MAX_ARRAY_DEPTH, 0)?),
            10 => Self::U64(reader.u64()?),
            11 => Self::I64(i64::from_le_bytes(reader.array()?)),
            12 => Self::F64(f64::from_le_bytes(reader.array()?)),
            _ => return Err(unknown_type(reader, type_number).into()),
        })
    }
}

impl Array {
    /// The fewest bytes an array takes in a file: the type of its elements and their number.
    const MIN_BYTES: u64 = 4 + 8;

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Strings(values) => values.len(),
            Self::Arrays(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the elements are, for error messages.
    fn element_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::Strings(_) => "string",
            Self::Arrays(_) => "array",
        }
    }

    /// Reads an array in which `depth - 1` more levels may follow. `owed` is the fewest bytes that
    /// the arrays around it still take after it: they are no room for its own elements, so that
    /// the lengths of nested arrays cannot each claim the same bytes.
    fn read(reader: &mut Reader<'_>, depth: u32, owed: u64) -> Read<Self> {
        let type_number = reader.u32()?;
        let len = reader.u64()?;
        Ok(match type_number {
            0 => Self::U8(read_numbers(reader, len, owed, u8::from_le_bytes)?),
            1 => Self::I8(read_numbers(reader, len, owed, i8::from_le_bytes)?),
            2 => Self::U16(read_numbers(reader, len, owed, u16::from_le_bytes)?),
            3 => Self::I16(read_numbers(reader, len, owed, i16::from_le_bytes)?),
            4 => Self::U32(read_numbers(reader, len, owed, u32::from_le_bytes)?),
            5 => Self::I32(read_numbers(reader, len, owed, i32::from_le_bytes)?),
            6 => Self::F32(read_numbers(reader, len, owed, f32::from_le_bytes)?),
            7 => Self::Bool(read_bools(reader, len, owed)?),
            8 => Self::Strings(read_strings(reader, len, owed)?),
            9 => Self::Arrays(read_arrays(reader, len, depth, owed)?),
            10 => Self::U64(read_numbers(reader, len, owed, u64::from_le_bytes)?),
            11 => Self::I64(read_numbers(reader, len, owed, i64::from_le_bytes)?),
            12 => Self::F64(read_numbers(reader, len, owed, f64::from_le_bytes)?),
            _ => return Err(unknown_type(reader, type_number).into()),
        })
    }
}

fn unknown_type(reader: &Reader<'_>, type_number: u32) -> Error {
    Error::invalid("a metadata value has an unknown type")
        .with("type", type_number)
        .with("offset", reader.position())
}

/// `len` elements of `min_bytes` bytes or more, and `owed` bytes after them; beyond any file if the
/// sum does not fit.
fn room_for(len: u64, min_bytes: u64, owed: u64) -> u64 {
    len.saturating_mul(min_bytes).saturating_add(owed)
}

fn read_numbers<T, const N: usize>(
    reader: &mut Reader<'_>,
    len: u64,
    owed: u64,
    from_le_bytes: fn([u8; N]) -> T,
) -> Read<Vec<T>> {
    reader.require(room_for(len, N as u64, owed))?;
    let (elements, _) = reader.take(len * N as u64)?.as_chunks();
    Ok(elements.iter().map(|bytes| from_le_bytes(*bytes)).collect())
}

fn read_bools(reader: &mut Reader<'_>, len: u64, owed: u64) -> Read<Vec<bool>> {
    reader.require(room_for(len, 1, owed))?;
    let offset = reader.position();
    let bytes = reader.take(len)?;
    if let Some(index) = bytes.iter().position(|byte| *byte > 1) {
        return Err(Error::invalid("a boolean is neither 0 nor 1")
            .with("found", u32::from(bytes[index]))
            .with("offset", offset + index as u64)
            .into());
    }
    Ok(bytes.iter().map(|byte| *byte == 1).collect())
}

fn read_strings(reader: &mut Reader<'_>, len: u64, owed: u64) -> Read<Strings> {
    reader.require(room_for(len, 8, owed))?;
    let mut scout = reader.clone();
    let mut text_len = 0;
    for _ in 0..len {
        let n_bytes = scout.u64()?;
        text_len += scout.take(n_bytes)?.len();
    }
    let mut text = String::with_capacity(text_len);
    let mut ends = Vec::with_capacity(len as usize);
    for index in 0..len {
        let n_bytes = reader.u64()?;
        let offset = reader.position();
        let piece = utf8(reader.take(n_bytes)?, offset);
        text.push_str(piece.map_err(|stop| stop.with("index", index))?);
        ends.push(text.len() as u32);
    }
    Ok(Strings { text: text.into(), ends: ends.into() })
}

fn read_arrays(reader: &mut Reader<'_>, len: u64, depth: u32, owed: u64) -> Read<Vec<Array>> {
    if depth <= 1 {
        return Err(Error::invalid("arrays are nested too deep")
            .with("limit", MAX_ARRAY_DEPTH)
            .with("offset", reader.position())
            .into());
    }
    reader.require(room_for(len, Array::MIN_BYTES, owed))?;
    let mut arrays = Vec::with_capacity(len as usize);
    for index in 0..len {
        let rest = room_for(len - index - 1, Array::MIN_BYTES, owed);
        arrays.push(Array::read(reader, depth - 1, rest)?);
    }
    Ok(arrays)
}
