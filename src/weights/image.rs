//! Where each section of each weight stands in the *image*: the packed weights as one sequence of
//! bytes, which is what storage keeps.
//!
//! The image depends on the file and the precision alone, not on the device.

use std::ops::Range;

use super::{Section, WeightId, WeightTable};

/// Alignment of sections in the image, in bytes.
const ALIGNMENT: u64 = 256;

/// The sections of every segment of every weight.
#[derive(Clone, Debug)]
pub struct Image {
    /// One entry for each segment: weights in order, segments in order.
    sections: Vec<Vec<ImageSection>>,
    /// Size in bytes.
    pub len: u64,
}

/// Where the rows of one segment stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSection {
    /// First byte of the quants.
    pub quants: u64,
    /// First byte of the scales.
    pub scales: u64,
    /// Bytes of a row of quants.
    pub quants_row_bytes: usize,
    /// Bytes of a row of scales.
    pub scales_row_bytes: usize,
}

impl ImageSection {
    /// Bytes of a row of `section`.
    pub fn row_bytes(&self, section: Section) -> usize {
        match section {
            Section::Quants => self.quants_row_bytes,
            Section::Scales => self.scales_row_bytes,
        }
    }

    /// Bytes of the image that hold `section` of `rows`.
    pub fn range(&self, section: Section, rows: &Range<usize>) -> Range<u64> {
        let start = match section {
            Section::Quants => self.quants,
            Section::Scales => self.scales,
        };
        let row_bytes = self.row_bytes(section) as u64;
        start + rows.start as u64 * row_bytes..start + rows.end as u64 * row_bytes
    }
}

impl Image {
    /// Lays out the image of `table`.
    pub fn new(table: &WeightTable) -> Self {
        let mut len = 0;
        let mut place = |row_bytes: usize, n_rows: usize| {
            let start = len;
            len = (start + row_bytes as u64 * n_rows as u64).next_multiple_of(ALIGNMENT);
            start
        };
        let sections = table
            .weights
            .iter()
            .map(|weight| {
                let mut sections = Vec::with_capacity(weight.segments.len());
                for segment in &weight.segments {
                    let quants_row_bytes = segment.layout.quants_row_bytes(weight.n_cols);
                    let scales_row_bytes = segment.layout.scales_row_bytes(weight.n_cols);
                    sections.push(ImageSection {
                        quants: place(quants_row_bytes, segment.rows.len()),
                        scales: place(scales_row_bytes, segment.rows.len()),
                        quants_row_bytes,
                        scales_row_bytes,
                    });
                }
                sections
            })
            .collect();
        Self { sections, len }
    }

    /// The place of segment `segment` of weight `id`.
    pub fn section(&self, id: WeightId, segment: usize) -> ImageSection {
        self.sections[id.0][segment]
    }
}
