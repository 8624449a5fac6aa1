//! Streams tensors from a source, or packed rows from storage, into sinks.
//!
//! Memory stays at one chunk of the file and its packed form, whatever the size of the model.

use std::ops::Range;

use super::{Image, Part, Sink, WeightId, WeightTable, pack::pack_row};
use crate::{
    checkpoint::{Gguf, Parsed},
    error::{Error, Result},
    source::{LocalFuture, Source},
};

/// Bytes of a file or of storage handled at a time.
const CHUNK_BYTES: usize = 2 << 20;

/// Bytes of a file's head that are read first when looking for its header.
const FIRST_HEADER_BYTES: u64 = 4 << 20;

/// Size of a shard of an image in browser storage, in bytes.
pub const SHARD_BYTES: u64 = 64 << 20;

/// Told about bytes that have been taken in; an error stops the load.
pub type LoadProgress<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// Reads and parses the header of a GGUF file.
///
/// Returns the bytes that hold the header, as read, and what they say.
///
/// # Errors
/// Those of the source and of [`Gguf::parse`].
pub async fn read_gguf_header(source: &dyn Source) -> Result<(Vec<u8>, Gguf)> {
    let mut bytes = Vec::new();
    let mut target = FIRST_HEADER_BYTES.min(source.len());
    loop {
        let start = bytes.len();
        bytes.resize(usize::try_from(target).map_err(|_| too_large(target))?, 0);
        source.read(start as u64, &mut bytes[start..]).await?;
        match Gguf::parse(&bytes, source.len())? {
            Parsed::Complete(gguf) => {
                bytes.truncate(gguf.header_len as usize);
                return Ok((bytes, gguf));
            }
            // Growing by half at least keeps the number of attempts small.
            Parsed::NeedMore { at_least } => {
                target = at_least.max(target.saturating_add(target / 2)).min(source.len());
            }
        }
    }
}

fn too_large(needed: u64) -> Error {
    Error::invalid("header does not fit into memory").with("needed", needed)
}

/// Streams every weight of `table` from the file at `source`, in the file's order.
///
/// # Errors
/// Those of the source, of the sink, and of `progress`, which is told the bytes read so far.
pub async fn load(
    source: &dyn Source,
    table: &WeightTable,
    sink: &mut dyn Sink,
    progress: LoadProgress<'_>,
) -> Result<()> {
    let mut parts: Vec<(WeightId, usize, &Part)> = Vec::new();
    for (index, weight) in table.weights.iter().enumerate() {
        for (segment_index, segment) in weight.segments.iter().enumerate() {
            parts.extend(segment.parts.iter().map(|part| (WeightId(index), segment_index, part)));
        }
    }
    parts.sort_by_key(|(_, _, part)| part.offset);

    let (mut bytes, mut quants, mut scales, mut row) = (vec![], vec![], vec![], vec![]);
    let mut loaded = 0;
    for (id, segment_index, part) in parts {
        let weight = table.get(id);
        let segment = &weight.segments[segment_index];
        let row_bytes = part.row_bytes(weight.n_cols);
        let quants_bytes = segment.layout.quants_row_bytes(weight.n_cols);
        let scales_bytes = segment.layout.scales_row_bytes(weight.n_cols);
        for rows in chunks(part.rows.len(), row_bytes) {
            bytes.resize(rows.len() * row_bytes, 0);
            source.read(part.offset + (rows.start * row_bytes) as u64, &mut bytes).await?;
            quants.resize(rows.len() * quants_bytes, 0);
            scales.clear();
            scales.resize(rows.len() * scales_bytes, 0);
            for (i, source_row) in bytes.chunks_exact(row_bytes).enumerate() {
                let quants_row = &mut quants[i * quants_bytes..][..quants_bytes];
                let scales_row = &mut scales[i * scales_bytes..][..scales_bytes];
                pack_row(part.dtype, segment.layout, source_row, quants_row, scales_row, &mut row);
            }
            let first = part.rows.start - segment.rows.start + rows.start;
            sink.write_rows(id, segment_index, first..first + rows.len(), &quants, &scales)?;
            loaded += bytes.len() as u64;
            progress(loaded)?;
        }
    }
    Ok(())
}

/// Streams every weight of `table` from its stored image.
///
/// # Errors
/// Those of the shards, of the sink, and of `progress`, which is told the bytes read so far.
pub async fn load_image(
    shards: &dyn Shards,
    table: &WeightTable,
    sink: &mut dyn Sink,
    progress: LoadProgress<'_>,
) -> Result<()> {
    let image = Image::new(table);
    let (mut quants, mut scales) = (vec![], vec![]);
    let mut loaded = 0;
    for (index, weight) in table.weights.iter().enumerate() {
        for (segment_index, segment) in weight.segments.iter().enumerate() {
            let section = image.section(WeightId(index), segment_index);
            for rows in chunks(segment.rows.len(), section.quants_row_bytes) {
                for (buffer, range) in [
                    (&mut quants, section.quants_range(&rows)),
                    (&mut scales, section.scales_range(&rows)),
                ] {
                    buffer.resize((range.end - range.start) as usize, 0);
                    shards.read(range.start, buffer).await?;
                    loaded += buffer.len() as u64;
                }
                sink.write_rows(WeightId(index), segment_index, rows, &quants, &scales)?;
                progress(loaded)?;
            }
        }
    }
    Ok(())
}

/// Splits `n_rows` rows of `row_bytes` bytes into chunks of about [`CHUNK_BYTES`].
fn chunks(n_rows: usize, row_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let chunk_rows = (CHUNK_BYTES / row_bytes.max(1)).max(1);
    (0..n_rows).step_by(chunk_rows).map(move |start| start..(start + chunk_rows).min(n_rows))
}

/// A stored image that can be read.
pub trait Shards {
    /// Fills `buffer` with the image's bytes from `offset`.
    ///
    /// # Errors
    /// `storage`.
    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>>;
}

/// Passes rows to two sinks: the device, and storage.
pub struct Tee<'a>(pub &'a mut dyn Sink, pub &'a mut dyn Sink);

impl Sink for Tee<'_> {
    fn write_rows(
        &mut self,
        id: WeightId,
        segment: usize,
        rows: Range<usize>,
        quants: &[u8],
        scales: &[u8],
    ) -> Result<()> {
        self.0.write_rows(id, segment, rows.clone(), quants, scales)?;
        self.1.write_rows(id, segment, rows, quants, scales)
    }
}
