//! Packed weights in GPU buffers.
//!
//! A segment is split into pages of rows no larger than what the device lets a shader see at once. A
//! page is one buffer: quants, then scales. Where rows are used in pairs a page holds some rows of the
//! first half, then the matching rows of the second, so that a shader finds both; a page of experts
//! holds whole experts.

use std::ops::Range;

use super::{
    context::{Context, GpuBuffer, Guard, buffer_bytes, check_binding},
    record::Slice,
};
use crate::{
    error::Result,
    weights::{Grouping, Layout, Section, Weight},
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
    /// Bytes that `weight` takes where bindings have at most `max_binding`.
    ///
    /// # Errors
    /// `out_of_memory` when what a shader must see at once is larger than a binding may be.
    pub fn needed(weight: &Weight, max_binding: u64) -> Result<u64> {
        Ok(cuts(weight, max_binding)?.iter().map(|cut| buffer_bytes(cut.bytes)).sum())
    }

    /// Allocates buffers for `weight`.
    ///
    /// # Errors
    /// As [`needed`](Self::needed), and those of `guard`.
    pub async fn new(guard: &mut Guard<'_>, weight: &Weight) -> Result<Self> {
        let mut pages = Vec::new();
        for cut in cuts(weight, guard.max_binding())? {
            let segment = &weight.segments[cut.segment];
            pages.push(Page {
                layout: segment.layout,
                outputs: cut.outputs,
                segment: cut.segment,
                segment_start: segment.rows.start,
                n_rows: cut.n_rows,
                quants_row_bytes: segment.layout.quants_row_bytes(weight.n_cols),
                scales_row_bytes: segment.layout.scales_row_bytes(weight.n_cols),
                scales_offset: cut.scales_offset,
                buffer: guard.storage(&weight.name, cut.bytes).await?,
            });
        }
        Ok(Self {
            name: weight.name.clone(),
            n_cols: weight.n_cols,
            n_rows: weight.n_rows,
            grouping: weight.grouping,
            pages,
        })
    }

    /// The buffer of a vector, which has one page.
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

/// Where a page begins and ends.
struct Cut {
    segment: usize,
    outputs: Range<usize>,
    n_rows: usize,
    scales_offset: u64,
    bytes: u64,
}

/// Cuts a weight into pages.
fn cuts(weight: &Weight, max_binding: u64) -> Result<Vec<Cut>> {
    let rows_an_output = if weight.grouping == Grouping::Pairs { 2 } else { 1 };
    let mut cuts = Vec::new();
    for (index, segment) in weight.segments.iter().enumerate() {
        let is_vector = segment.layout == Layout::Vector;
        // A vector is read as a whole.
        let unit = if is_vector { segment.rows.len() } else { weight.unit_rows() };
        let quants_row_bytes = segment.layout.quants_row_bytes(weight.n_cols) as u64;
        let scales_row_bytes = segment.layout.scales_row_bytes(weight.n_cols) as u64;
        let unit_bytes = unit as u64 * rows_an_output * (quants_row_bytes + scales_row_bytes);
        // Both sections begin at multiples of the alignment.
        let room = max_binding.saturating_sub(2 * SECTION_ALIGNMENT);
        check_binding(&weight.name, unit_bytes, room)?;
        let n_units = room / unit_bytes;
        let most = usize::try_from(n_units).unwrap_or(usize::MAX).saturating_mul(unit);
        let n_outputs = segment.rows.len() / rows_an_output as usize;
        let end = segment.rows.start + n_outputs;
        for start in (segment.rows.start..end).step_by(most) {
            let outputs = start..start.saturating_add(most).min(end);
            let n_rows = outputs.len() * rows_an_output as usize;
            let scales_offset =
                (n_rows as u64 * quants_row_bytes).next_multiple_of(SECTION_ALIGNMENT);
            let bytes = scales_offset + (n_rows as u64 * scales_row_bytes).max(16);
            cuts.push(Cut { segment: index, outputs, n_rows, scales_offset, bytes });
        }
    }
    Ok(cuts)
}
