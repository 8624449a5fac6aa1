//! Products with matrices: twin of `shaders/matvec.wgsl` and `shaders/matmul.wgsl`.
//!
//! Quantized rows are multiplied in integers. The input is rounded to 16 bits with a scale for each
//! block of 32 (relative error below 2⁻¹⁵ of the block's largest element), so that eight products
//! and their pairwise sums are one SIMD instruction. A block of 32 products of 16 and 8 bits stays
//! below 2²⁸, far from overflow.

use std::ops::Range;

use half::{bf16, f16};
use wide::{f32x4, i16x8, i32x4, u16x8};

use super::weights::{CpuSegment, CpuWeight};
use crate::{
    checkpoint::dequantize::half_of_e8m0,
    ops::Then,
    weights::{BLOCK, Layout},
};

/// Input rows that share one pass over a matrix row.
const TILE: usize = 4;

/// What a product works on.
pub struct Operands<'a> {
    /// [n_out, n_in].
    pub weight: &'a CpuWeight,
    /// [n_out].
    pub bias: Option<&'a [f32]>,
    /// Gain [n_in] and epsilon of RMSNorm ahead of the product.
    pub norm: Option<(&'a [f32], f32)>,
    /// [n_tokens, n_in].
    pub x: &'a [f32],
    /// What becomes of the product.
    pub then: Then,
}

/// Memory kept between products.
#[derive(Default)]
pub struct Scratch {
    /// The input of the product under way.
    input: Input,
    /// A decoded row of a dense matrix.
    row: Vec<f32>,
    /// Indices of all input rows.
    all: Vec<usize>,
    /// Product before the gated unit, [n_tokens, n_out].
    product: Vec<f32>,
}

/// Computes [`Linear`](crate::ops::Linear) into `out`.
pub fn linear(operands: Operands<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let Operands { weight, bias, norm, x, then } = operands;
    let n_out = weight.n_rows;
    let Scratch { input, row, all, product } = scratch;
    let n_tokens = input.take(x, norm, weight);
    all.clear();
    all.extend(0..n_tokens);

    product.resize(if then == Then::SwiGlu { n_tokens * n_out } else { 0 }, 0.0);
    let target = if then == Then::SwiGlu { &mut *product } else { &mut *out };
    let mut put = |token: usize, row: usize, y: f32| {
        let y = y + bias.map_or(0.0, |bias| bias[row]);
        let target = &mut target[token * n_out + row];
        *target = if then == Then::Add { *target + y } else { y };
    };
    for segment in &weight.segments {
        input.multiply(segment, 0..segment.rows.len(), all, row, |token, row, y| {
            put(token, segment.rows.start + row, y);
        });
    }
    if then == Then::SwiGlu {
        let rows = product.chunks_exact(n_out);
        for (out, row) in out.chunks_exact_mut(n_out / 2).zip(rows) {
            let (gate, up) = row.split_at(n_out / 2);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + (-gate).exp()) * up;
            }
        }
    }
}

/// Input rows, normalised and rounded.
#[derive(Default)]
pub struct Input {
    n_in: usize,
    /// The rows as they are multiplied with dense matrices, [n_rows, n_in].
    x: Vec<f32>,
    /// Rounded rows: for each block of 32, its even and odd elements, first half, then second.
    codes: Vec<[i16x8; 4]>,
    /// Scale of each block.
    scales: Vec<f32>,
    /// Sum of each block's rounded elements, scaled.
    sums: Vec<f32>,
}

impl Input {
    /// Takes the rows of `x` for products with `weight`; returns how many there are.
    pub fn take(&mut self, x: &[f32], norm: Option<(&[f32], f32)>, weight: &CpuWeight) -> usize {
        let n_in = weight.n_cols;
        self.n_in = n_in;
        self.x.clear();
        match norm {
            Some((gain, eps)) => {
                for row in x.chunks_exact(n_in) {
                    let mean_square = dot_f32(row, row) / n_in as f32;
                    let factor = 1.0 / (mean_square + eps).sqrt();
                    self.x.extend(row.iter().zip(gain).map(|(x, gain)| x * factor * gain));
                }
            }
            None => self.x.extend_from_slice(x),
        }
        if !weight.segments.iter().all(CpuSegment::is_dense) {
            round_blocks(&self.x, &mut self.codes, &mut self.scales, &mut self.sums);
        }
        x.len() / n_in
    }

    /// Products of rows `rows` of `segment` with the input rows `inputs`; `put` takes the place in
    /// `inputs`, the row, and the product. `scratch` holds a decoded row.
    #[inline(always)]
    pub fn multiply(
        &self,
        segment: &CpuSegment,
        rows: Range<usize>,
        inputs: &[usize],
        scratch: &mut Vec<f32>,
        mut put: impl FnMut(usize, usize, f32),
    ) {
        for row in rows {
            if segment.is_dense() {
                decode_dense(segment, row, scratch);
                for (place, &input) in inputs.iter().enumerate() {
                    put(place, row, dot_f32(scratch, &self.x[input * self.n_in..][..self.n_in]));
                }
                continue;
            }
            let (tiles, rest) = inputs.as_chunks::<TILE>();
            for (tile, inputs) in tiles.iter().enumerate() {
                let y = segment.dot(row, self, *inputs);
                (0..TILE).for_each(|i| put(tile * TILE + i, row, y[i]));
            }
            for (place, &input) in rest.iter().enumerate() {
                let [y] = segment.dot(row, self, [input]);
                put(tiles.len() * TILE + place, row, y);
            }
        }
    }
}

/// Rounds each block of 32 elements to 16 bits.
fn round_blocks(
    x: &[f32],
    codes: &mut Vec<[i16x8; 4]>,
    scales: &mut Vec<f32>,
    sums: &mut Vec<f32>,
) {
    codes.clear();
    scales.clear();
    sums.clear();
    for block in x.as_chunks::<BLOCK>().0 {
        let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let scale = largest / f32::from(i16::MAX);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        // Adding and subtracting 1.5·2²³ rounds to an integer; `round` is a call in WebAssembly.
        const ROUND: f32 = 12_582_912.0;
        let rounded: [i16; BLOCK] =
            std::array::from_fn(|i| ((block[i] * inverse + ROUND) - ROUND) as i16);
        let sum: i32 = rounded.iter().map(|&code| i32::from(code)).sum();
        codes.push(
            [0, 1, 16, 17].map(|first| i16x8::new(std::array::from_fn(|i| rounded[first + 2 * i]))),
        );
        scales.push(scale);
        sums.push(sum as f32 * scale);
    }
}

impl CpuSegment {
    /// Whether rows are numbers and not codes.
    pub fn is_dense(&self) -> bool {
        self.n_groups == 0
    }

    /// Products of matrix row `row` with the input rows `inputs`.
    #[inline(always)]
    fn dot<const N: usize>(&self, row: usize, x: &Input, inputs: [usize; N]) -> [f32; N] {
        let scales = self.row_scales(row);
        let scale = |group: usize| scales[group];
        match self.layout {
            Layout::U4 => self.dot_blocks::<N, 16, 1>(row, x, inputs, scale, nibbles),
            Layout::Fp4 => {
                let exponents = &self.exponents[row * self.n_groups..][..self.n_groups];
                let scale = |block: usize| half_of_e8m0(exponents[block]);
                let decode = |bytes: &[u8; 16]| nibbles(bytes).map(doubled_e2m1);
                self.dot_blocks::<N, 16, 1>(row, x, inputs, scale, decode)
            }
            Layout::I8 | Layout::I8Affine => {
                self.dot_blocks::<N, 32, 1>(row, x, inputs, scale, widen_i8)
            }
            Layout::I8Group16 => self.dot_blocks::<N, 32, 2>(row, x, inputs, scale, widen_i8),
            Layout::F16 | Layout::Bf16 | Layout::F32 | Layout::Vector => {
                unreachable!("dense rows are decoded first")
            }
        }
    }

    /// `decode` gives a block's codes in the order of [`Input::codes`], `scale` the factor of each of
    /// its `GROUPS` groups.
    #[inline(always)]
    fn dot_blocks<const N: usize, const BYTES: usize, const GROUPS: usize>(
        &self,
        row: usize,
        x: &Input,
        inputs: [usize; N],
        scale: impl Fn(usize) -> f32,
        decode: impl Fn(&[u8; BYTES]) -> [i16x8; 4],
    ) -> [f32; N] {
        let quants = &self.quants[row * self.quants_row_bytes..][..self.quants_row_bytes];
        let quants = quants.as_chunks::<BYTES>().0;
        let n_blocks = quants.len();
        let x_codes = inputs.map(|input| &x.codes[input * n_blocks..][..n_blocks]);
        let x_scales = inputs.map(|input| &x.scales[input * n_blocks..][..n_blocks]);
        let mut sums = [f32x4::ZERO; N];
        for block in 0..n_blocks {
            let codes = decode(&quants[block]);
            for i in 0..N {
                let x = &x_codes[i][block];
                let low = codes[0].dot(x[0]) + codes[1].dot(x[1]);
                let high = codes[2].dot(x[2]) + codes[3].dot(x[3]);
                let x_scale = x_scales[i][block];
                if GROUPS == 1 {
                    sums[i] += scaled(low + high, scale(block) * x_scale);
                } else {
                    sums[i] += scaled(low, scale(block * 2) * x_scale)
                        + scaled(high, scale(block * 2 + 1) * x_scale);
                }
            }
        }
        let mins = if self.mins.is_empty() {
            &[][..]
        } else {
            &self.mins[row * self.n_groups..][..n_blocks]
        };
        std::array::from_fn(|i| {
            let offset = dot_f32(mins, &x.sums[inputs[i] * n_blocks..][..mins.len()]);
            sums[i].reduce_add() + offset
        })
    }
}

/// 4-bit codes in the order of [`Input::codes`].
#[inline(always)]
fn nibbles(bytes: &[u8; 16]) -> [i16x8; 4] {
    let codes: u16x8 = bytemuck::cast(*bytes);
    let mask = u16x8::splat(15);
    [codes & mask, codes >> 8 & mask, codes >> 4 & mask, codes >> 12].map(bytemuck::cast)
}

/// Twice the values of E2M1 codes, see `checkpoint::dequantize`.
#[inline(always)]
fn doubled_e2m1(codes: i16x8) -> i16x8 {
    let step = codes & i16x8::splat(7);
    let magnitude = step.max(step + step - i16x8::splat(4)).max((step << 2) - i16x8::splat(16));
    let negative = i16x8::ZERO - (codes >> 3);
    (magnitude ^ negative) - negative
}

#[inline(always)]
fn scaled(sum: i32x4, scale: f32) -> f32x4 {
    f32x4::from_i32x4(sum) * f32x4::splat(scale)
}

#[inline(always)]
fn widen_i8(bytes: &[u8; 32]) -> [i16x8; 4] {
    let [first, second]: [i16x8; 2] = bytemuck::cast(*bytes);
    [first << 8 >> 8, first >> 8, second << 8 >> 8, second >> 8]
}

fn decode_dense(segment: &CpuSegment, row: usize, out: &mut Vec<f32>) {
    let bytes = &segment.quants[row * segment.quants_row_bytes..][..segment.quants_row_bytes];
    out.clear();
    match segment.layout {
        Layout::F16 => {
            out.extend(bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()));
        }
        Layout::Bf16 => {
            out.extend(
                bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()),
            );
        }
        _ => out.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
    }
}

/// Dot product, summed in four lanes.
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<4>();
    let (b_lanes, b_rest) = b.as_chunks::<4>();
    let mut sums = f32x4::ZERO;
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        sums += f32x4::new(*a) * f32x4::new(*b);
    }
    sums.reduce_add() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
