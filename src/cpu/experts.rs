//! Products with the matrices of chosen experts: twin of `shaders/experts_matvec.wgsl`,
//! `shaders/experts_matmul.wgsl` and `shaders/experts_lanes.wgsl`.
//!
//! Tokens are sorted by expert, so that those of one expert share a pass over its matrix.

use wide::f32x4;

use super::{
    input::Input,
    lanes,
    product::{self, Products, multiply},
    weights::CpuWeight,
};
use crate::ops::{SWIGLU_ALPHA, ThenExperts};

/// What the products work on.
pub struct Operands<'a> {
    /// [n_experts, n_out, n_in].
    pub weight: &'a CpuWeight,
    /// [n_experts, n_out].
    pub bias: Option<&'a [f32]>,
    /// Gain [n_in] and epsilon of RMSNorm ahead of the products.
    pub norm: Option<(&'a [f32], f32)>,
    /// [n_tokens, n_in], or [n_tokens, n_used, n_in] for [`ThenExperts::Add`].
    pub x: &'a [f32],
    /// What [`route`](super::route::route) wrote.
    pub routing: &'a [f32],
    /// Number of experts.
    pub n_experts: usize,
    /// Experts of a token.
    pub n_used: usize,
    /// What becomes of the products.
    pub then: ThenExperts,
}

/// Memory kept between products.
#[derive(Default)]
pub struct Scratch {
    input: Input,
    sums: product::Scratch,
    /// Tokens' choices, `token · n_used + slot`, by expert.
    pairs: Vec<Vec<usize>>,
    /// The input row of each of an expert's pairs.
    inputs: Vec<usize>,
    /// Products of an expert's pairs, [n_pairs, n_out].
    product: Vec<f32>,
}

/// Computes [`Experts`](crate::ops::Experts) into `out`.
pub fn experts(operands: Operands<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let Operands { weight, bias, norm, x, routing, n_experts, n_used, then } = operands;
    let Scratch { input, sums, pairs, inputs, product } = scratch;
    let n_out = weight.n_rows / n_experts;
    input.take(x, norm, weight);
    pairs.resize(n_experts, Vec::new());
    pairs.iter_mut().for_each(Vec::clear);
    for (token, chosen) in routing.chunks_exact(2 * n_used).enumerate() {
        for (slot, expert) in chosen[..n_used].iter().enumerate() {
            pairs[*expert as usize].push(token * n_used + slot);
        }
    }
    let segment = &weight.segments[0];
    for (expert, pairs) in pairs.iter().enumerate().filter(|(_, pairs)| !pairs.is_empty()) {
        inputs.clear();
        inputs.extend(pairs.iter().map(|pair| match then {
            ThenExperts::SwiGlu { .. } => pair / n_used,
            ThenExperts::Add => *pair,
        }));
        product.resize(pairs.len() * n_out, 0.0);
        let rows = expert * n_out..(expert + 1) * n_out;
        let mut products = Products { values: product, width: n_out, column: 0 };
        multiply(segment, rows.clone(), input, inputs, sums, &mut products);
        if let Some(bias) = bias {
            let bias = &bias[rows];
            for row in product.chunks_exact_mut(n_out) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        for (pair, product) in pairs.iter().zip(product.chunks_exact(n_out)) {
            match then {
                ThenExperts::SwiGlu { limit } => {
                    let (gates, ups) = product.split_at(n_out / 2);
                    let out = &mut out[pair * n_out / 2..][..n_out / 2];
                    lanes::zip(out, gates, ups, |gate, up| swiglu(gate, up, limit));
                }
                ThenExperts::Add => {
                    let (token, slot) = (pair / n_used, pair % n_used);
                    let weight = routing[(2 * token + 1) * n_used + slot];
                    let out = out[token * n_out..].iter_mut();
                    out.zip(product).for_each(|(out, y)| *out += weight * y);
                }
            }
        }
    }
}

/// The gated unit of gpt-oss.
#[inline(always)]
fn swiglu(gate: f32x4, up: f32x4, limit: f32) -> f32x4 {
    let bound = f32x4::splat(limit);
    let up = up.fast_min(bound).fast_max(f32x4::splat(-limit));
    lanes::swish(gate.fast_min(bound), SWIGLU_ALPHA) * (up + f32x4::ONE)
}
