//! Packed weights as the CPU reads them: quants as they are, f16 scales widened to f32.

use std::ops::Range;

use half::f16;

use crate::{
    error::Result,
    memory::Allocation,
    weights::{Layout, Section, Segment, Weight},
};

/// A matrix or vector in memory.
pub struct CpuWeight {
    /// Number of columns.
    pub n_cols: usize,
    /// Number of rows.
    pub n_rows: usize,
    pub(super) segments: Vec<CpuSegment>,
}

/// Rows of one layout.
pub(super) struct CpuSegment {
    pub layout: Layout,
    pub rows: Range<usize>,
    pub quants_row_bytes: usize,
    /// Values in a row of `scales`, and of `mins`.
    pub n_groups: usize,
    /// Codes or dense elements, row after row.
    pub quants: Vec<u8>,
    /// The factor of each group of each row; empty for dense layouts.
    pub scales: Vec<f32>,
    /// The addend of each group of each row; empty for symmetric layouts.
    pub mins: Vec<f32>,
    /// The power of two of each group of each row, a byte each; empty but for MXFP4.
    pub exponents: Vec<u8>,
    /// The elements of a vector.
    pub vector: Vec<f32>,
}

/// The byte for 2⁰ in MXFP4.
const EXPONENT_OF_ONE: u8 = 127;

/// Elements of the lists in which a segment is held.
#[derive(Clone, Copy)]
struct Lengths {
    quants: u64,
    scales: u64,
    mins: u64,
    exponents: u64,
    vector: u64,
}

impl Lengths {
    fn of(segment: &Segment, n_cols: usize) -> Self {
        let layout = segment.layout;
        let n_rows = segment.rows.len() as u64;
        let n_codes = n_rows * layout.quants_row_bytes(n_cols) as u64;
        let n_groups = n_rows * n_groups(layout, n_cols) as u64;
        let none = Self { quants: n_codes, scales: 0, mins: 0, exponents: 0, vector: 0 };
        match layout {
            Layout::U4 | Layout::I8Affine => Self { scales: n_groups, mins: n_groups, ..none },
            Layout::I8 | Layout::I8Group16 => Self { scales: n_groups, ..none },
            Layout::Fp4 => Self { exponents: n_groups, ..none },
            Layout::F16 | Layout::Bf16 | Layout::F32 => none,
            Layout::Vector => Self { quants: 0, vector: n_rows, ..none },
        }
    }

    fn bytes(self) -> u64 {
        self.quants + self.exponents + 4 * (self.scales + self.mins + self.vector)
    }
}

/// Values in a row of scales.
const fn n_groups(layout: Layout, n_cols: usize) -> usize {
    match layout {
        Layout::U4 | Layout::Fp4 | Layout::I8 | Layout::I8Affine => n_cols / 32,
        Layout::I8Group16 => n_cols / 16,
        Layout::F16 | Layout::Bf16 | Layout::F32 | Layout::Vector => 0,
    }
}

impl CpuWeight {
    /// Bytes that `weight` takes in memory.
    pub fn needed(weight: &Weight) -> u64 {
        weight.segments.iter().map(|segment| Lengths::of(segment, weight.n_cols).bytes()).sum()
    }

    /// Allocates memory for `weight`, zeroed.
    ///
    /// # Errors
    /// Those of `allocation`.
    pub fn new(weight: &Weight, allocation: &mut Allocation) -> Result<Self> {
        let segments = weight
            .segments
            .iter()
            .map(|segment| {
                let lengths = Lengths::of(segment, weight.n_cols);
                // The power of zero bytes is subnormal, and slow to multiply with: weights that are not
                // written yet are to take the time that others do.
                let mut exponents = allocation.zeros(lengths.exponents)?;
                exponents.fill(EXPONENT_OF_ONE);
                Ok(CpuSegment {
                    layout: segment.layout,
                    rows: segment.rows.clone(),
                    quants_row_bytes: segment.layout.quants_row_bytes(weight.n_cols),
                    n_groups: n_groups(segment.layout, weight.n_cols),
                    quants: allocation.zeros(lengths.quants)?,
                    scales: allocation.zeros(lengths.scales)?,
                    mins: allocation.zeros(lengths.mins)?,
                    exponents,
                    vector: allocation.zeros(lengths.vector)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { n_cols: weight.n_cols, n_rows: weight.n_rows, segments })
    }

    /// The elements of a vector.
    pub fn vector(&self) -> &[f32] {
        &self.segments[0].vector
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|s| {
                let numbers = s.scales.len() + s.mins.len() + s.vector.len();
                s.quants.len() + s.exponents.len() + 4 * numbers
            })
            .sum()
    }

    /// Takes one section of packed rows; `rows` count from the segment's first.
    pub fn write(&mut self, segment: usize, section: Section, rows: Range<usize>, bytes: &[u8]) {
        let segment = &mut self.segments[segment];
        match section {
            Section::Quants if segment.layout == Layout::Vector => {
                for (element, bytes) in segment.vector[rows].iter_mut().zip(bytes.as_chunks().0) {
                    *element = f32::from_le_bytes(*bytes);
                }
            }
            Section::Quants => {
                let row_bytes = segment.quants_row_bytes;
                segment.quants[rows.start * row_bytes..rows.end * row_bytes].copy_from_slice(bytes);
            }
            Section::Scales => segment.write_scales(rows, bytes),
        }
    }
}

impl CpuSegment {
    /// The factors of a row's groups; none in MXFP4.
    pub fn row_scales(&self, row: usize) -> &[f32] {
        if self.scales.is_empty() {
            return &[];
        }
        &self.scales[row * self.n_groups..][..self.n_groups]
    }

    fn write_scales(&mut self, rows: Range<usize>, bytes: &[u8]) {
        let n_groups = self.n_groups;
        let groups = rows.start * n_groups..rows.end * n_groups;
        let value = |bytes: &[u8; 2]| f16::from_le_bytes(*bytes).to_f32();
        // Rows of packed scales end with padding.
        let packed_rows = bytes.chunks_exact((bytes.len() / rows.len()).max(1));
        if self.layout == Layout::Fp4 {
            for (out, row) in self.exponents[groups].chunks_exact_mut(n_groups).zip(packed_rows) {
                out.copy_from_slice(&row[..n_groups]);
            }
        } else if self.mins.is_empty() {
            for (out, row) in self.scales[groups].chunks_exact_mut(n_groups).zip(packed_rows) {
                for (scale, bytes) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                    *scale = value(bytes);
                }
            }
        } else {
            let out = self.scales[groups.clone()].iter_mut().zip(&mut self.mins[groups]);
            for ((scale, min), pair) in out.zip(bytes.as_chunks::<4>().0) {
                *scale = value(&[pair[0], pair[1]]);
                *min = value(&[pair[2], pair[3]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::dequantize::half_of_e8m0, weights::Grouping};

    #[test]
    fn weights_that_are_not_written_have_no_subnormal_scales() {
        for layout in Layout::MATRICES {
            let segments = vec![Segment { layout, rows: 0..3, parts: Vec::new() }];
            let grouping = Grouping::Rows;
            let weight = Weight { name: String::new(), n_rows: 3, n_cols: 64, grouping, segments };
            let held = CpuWeight::new(&weight, &mut Allocation::of(0)).unwrap();
            let segment = &held.segments[0];
            assert!(segment.scales.iter().all(|scale| !scale.is_subnormal()), "{layout:?}");
            let mut exponents = segment.exponents.iter();
            assert!(exponents.all(|&e| !half_of_e8m0(e).is_subnormal()), "{layout:?}");
        }
    }
}
