//! Packed weights in GPU buffers.
//!
//! A segment is split into pages of rows no larger than what the device lets a shader see at once. A
//! page is one buffer: quants, then scales. In a paired weight a page holds some rows of the first
//! half, then the matching rows of the second, so that a shader finds both.

use std::ops::Range;

use super::{
    context::{Context, GpuBuffer},
    record::Slice,
};
use crate::{
    error::{Error, ErrorKind, Result},
    weights::{Layout, Segment, Weight},
};

/// A matrix or vector on the GPU.
pub struct GpuWeight {
    /// Name in the plan.
    pub name: String,
    /// Number of columns.
    pub n_cols: usize,
    /// Number of rows.
    pub n_rows: usize,
    /// Whether rows are used in pairs.
    pub paired: bool,
    /// Rows in order.
    pub pages: Vec<Page>,
}

/// Rows of a weight in one buffer.
pub struct Page {
    /// How the rows are held.
    pub layout: Layout,
    /// Which outputs: rows of the weight, or of its first half if it is paired.
    pub outputs: Range<usize>,
    segment: usize,
    /// Row of the weight with which the segment begins.
    segment_start: usize,
    /// Rows in the buffer: outputs, or twice that if paired.
    n_rows: usize,
    quants_row_bytes: usize,
    scales_row_bytes: usize,
    scales_offset: u64,
    buffer: GpuBuffer,
}

/// Offsets of bindings are multiples of this everywhere.
const SECTION_ALIGNMENT: u64 = 256;

impl GpuWeight {
    /// Allocates buffers for `weight`.
    ///
    /// # Errors
    /// `out_of_memory` when one row is larger than a binding may be.
    pub fn new(context: &Context, weight: &Weight) -> Result<Self> {
        let mut pages = Vec::new();
        for (index, segment) in weight.segments.iter().enumerate() {
            add_pages(context, weight, segment, index, &mut pages)?;
        }
        Ok(Self {
            name: weight.name.clone(),
            n_cols: weight.n_cols,
            n_rows: weight.n_rows,
            paired: weight.paired,
            pages,
        })
    }

    /// The buffer of a vector.
    pub fn vector(&self) -> &GpuBuffer {
        &self.pages[0].buffer
    }

    /// Writes packed rows; `rows` count from the segment's first.
    pub fn write_rows(
        &self,
        context: &Context,
        segment: usize,
        rows: Range<usize>,
        quants: &[u8],
        scales: &[u8],
    ) {
        let half = self.n_rows / 2;
        for page in self.pages.iter().filter(|page| page.segment == segment) {
            let first = page.segment_start;
            let n_outputs = page.outputs.len();
            let runs = if self.paired {
                let ups = page.outputs.start + half..page.outputs.end + half;
                [(page.outputs.clone(), 0), (ups, n_outputs)]
            } else {
                [(page.outputs.clone(), 0), (0..0, 0)]
            };
            for (run, place) in runs {
                let start = run.start.max(rows.start + first);
                let end = run.end.min(rows.end + first);
                if start >= end {
                    continue;
                }
                let source = start - first - rows.start..end - first - rows.start;
                let target = (place + start - run.start) as u64;
                for (bytes, row_bytes, offset) in [
                    (quants, page.quants_row_bytes, 0),
                    (scales, page.scales_row_bytes, page.scales_offset),
                ] {
                    if row_bytes > 0 {
                        context.queue.write_buffer(
                            &page.buffer.buffer,
                            offset + target * row_bytes as u64,
                            &bytes[source.start * row_bytes..source.end * row_bytes],
                        );
                    }
                }
            }
        }
    }
}

impl Page {
    /// The codes or dense elements.
    pub fn quants(&self) -> Slice<'_> {
        Slice::new(&self.buffer, 0, (self.n_rows * self.quants_row_bytes) as u64)
    }

    /// The scales; for dense layouts something to bind that no shader reads.
    pub fn scales(&self) -> Slice<'_> {
        let bytes = (self.n_rows * self.scales_row_bytes).max(16) as u64;
        Slice::new(&self.buffer, self.scales_offset, bytes)
    }
}

fn add_pages(
    context: &Context,
    weight: &Weight,
    segment: &Segment,
    index: usize,
    pages: &mut Vec<Page>,
) -> Result<()> {
    let limit = context.capabilities.max_binding;
    let layout = segment.layout;
    let quants_row_bytes = layout.quants_row_bytes(weight.n_cols);
    let scales_row_bytes = layout.scales_row_bytes(weight.n_cols);
    let rows_an_output = if weight.paired { 2 } else { 1 };
    let output_bytes = rows_an_output * (quants_row_bytes + scales_row_bytes);
    let most = (limit.saturating_sub(2 * SECTION_ALIGNMENT) / output_bytes as u64) as usize;
    if most == 0 {
        return Err(Error::new(ErrorKind::OutOfMemory, "a row is larger than a GPU binding")
            .with("tensor", weight.name.as_str())
            .with("needed", output_bytes)
            .with("limit", limit));
    }
    let outputs = segment.rows.start..segment.rows.start + segment.rows.len() / rows_an_output;
    for start in outputs.clone().step_by(most) {
        let outputs = start..(start + most).min(outputs.end);
        let n_rows = outputs.len() * rows_an_output;
        let scales_offset =
            ((n_rows * quants_row_bytes) as u64).next_multiple_of(SECTION_ALIGNMENT);
        let bytes = scales_offset + (n_rows * scales_row_bytes).max(16) as u64;
        pages.push(Page {
            layout,
            outputs,
            segment: index,
            segment_start: segment.rows.start,
            n_rows,
            quants_row_bytes,
            scales_row_bytes,
            scales_offset,
            buffer: context.storage(&weight.name, bytes),
        });
    }
    Ok(())
}
