//! Packed weights in GPU buffers.
//!
//! A segment is split into pages of rows no larger than what the device lets a shader see at once. A
//! page is one buffer: quants, then scales. Where rows are used in pairs a page holds some rows of the
//! first half, then the matching rows of the second, so that a shader finds both; a page of experts
//! holds whole experts.

use std::ops::Range;

use super::{
    context::{Context, GpuBuffer},
    record::Slice,
};
use crate::{
    error::{Error, ErrorKind, Result},
    weights::{Grouping, Layout, Section, Segment, Weight},
};

/// A matrix or vector on the GPU.
pub struct GpuWeight {
    /// Name in the plan.
    pub name: String,
    /// Number of columns.
    pub n_cols: usize,
    /// Number of rows.
    pub n_rows: usize,
    /// Which rows are used together.
    pub grouping: Grouping,
    /// Rows in order.
    pub pages: Vec<Page>,
}

/// Rows of a weight in one buffer.
pub struct Page {
    /// How the rows are held.
    pub layout: Layout,
    /// Which outputs: rows of the weight, or of its first half if rows are used in pairs.
    pub outputs: Range<usize>,
    segment: usize,
    /// Row of the weight with which the segment begins.
    segment_start: usize,
    /// Rows in the buffer: outputs, or twice that if rows are used in pairs.
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
            grouping: weight.grouping,
            pages,
        })
    }

    /// The buffer of a vector.
    pub fn vector(&self) -> &GpuBuffer {
        &self.pages[0].buffer
    }

    /// Writes one section of packed rows; `rows` count from the segment's first.
    pub fn write(
        &self,
        context: &Context,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) {
        let half = self.n_rows / 2;
        for page in self.pages.iter().filter(|page| page.segment == segment) {
            let first = page.segment_start;
            let n_outputs = page.outputs.len();
            let (row_bytes, offset) = match section {
                Section::Quants => (page.quants_row_bytes, 0),
                Section::Scales => (page.scales_row_bytes, page.scales_offset),
            };
            let runs = if self.grouping == Grouping::Pairs {
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
                context.queue.write_buffer(
                    &page.buffer.buffer,
                    offset + target * row_bytes as u64,
                    &bytes[source.start * row_bytes..source.end * row_bytes],
                );
            }
        }
    }
}

impl Page {
    /// The codes or dense elements.
    pub fn quants(&self) -> Slice<'_> {
        Slice::new(&self.buffer, 0, self.n_rows as u64 * self.quants_row_bytes as u64)
    }

    /// The scales; for dense layouts something to bind that no shader reads.
    pub fn scales(&self) -> Slice<'_> {
        let bytes = (self.n_rows as u64 * self.scales_row_bytes as u64).max(16);
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
    let rows_an_output = if weight.grouping == Grouping::Pairs { 2 } else { 1 };
    let unit = weight.unit_rows();
    let unit_bytes = (unit * rows_an_output) as u64 * (quants_row_bytes + scales_row_bytes) as u64;
    let n_units = limit.saturating_sub(2 * SECTION_ALIGNMENT) / unit_bytes;
    if n_units == 0 {
        let message = "what a shader must see at once is larger than a GPU binding";
        return Err(Error::new(ErrorKind::OutOfMemory, message)
            .with("tensor", weight.name.as_str())
            .with("needed", unit_bytes)
            .with("limit", limit));
    }
    let most = usize::try_from(n_units).unwrap_or(usize::MAX).saturating_mul(unit);
    let outputs = segment.rows.start..segment.rows.start + segment.rows.len() / rows_an_output;
    for start in outputs.clone().step_by(most) {
        let outputs = start..start.saturating_add(most).min(outputs.end);
        let n_rows = outputs.len() * rows_an_output;
        let scales_offset =
            (n_rows as u64 * quants_row_bytes as u64).next_multiple_of(SECTION_ALIGNMENT);
        let bytes = scales_offset + (n_rows as u64 * scales_row_bytes as u64).max(16);
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
