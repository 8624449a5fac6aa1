//! The input of a product: rows, normalised, and rounded for products with codes.
//!
//! Each block of 32 elements is rounded to 16 bits with a scale of its own (relative error below
//! 2⁻¹⁵ of the block's largest element). For products with MXFP4, whose models are trained to choose
//! among experts and so pass small differences on, what that leaves over is rounded in the same way,
//! and follows the row as if the matrix had its columns twice.

use std::mem;

use wide::{f32x4, i16x8, i32x4};

use super::{
    lanes::{self, ROUND},
    weights::{CpuSegment, CpuWeight},
};
use crate::weights::{BLOCK, Layout};

/// Input rows, normalised and rounded.
#[derive(Default)]
pub struct Input {
    pub n_in: usize,
    /// The rows as they are multiplied with dense matrices, [n_rows, n_in].
    pub x: Vec<f32>,
    /// Blocks of a rounded row.
    pub n_blocks: usize,
    /// Rounded rows: for each block of 32, its even and odd elements, first half, then second.
    pub codes: Vec<[i16x8; 4]>,
    /// Scale of each block.
    pub scales: Vec<f32>,
    /// Sum of each block's rounded elements, scaled.
    pub sums: Vec<f32>,
    /// What rounding leaves over of a row's blocks.
    left_over: Vec<[f32x4; 8]>,
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
                    let mean_square = lanes::dot(row, row) / n_in as f32;
                    let factor = 1.0 / (mean_square + eps).sqrt();
                    self.x.extend(row.iter().zip(gain).map(|(x, gain)| x * factor * gain));
                }
            }
            None => self.x.extend_from_slice(x),
        }
        if !weight.segments.iter().all(CpuSegment::is_dense) {
            self.round(weight.segments.iter().any(|segment| segment.layout == Layout::Fp4));
        }
        x.len() / n_in
    }

    /// Rounds the rows; with `is_fine` also what that leaves over of each.
    fn round(&mut self, is_fine: bool) {
        self.codes.clear();
        self.scales.clear();
        self.sums.clear();
        self.n_blocks = self.n_in / BLOCK * if is_fine { 2 } else { 1 };
        let (x, mut left_over) = (mem::take(&mut self.x), mem::take(&mut self.left_over));
        for row in x.as_chunks::<BLOCK>().0.chunks(self.n_in / BLOCK) {
            left_over.clear();
            for block in row {
                let rest = self.push_rounded(bytemuck::cast(*block));
                if is_fine {
                    left_over.push(rest);
                }
            }
            for block in &left_over {
                self.push_rounded(*block);
            }
        }
        (self.x, self.left_over) = (x, left_over);
    }

    /// Adds a block; returns what its rounding leaves over.
    #[inline(always)]
    fn push_rounded(&mut self, block: [f32x4; 8]) -> [f32x4; 8] {
        let magnitudes = block.map(f32x4::abs);
        let largest = magnitudes.into_iter().fold(f32x4::ZERO, f32x4::fast_max);
        let largest = largest.to_array().into_iter().fold(0.0, f32::max);
        let scale = largest / f32::from(i16::MAX);
        // A subnormal scale has no inverse; such a block is nothing.
        let inverse = if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
        let shifted = block.map(|x| x * f32x4::splat(inverse) + f32x4::splat(ROUND));
        let rounded = shifted.map(|x| x - f32x4::splat(ROUND));
        let [a, b, c, d, e, f, g, h] = shifted;
        let [first, second] = [[a, b, c, d], [e, f, g, h]].map(even_and_odd);
        self.codes.push([first[0], first[1], second[0], second[1]]);
        self.scales.push(scale);
        // Integers below 2²⁰, hence exact.
        let sum = rounded.iter().fold(f32x4::ZERO, |sum, &x| sum + x);
        self.sums.push(sum.reduce_add() * scale);
        std::array::from_fn(|i| block[i] - rounded[i] * f32x4::splat(scale))
    }
}

/// The even and the odd ones of 16 integers, which are the low halves of the elements' bits.
#[inline(always)]
fn even_and_odd(elements: [f32x4; 4]) -> [i16x8; 2] {
    // Column i of these four rows holds elements i, i + 4, …
    let columns: [i32x4; 4] = f32x4::transpose(elements).map(bytemuck::cast);
    let pairs = |low: i32x4, high: i32x4| {
        bytemuck::cast::<i32x4, i16x8>(low & i32x4::splat(0xffff) | high << 16)
    };
    [pairs(columns[0], columns[2]), pairs(columns[1], columns[3])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_rounded_in_the_order_of_codes() {
        let mut input = Input {
            x: (0..64).map(|i| if i < 32 { i as f32 - 31.0 } else { 1e-42 }).collect(),
            n_in: 64,
            ..Default::default()
        };
        input.round(false);
        let scale = 31.0 / 32767.0;
        assert_eq!(input.scales[0], scale);
        for (vector, codes) in input.codes[0].iter().enumerate() {
            for (i, &code) in codes.to_array().iter().enumerate() {
                let element = vector / 2 * 16 + 2 * i + vector % 2;
                let error = f32::from(code) * scale - (element as f32 - 31.0);
                assert!(error.abs() <= 0.5001 * scale, "element {element} is {code}");
            }
        }
        let sum: i32 = input.codes[0].iter().flat_map(|v| v.to_array()).map(i32::from).sum();
        assert_eq!(input.sums[0], sum as f32 * scale);
        assert_eq!(input.codes[1], [i16x8::ZERO; 4], "a block of subnormal numbers");
    }

    #[test]
    fn what_rounding_leaves_over_follows_the_row() {
        let x: Vec<f32> = (0..128).map(|i| (i as f32).sin()).collect();
        let mut input = Input { x: x.clone(), n_in: 64, ..Default::default() };
        input.round(true);
        assert_eq!(input.n_blocks, 4);
        for (i, &x) in x.iter().enumerate() {
            let (row, column) = (i / 64, i % 64);
            let (block, element) = (row * 4 + column / 32, column % 32);
            let (vector, lane) = (element / 16 * 2 + element % 2, element % 16 / 2);
            let value = |block: usize| {
                let code = input.codes[block][vector].to_array()[lane];
                f64::from(code) * f64::from(input.scales[block])
            };
            let error = value(block) + value(block + 2) - f64::from(x);
            assert!(error.abs() < 1e-7, "element {i} is off by {error}");
        }
    }
}
