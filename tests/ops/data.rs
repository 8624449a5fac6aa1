//! Random inputs with outliers, and the comparison with the oracle.

use half::f16;
use pesi::{
    cpu::reference::decode_matrix,
    gpu::{context::Context, weights::GpuWeight},
    weights::{Grouping, Layout, Section, Segment, Sink, Weight, WeightId},
};

use super::device::allocate;

/// A small generator: the same numbers in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Evenly from −1 to 1.
    pub fn signed(&mut self) -> f32 {
        self.bits() as f32 / u32::MAX as f32 * 2.0 - 1.0
    }

    /// Numbers around 1, of which one in fifty is a hundred times larger.
    pub fn activations(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| self.signed() * if self.bits().is_multiple_of(50) { 100.0 } else { 1.0 })
            .collect()
    }
}

/// A matrix in packed form, and what it decodes to.
pub struct Matrix {
    pub weight: Weight,
    pub quants: Vec<u8>,
    pub scales: Vec<u8>,
    pub decoded: Vec<f32>,
}

impl Matrix {
    pub fn random(
        layout: Layout,
        n_rows: usize,
        n_cols: usize,
        grouping: Grouping,
        random: &mut Random,
    ) -> Self {
        let mut quants = vec![0; layout.quants_row_bytes(n_cols) * n_rows];
        let mut scales = vec![0; layout.scales_row_bytes(n_cols) * n_rows];
        match layout {
            Layout::F16 => quants
                .as_chunks_mut()
                .0
                .iter_mut()
                .for_each(|bytes| *bytes = f16::from_f32(random.signed()).to_le_bytes()),
            Layout::Bf16 => quants
                .as_chunks_mut()
                .0
                .iter_mut()
                .for_each(|bytes| *bytes = half::bf16::from_f32(random.signed()).to_le_bytes()),
            Layout::F32 | Layout::Vector => quants
                .as_chunks_mut()
                .0
                .iter_mut()
                .for_each(|bytes| *bytes = random.signed().to_le_bytes()),
            Layout::U4 | Layout::Fp4 | Layout::I8 | Layout::I8Group16 | Layout::I8Affine => {
                quants.iter_mut().for_each(|byte| *byte = random.bits() as u8);
            }
        }
        if layout == Layout::Fp4 {
            // Powers of two from 2⁻¹⁰ to 2⁻³, and zero.
            let exponent = |random: &mut Random| match random.bits() % 9 {
                8 => 0,
                n => 117 + n as u8,
            };
            scales.iter_mut().for_each(|byte| *byte = exponent(random));
        } else {
            for bytes in scales.as_chunks_mut().0 {
                *bytes = f16::from_f32(random.signed() / 50.0).to_le_bytes();
            }
        }
        let weight = Weight {
            name: format!("{} [{n_rows}, {n_cols}]", layout.name()),
            n_rows,
            n_cols,
            grouping,
            segments: vec![Segment { layout, rows: 0..n_rows, parts: Vec::new() }],
        };
        let decoded = decode_matrix(layout, n_rows, n_cols, &quants, &scales);
        Self { weight, quants, scales, decoded }
    }

    /// A vector as a weight.
    pub fn vector(elements: &[f32]) -> Self {
        let n_rows = elements.len();
        Self {
            weight: Weight {
                name: format!("vector [{n_rows}]"),
                n_rows,
                n_cols: 1,
                grouping: Grouping::Rows,
                segments: vec![Segment {
                    layout: Layout::Vector,
                    rows: 0..n_rows,
                    parts: Vec::new(),
                }],
            },
            quants: bytemuck::cast_slice(elements).to_vec(),
            scales: Vec::new(),
            decoded: elements.to_vec(),
        }
    }

    /// Writes all rows as weight `id`, in two pieces.
    pub fn write_to(&self, sink: &mut dyn Sink, id: WeightId) {
        let n_rows = self.weight.n_rows;
        let middle = n_rows / 2;
        let (q, s) = (self.quants.len() / n_rows, self.scales.len() / n_rows);
        for rows in [0..middle, middle..n_rows] {
            if !rows.is_empty() {
                let quants = &self.quants[rows.start * q..rows.end * q];
                let scales = &self.scales[rows.start * s..rows.end * s];
                sink.write(id, 0, Section::Quants, rows.clone(), quants).unwrap();
                if s > 0 {
                    sink.write(id, 0, Section::Scales, rows, scales).unwrap();
                }
            }
        }
    }

    /// Puts the matrix or vector on a GPU.
    pub fn upload(&self, context: &Context) -> GpuWeight {
        let weight = allocate(context, &self.weight).unwrap();
        let rows = 0..self.weight.n_rows;
        weight.write(context, 0, Section::Quants, rows.clone(), &self.quants);
        if !self.scales.is_empty() {
            weight.write(context, 0, Section::Scales, rows, &self.scales);
        }
        weight
    }
}

/// Asserts that `found` differs from `expected` by at most `tolerance` of the largest expected number.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let largest = expected.iter().fold(1e-3_f32, |largest, x| largest.max(x.abs()));
    assert_within(found, expected, tolerance * largest, what);
}

/// Asserts that `found` differs from `expected` by at most `limit`.
#[track_caller]
pub fn assert_within(found: &[f32], expected: &[f32], limit: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= limit,
            "{what}: element {i} of {} is {a}, expected {b} within {limit}",
            found.len(),
        );
    }
}
