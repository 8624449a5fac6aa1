//! The input of a product: rows, normalised, and rounded for products with codes.
//!
//! Each block of 32 elements is rounded to 16 bits with a scale of its own (relative error below
//! 2⁻¹⁵ of the block's largest element).

use wide::{f32x4, i16x8, i32x4};

use super::{
    lanes::{self, ROUND},
    weights::{CpuSegment, CpuWeight},
};
use crate::weights::BLOCK;

/// Input rows, normalised and rounded.
#[derive(Default)]
pub struct Input {
    pub n_in: usize,
    /// The rows as they are multiplied with dense matrices, [n_rows, n_in].
    pub x: Vec<f32>,
    /// Rounded rows: for each block of 32, its even and odd elements, first half, then second.
    pub codes: Vec<[i16x8; 4]>,
    /// Scale of each block.
    pub scales: Vec<f32>,
    /// Sum of each block's rounded elements, scaled.
    pub sums: Vec<f32>,
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
            self.round();
        }
        x.len() / n_in
    }

    fn round(&mut self) {
        self.codes.clear();
        self.scales.clear();
        self.sums.clear();
        for block in self.x.as_chunks::<BLOCK>().0 {
            let block: [f32x4; 8] = bytemuck::cast(*block);
            let magnitudes = block.map(f32x4::abs);
            let largest = magnitudes.into_iter().fold(f32x4::ZERO, f32x4::fast_max);
            let largest = largest.to_array().into_iter().fold(0.0, f32::max);
            let scale = largest / f32::from(i16::MAX);
            // A subnormal scale has no inverse; such a block is nothing.
            let inverse = if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
            let shifted = block.map(|x| x * f32x4::splat(inverse) + f32x4::splat(ROUND));
            let sum = shifted.iter().fold(f32x4::ZERO, |sum, &x| sum + (x - f32x4::splat(ROUND)));
            let [a, b, c, d, e, f, g, h] = shifted;
            let [first, second] = [[a, b, c, d], [e, f, g, h]].map(even_and_odd);
            self.codes.push([first[0], first[1], second[0], second[1]]);
            self.scales.push(scale);
            // Integers below 2²⁰, hence exact.
            self.sums.push(sum.reduce_add() * scale);
        }
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
            ..Default::default()
        };
        input.round();
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
}
