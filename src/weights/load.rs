//! Streams tensors from a source, or packed rows from storage, into sinks.
//!
//! Memory stays at one chunk of the file and its packed form, whatever the size of the model.

use std::{ops::Range, rc::Rc};

use super::{
    Encoding, Image, Part, Place, Section, Segment, Sink, WeightId, WeightTable, pack::pack_row,
};
use crate::{
    checkpoint::mxfp4::ggml_from_blocks,
    error::Result,
    source::{LocalFuture, Source},
};

/// Bytes of a file or of storage handled at a time.
const CHUNK_BYTES: usize = 2 << 20;

/// Size of a shard of an image in browser storage, in bytes.
pub const SHARD_BYTES: u64 = 64 << 20;

/// Told about bytes that have been taken in; an error stops the load.
pub type LoadProgress<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// Streams every weight of `table` from `files`, each in its own order.
///
/// # Errors
/// Those of the sources, of the sink, and of `progress`, which is told the bytes read so far.
pub async fn load(
    files: &[Rc<dyn Source>],
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
    parts.sort_by_key(|(_, _, part)| (part.file, part.offset));

    let mut packer = Packer::default();
    let mut bytes = Vec::new();
    let mut loaded = 0;
    for (i, &(id, segment, part)) in parts.iter().enumerate() {
        let weight = table.get(id);
        let source = &files[part.file];
        let row_bytes = part.row_bytes(weight.n_cols);
        let target = Target { id, segment, n_cols: weight.n_cols };
        for rows in part_chunks(part, row_bytes) {
            bytes.resize(rows.len() * row_bytes, 0);
            source.read(part.offset + rows.start as u64 * row_bytes as u64, &mut bytes).await?;
            packer.pack(part, &weight.segments[segment], rows, &bytes, target, sink)?;
            loaded += bytes.len() as u64;
            progress(loaded)?;
        }
        if parts.get(i + 1).is_none_or(|(_, _, next)| next.file != part.file) {
            source.rest();
        }
    }
    Ok(())
}

/// Where packed rows go.
#[derive(Clone, Copy)]
struct Target {
    id: WeightId,
    segment: usize,
    n_cols: usize,
}

/// Packs rows of tensors; keeps its memory from chunk to chunk.
#[derive(Default)]
struct Packer {
    quants: Vec<u8>,
    scales: Vec<u8>,
    /// Scratch of [`pack_row`].
    row: Vec<f32>,
}

impl Packer {
    /// Packs rows `rows` of the tensor of `part`, which `bytes` holds, and writes them to `sink`.
    fn pack(
        &mut self,
        part: &Part,
        segment: &Segment,
        rows: Range<usize>,
        bytes: &[u8],
        Target { id, segment: segment_index, n_cols }: Target,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let row_bytes = part.row_bytes(n_cols);
        let n_strands = part.place.n_strands;
        let quants_bytes = segment.layout.quants_row_bytes(n_cols);
        let scales_bytes = segment.layout.scales_row_bytes(n_cols);
        for strand in 0..n_strands {
            let sources = || bytes.chunks_exact(row_bytes).skip(strand).step_by(n_strands);
            let n_rows = rows.len() / n_strands;
            self.quants.resize(n_rows * quants_bytes, 0);
            self.scales.clear();
            self.scales.resize(n_rows * scales_bytes, 0);
            match part.encoding {
                Encoding::Blocks(dtype) => {
                    for (i, source) in sources().enumerate() {
                        let quants = &mut self.quants[i * quants_bytes..][..quants_bytes];
                        let scales = &mut self.scales[i * scales_bytes..][..scales_bytes];
                        pack_row(dtype, segment.layout, source, quants, scales, &mut self.row);
                    }
                }
                Encoding::Mxfp4Codes => {
                    let targets = self.quants.chunks_exact_mut(quants_bytes);
                    for (target, source) in targets.zip(sources()) {
                        let blocks = target.as_chunks_mut().0.iter_mut().zip(source.as_chunks().0);
                        blocks.for_each(|(target, block)| *target = ggml_from_blocks(block));
                    }
                }
                Encoding::Mxfp4Scales => {
                    let targets = self.scales.chunks_exact_mut(scales_bytes);
                    targets.zip(sources()).for_each(|(t, s)| t[..s.len()].copy_from_slice(s));
                }
            }
            let first = part.place.of(rows.start + strand) - segment.rows.start;
            let rows = first..first + n_rows;
            if part.encoding != Encoding::Mxfp4Scales {
                sink.write(id, segment_index, Section::Quants, rows.clone(), &self.quants)?;
            }
            if part.encoding != Encoding::Mxfp4Codes && scales_bytes > 0 {
                sink.write(id, segment_index, Section::Scales, rows, &self.scales)?;
            }
        }
        Ok(())
    }
}

/// Splits the rows of a tensor into chunks whose strands each stand together in the weight.
fn part_chunks(part: &Part, row_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let Place { group_rows, group_stride, n_strands, .. } = part.place;
    let is_contiguous = n_strands == 1 && group_stride == group_rows;
    let group_rows = if is_contiguous { part.n_rows } else { group_rows };
    (0..part.n_rows).step_by(group_rows.max(1)).flat_map(move |start| {
        chunks(group_rows / n_strands, row_bytes * n_strands)
            .map(move |rows| start + rows.start * n_strands..start + rows.end * n_strands)
    })
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
    let mut bytes = Vec::new();
    let mut loaded = 0;
    for (index, weight) in table.weights.iter().enumerate() {
        let id = WeightId(index);
        for (segment_index, segment) in weight.segments.iter().enumerate() {
            let place = image.section(id, segment_index);
            for section in [Section::Quants, Section::Scales] {
                let row_bytes = place.row_bytes(section);
                if row_bytes == 0 {
                    continue;
                }
                for rows in chunks(segment.rows.len(), row_bytes) {
                    bytes.resize(rows.len() * row_bytes, 0);
                    shards.read(place.range(section, &rows).start, &mut bytes).await?;
                    sink.write(id, segment_index, section, rows, &bytes)?;
                    loaded += bytes.len() as u64;
                    progress(loaded)?;
                }
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
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        self.0.write(id, segment, section, rows.clone(), bytes)?;
        self.1.write(id, segment, section, rows, bytes)
    }
}
