//! Products with matrices: twin of `shaders/matvec.wgsl` and `shaders/matmul.wgsl`.
//!
//! Quantized rows are multiplied in integers. The input is rounded to 16 bits with a scale for each
//! block of 32 (relative error below 2⁻¹⁵ of the block's largest element), so that eight products
//! and their pairwise sums are one SIMD instruction. A block of 32 products of 16 and 8 bits stays
//! below 2²⁸, far from overflow.

use half::{bf16, f16};
use wide::{f32x4, i16x8, i32x4, u16x8};

use super::weights::{CpuSegment, CpuWeight};
use crate::{
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
    /// Normalised input, [n_tokens, n_in].
    normed: Vec<f32>,
    /// Rounded input: for each block of 32, its even and odd elements, first half, then second.
    codes: Vec<[i16x8; 4]>,
    /// Scale of each block.
    scales: Vec<f32>,
    /// Sum of each block's rounded elements, scaled.
    sums: Vec<f32>,
    /// A decoded row of a dense matrix.
    row: Vec<f32>,
    /// Product before the gated unit, [n_tokens, n_out].
    product: Vec<f32>,
}

/// Computes [`Linear`](crate::ops::Linear) into `out`.
pub fn linear(operands: Operands<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let Operands { weight, bias, norm, x, then } = operands;
    let (n_in, n_out) = (weight.n_cols, weight.n_rows);
    let n_tokens = x.len() / n_in;
    let x = match norm {
        Some((gain, eps)) => {
            scratch.normed.clear();
            for row in x.chunks_exact(n_in) {
                let mean_square = dot_f32(row, row) / n_in as f32;
                let factor = 1.0 / (mean_square + eps).sqrt();
                scratch.normed.extend(row.iter().zip(gain).map(|(x, gain)| x * factor * gain));
            }
            scratch.normed.as_slice()
        }
        None => x,
    };
    let is_dense = |segment: &CpuSegment| segment.n_groups == 0;
    if !weight.segments.iter().all(is_dense) {
        round_blocks(x, &mut scratch.codes, &mut scratch.scales, &mut scratch.sums);
    }
    let n_blocks = n_in / BLOCK;
    let blocks = Blocks { codes: &scratch.codes, scales: &scratch.scales, sums: &scratch.sums };

    scratch.product.resize(if then == Then::SwiGlu { n_tokens * n_out } else { 0 }, 0.0);
    let target = if then == Then::SwiGlu { &mut scratch.product } else { &mut *out };
    let mut put = |token: usize, row: usize, y: f32| {
        let y = y + bias.map_or(0.0, |bias| bias[row]);
        let target = &mut target[token * n_out + row];
        *target = if then == Then::Add { *target + y } else { y };
    };
    for segment in &weight.segments {
        for (row, row_idx) in segment.rows.clone().enumerate() {
            if is_dense(segment) {
                decode_dense(segment, row, &mut scratch.row);
                for (token, x) in x.chunks_exact(n_in).enumerate() {
                    put(token, row_idx, dot_f32(&scratch.row, x));
                }
                continue;
            }
            let mut token = 0;
            while token + TILE <= n_tokens {
                let y = segment.dot::<TILE>(row, &blocks.from(token * n_blocks));
                (0..TILE).for_each(|i| put(token + i, row_idx, y[i]));
                token += TILE;
            }
            for token in token..n_tokens {
                let [y] = segment.dot::<1>(row, &blocks.from(token * n_blocks));
                put(token, row_idx, y);
            }
        }
    }
    if then == Then::SwiGlu {
        let rows = scratch.product.chunks_exact(n_out);
        for (out, row) in out.chunks_exact_mut(n_out / 2).zip(rows) {
            let (gate, up) = row.split_at(n_out / 2);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + (-gate).exp()) * up;
            }
        }
    }
}

/// Rounded input from some block on.
struct Blocks<'a> {
    codes: &'a [[i16x8; 4]],
    scales: &'a [f32],
    sums: &'a [f32],
}

impl Blocks<'_> {
    fn from(&self, block: usize) -> Blocks<'_> {
        Blocks {
            codes: &self.codes[block..],
            scales: &self.scales[block..],
            sums: &self.sums[block..],
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
    /// Products of matrix row `row` with `N` input rows.
    #[inline(always)]
    fn dot<const N: usize>(&self, row: usize, x: &Blocks<'_>) -> [f32; N] {
        match self.layout {
            Layout::U4 => self.dot_blocks::<N, 16, 1>(row, x, |bytes: &[u8; 16]| {
                let codes: u16x8 = bytemuck::cast(*bytes);
                let mask = u16x8::splat(15);
                [codes & mask, codes >> 8 & mask, codes >> 4 & mask, codes >> 12]
                    .map(bytemuck::cast)
            }),
            Layout::I8 | Layout::I8Affine => self.dot_blocks::<N, 32, 1>(row, x, widen_i8),
            Layout::I8Group16 => self.dot_blocks::<N, 32, 2>(row, x, widen_i8),
            Layout::F16 | Layout::Bf16 | Layout::F32 | Layout::Vector => {
                unreachable!("dense rows are decoded first")
            }
        }
    }

    /// `decode` gives the block's codes in the order of [`Scratch::codes`]; `GROUPS` scales a block.
    #[inline(always)]
    fn dot_blocks<const N: usize, const BYTES: usize, const GROUPS: usize>(
        &self,
        row: usize,
        x: &Blocks<'_>,
        decode: impl Fn(&[u8; BYTES]) -> [i16x8; 4],
    ) -> [f32; N] {
        let quants = &self.quants[row * self.quants_row_bytes..][..self.quants_row_bytes];
        let quants = quants.as_chunks::<BYTES>().0;
        let n_blocks = quants.len();
        let scales = &self.scales[row * self.n_groups..][..n_blocks * GROUPS];
        let x_codes: [_; N] = std::array::from_fn(|i| &x.codes[i * n_blocks..][..n_blocks]);
        let x_scales: [_; N] = std::array::from_fn(|i| &x.scales[i * n_blocks..][..n_blocks]);
        let mut sums = [f32x4::ZERO; N];
        for block in 0..n_blocks {
            let codes = decode(&quants[block]);
            for i in 0..N {
                let x = &x_codes[i][block];
                let low = codes[0].dot(x[0]) + codes[1].dot(x[1]);
                let high = codes[2].dot(x[2]) + codes[3].dot(x[3]);
                let x_scale = x_scales[i][block];
                if GROUPS == 1 {
                    sums[i] += scaled(low + high, scales[block] * x_scale);
                } else {
                    sums[i] += scaled(low, scales[block * 2] * x_scale)
                        + scaled(high, scales[block * 2 + 1] * x_scale);
                }
            }
        }
        let mins = if self.mins.is_empty() {
            &[][..]
        } else {
            &self.mins[row * self.n_groups..][..n_blocks]
        };
        std::array::from_fn(|i| {
            let offset = dot_f32(mins, &x.sums[i * n_blocks..][..mins.len()]);
            sums[i].reduce_add() + offset
        })
    }
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
