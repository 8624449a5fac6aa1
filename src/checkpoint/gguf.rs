//! GGUF, the file format of llama.cpp and its relatives: versions 2 and 3, little endian.
//!
//! A file is: the magic `GGUF`, the version (u32), the number of tensors and of metadata entries
//! (u64 each); the entries; for each tensor its name, extents (innermost first), encoding and offset;
//! padding; then the data section, from whose start those offsets count.

use std::ops::Range;

use super::{
    DType, Metadata, TensorInfo,
    dtype::other_ggml_name,
    reader::{Parsed, Read, Reader, parse_prefix},
    table,
};
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"GGUF";

/// The most dimensions a tensor has.
const MAX_DIMENSIONS: u32 = 4;

/// The fewest bytes a tensor takes in the header: the length of a name, the number of dimensions,
/// one extent, the encoding and the offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// The alignment of tensors in a file that does not name one, in bytes.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The largest alignment accepted, in bytes.
const MAX_ALIGNMENT: u32 = 1 << 20;

/// What the header of a GGUF file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// The version of the format: 2 or 3.
    pub version: u32,
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors in the order of their offsets. No two overlap.
    pub tensors: Vec<TensorInfo>,
    /// The size of everything before the data section, padding included, in bytes.
    pub header_len: u64,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Parses the header of a file of `file_len` bytes from `prefix`, the first of them.
    ///
    /// Every count, length and offset is checked against the size of the file, so the tensors that
    /// are returned lie within it. Memory in use stays below five times `prefix.len()` and a few
    /// KiB.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) if the file is no GGUF, contradicts itself
    /// or is cut short; [`Unsupported`](crate::ErrorKind::Unsupported) for version 1, big-endian
    /// files, unknown tensor encodings and headers of more than 64 MiB. The details name the `key`
    /// or `tensor`, the `offset` and the numbers in conflict.
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `prefix` is longer than the file.
    pub fn parse(prefix: &[u8], file_len: u64) -> Result<Parsed<Self>> {
        parse_prefix(prefix, file_len, |reader| parse(reader, file_len))
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        table::find(&self.tensors, &self.by_name, name)
    }
}

fn parse(reader: &mut Reader<'_>, file_len: u64) -> Read<Gguf> {
    let version = read_version(reader)?;
    let n_tensors = reader.u64()?;
    let n_entries = reader.u64()?;
    let for_tensors = n_tensors.saturating_mul(MIN_TENSOR_BYTES);
    let for_entries = n_entries.saturating_mul(Metadata::MIN_ENTRY_BYTES);
    reader
        .require(for_tensors.saturating_add(for_entries))
        .map_err(|stop| stop.with("n_tensors", n_tensors).with("n_metadata_entries", n_entries))?;

    let metadata = Metadata::read(reader, n_entries)?;
    let alignment = read_alignment(&metadata)?;

    reader.require(for_tensors).map_err(|stop| stop.with("n_tensors", n_tensors))?;
    let mut tensors = Vec::with_capacity(n_tensors as usize);
    for _ in 0..n_tensors {
        let name = reader.name()?;
        let tensor = read_tensor(reader, name).map_err(|stop| stop.with("tensor", name))?;
        tensors.push(tensor);
    }

    let data = reader.position().next_multiple_of(alignment).min(file_len)..file_len;
    for tensor in &mut tensors {
        locate(tensor, alignment, &data).map_err(|error| error.with("tensor", &*tensor.name))?;
    }
    tensors.sort_unstable_by_key(|tensor| tensor.offset);
    table::check_overlaps(&tensors)?;
    let by_name = table::index_names(&tensors)?;
    Ok(Gguf { version, metadata, tensors, header_len: data.start, by_name })
}

/// Reads the magic and the version. The magic is judged as soon as its bytes are there, whatever
/// the size of the file.
fn read_version(reader: &mut Reader<'_>) -> Read<u32> {
    let magic: [u8; 4] = reader.array()?;
    if magic != MAGIC {
        return Err(Error::invalid("the file is not a GGUF file: it does not begin with \"GGUF\"")
            .with("found", format!("{}", magic.escape_ascii()))
            .into());
    }
    let version = reader.u32()?;
    match version {
        2 | 3 => Ok(version),
        1 => Err(Error::unsupported("GGUF version 1 is not supported, only 2 and 3").into()),
        // The low bytes of a small number are zero when its bytes are in the other order.
        _ if version != 0 && version & 0xffff == 0 => {
            Err(Error::unsupported("big-endian GGUF files are not supported")
                .with("version", version.swap_bytes())
                .into())
        }
        _ => Err(Error::unsupported("the version of GGUF is not supported, only 2 and 3 are")
            .with("version", version)
            .into()),
    }
}

fn read_alignment(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.optional_u32(KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(Error::invalid("the alignment is not a power of two or too large")
            .with("key", KEY)
            .with("found", alignment)
            .with("limit", MAX_ALIGNMENT));
    }
    Ok(alignment.into())
}

/// Reads what follows the name of a tensor. Its `offset` still counts from the data section.
fn read_tensor(reader: &mut Reader<'_>, name: &str) -> Read<TensorInfo> {
    let n_dimensions = reader.u32()?;
    if !(1..=MAX_DIMENSIONS).contains(&n_dimensions) {
        return Err(Error::invalid("a tensor has no dimensions, or too many")
            .with("found", n_dimensions)
            .with("limit", MAX_DIMENSIONS)
            .into());
    }
    let mut shape = Vec::with_capacity(n_dimensions as usize);
    for _ in 0..n_dimensions {
        shape.push(reader.u64()?);
    }
    shape.reverse();
    let type_number = reader.u32()?;
    let offset = reader.u64()?;
    let dtype = DType::from_ggml(type_number).ok_or_else(|| {
        Error::unsupported("a tensor has an encoding that is not supported")
            .with("type", type_number)
            .with("found", other_ggml_name(type_number))
    })?;
    let n_bytes = table::size_of_shape(&shape, dtype)?;
    Ok(TensorInfo { name: name.to_owned(), shape, dtype, offset, n_bytes })
}

/// Makes the offset of a tensor count from the start of the file, whose bytes `data` are the data
/// section.
fn locate(tensor: &mut TensorInfo, alignment: u64, data: &Range<u64>) -> Result<()> {
    let offset = tensor.offset;
    if !offset.is_multiple_of(alignment) {
        return Err(Error::invalid("a tensor is not aligned")
            .with("offset", offset)
            .with("alignment", alignment));
    }
    let section_len = data.end - data.start;
    if section_len.checked_sub(offset).is_none_or(|left| tensor.n_bytes > left) {
        return Err(Error::invalid("a tensor lies outside the file")
            .with("offset", offset)
            .with("needed", tensor.n_bytes)
            .with("limit", section_len));
    }
    tensor.offset += data.start;
    Ok(())
}
