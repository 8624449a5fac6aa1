//! safetensors, the file format of models on the Hugging Face hub.
//!
//! A file is: the size of the header (u64); the header, a JSON object which gives for each tensor
//! its encoding (`dtype`), its extents (`shape`, outermost first) and its first byte and the one
//! after its last (`data_offsets`, counted from the data section), and which may have strings under
//! `__metadata__`; then the data section. Tensors cover the data section without gaps.

use std::{borrow::Cow, fmt, mem, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::{
    DType, TensorInfo,
    json::{Pairs, Text, excerpt, malformed},
    reader::{MAX_NAME_BYTES, Parsed, Read, Reader, parse_prefix},
    table,
};
use crate::{Error, Result};

/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// The most dimensions a tensor has. Published models use up to five.
const MAX_DIMENSIONS: usize = 8;

/// What the header of a safetensors file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Safetensors {
    /// The tensors in the order of their offsets. No two overlap.
    pub tensors: Vec<TensorInfo>,
    /// The size of everything before the data section, in bytes.
    pub header_len: u64,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

impl Safetensors {
    /// Parses the header of a file of `file_len` bytes from `prefix`, the first of them.
    ///
    /// Every size and offset is checked against the size of the file, so the tensors that are
    /// returned lie within it and account for each of its bytes. Memory in use stays below sixteen
    /// times `prefix.len()` and a few KiB.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) if the file is no safetensors file,
    /// contradicts itself or is cut short; [`Unsupported`](crate::ErrorKind::Unsupported) for
    /// encodings other than F32, F16, BF16 and U8 and for headers of more than 64 MiB. The details
    /// name the `tensor` and the numbers in conflict.
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `prefix` is longer than the file.
    pub fn parse(prefix: &[u8], file_len: u64) -> Result<Parsed<Self>> {
        parse_prefix(prefix, file_len, |reader| parse(reader, file_len))
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        table::find(&self.tensors, &self.by_name, name)
    }
}

fn parse(reader: &mut Reader<'_>, file_len: u64) -> Read<Safetensors> {
    let n_bytes = reader.u64()?;
    let json = reader.take(n_bytes)?;
    let header_len = reader.position();
    let mut header = Header::new(header_len..file_len);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = (&mut header).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    read.map_err(|error| header.explain(&error))?;

    let Header { data, mut tensors, .. } = header;
    tensors.sort_unstable_by_key(|tensor| tensor.offset);
    table::check_overlaps(&tensors)?;
    check_gaps(&tensors, &data)?;
    let by_name = table::index_names(&tensors)?;
    Ok(Safetensors { tensors, header_len, by_name })
}

/// Collects the tensors of a header while its JSON is read.
struct Header {
    /// Where the data section lies in the file.
    data: Range<u64>,
    tensors: Vec<TensorInfo>,
    has_metadata: bool,
    /// The tensor whose description could not be read.
    unreadable: Option<String>,
    /// What is wrong with a description that could be read. It ends the reading.
    failure: Option<Error>,
}

impl Header {
    fn new(data: Range<u64>) -> Self {
        Self { data, tensors: Vec::new(), has_metadata: false, unreadable: None, failure: None }
    }

    /// The error behind one of the JSON reader.
    fn explain(&mut self, error: &serde_json::Error) -> Error {
        self.failure.take().unwrap_or_else(|| {
            let malformed = malformed("the header of the file", error);
            match self.unreadable.take() {
                Some(name) => malformed.with("tensor", name),
                None => malformed,
            }
        })
    }

    /// Keeps `failure` and gives the reader an error to stop at.
    fn fail<E: serde::de::Error>(&mut self, failure: Error) -> E {
        self.failure = Some(failure);
        E::custom("the header contradicts itself")
    }
}

impl<'de> DeserializeSeed<'de> for &mut Header {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Header {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if name == METADATA {
                map.next_value::<Pairs<'_>>()?;
                if mem::replace(&mut self.has_metadata, true) {
                    return Err(self.fail(
                        Error::invalid("a key of the header occurs twice").with("key", METADATA),
                    ));
                }
                continue;
            }
            if name.len() as u64 > MAX_NAME_BYTES {
                return Err(self.fail(
                    Error::invalid("a name is too long")
                        .with("needed", name.len())
                        .with("limit", MAX_NAME_BYTES),
                ));
            }
            let name = name.into_owned();
            match map.next_value::<Description<'_>>() {
                Ok(description) => match description.locate(&self.data) {
                    Ok(tensor) => self.tensors.push(TensorInfo { name, ..tensor }),
                    Err(error) => return Err(self.fail(error.with("tensor", name))),
                },
                Err(error) => {
                    self.unreadable = Some(name);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// What the header says of one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    #[serde(deserialize_with = "read_shape")]
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Description<'_> {
    /// The tensor, without a name, in a file whose data section is `data`.
    fn locate(self, data: &Range<u64>) -> Result<TensorInfo> {
        let dtype = DType::from_safetensors(&self.dtype).ok_or_else(|| {
            Error::unsupported("a tensor has an encoding that is not supported")
                .with("found", excerpt(&self.dtype))
        })?;
        let n_bytes = table::size_of_shape(&self.shape, dtype)?;
        let (start, end) = self.data_offsets;
        let found = end.checked_sub(start).ok_or_else(|| {
            Error::invalid("a tensor ends before it begins").with("offset", start).with("end", end)
        })?;
        if found != n_bytes {
            return Err(Error::invalid("the bytes of a tensor are not those of its shape")
                .with("shape", format!("{:?}", self.shape))
                .with("type", dtype.name())
                .with("expected", n_bytes)
                .with("found", found));
        }
        let section_len = data.end - data.start;
        if end > section_len {
            return Err(Error::invalid("a tensor lies outside the file")
                .with("offset", start)
                .with("needed", n_bytes)
                .with("limit", section_len));
        }
        let offset = data.start + start;
        Ok(TensorInfo { name: String::new(), shape: self.shape, dtype, offset, n_bytes })
    }
}

/// Reads extents into a place of fixed size: a list of small numbers takes fewer bytes in a file
/// than in memory.
fn read_shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Shape;
    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<u64>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "an array of at most {MAX_DIMENSIONS} extents")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut extents = [0; MAX_DIMENSIONS];
            let mut n_dimensions = 0;
            while let Some(extent) = sequence.next_element()? {
                let place = extents.get_mut(n_dimensions);
                *place.ok_or_else(|| A::Error::invalid_length(n_dimensions + 1, &self))? = extent;
                n_dimensions += 1;
            }
            Ok(extents[..n_dimensions].to_vec())
        }
    }
    deserializer.deserialize_seq(Shape)
}

/// Checks that tensors, which are sorted by offset and do not overlap, cover `data`.
fn check_gaps(tensors: &[TensorInfo], data: &Range<u64>) -> Result<()> {
    let mut end = data.start;
    for tensor in tensors {
        if tensor.offset != end {
            return Err(Error::invalid("bytes before a tensor belong to none")
                .with("tensor", &*tensor.name)
                .with("expected", end)
                .with("found", tensor.offset));
        }
        end += tensor.n_bytes;
    }
    if end != data.end {
        return Err(Error::invalid("the file goes on after its last tensor")
            .with("expected", end)
            .with("found", data.end));
    }
    Ok(())
}
