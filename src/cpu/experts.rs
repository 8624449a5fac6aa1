//! Products with the matrices of chosen experts: twin of `shaders/experts_matvec.wgsl` and
//! `shaders/experts_matmul.wgsl`.
//!
//! Tokens are sorted by expert, so that those of one expert share a pass over its matrix.

use super::{linear::Input, weights::CpuWeight};
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
    row: Vec<f32>,
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
    let Scratch { input, row, pairs, inputs, product } = scratch;
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
        input.multiply(segment, rows.clone(), inputs, row, |place, row, y| {
            product[place * n_out + row - rows.start] = y + bias.map_or(0.0, |bias| bias[row]);
        });
        for (pair, product) in pairs.iter().zip(product.chunks_exact(n_out)) {
            match then {
                ThenExperts::SwiGlu { limit } => {
                    let (gates, ups) = product.split_at(n_out / 2);
                    let out = out[pair * n_out / 2..].iter_mut();
                    for ((out, gate), up) in out.zip(gates).zip(ups) {
                        *out = swiglu(*gate, *up, limit);
                    }
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
fn swiglu(gate: f32, up: f32, limit: f32) -> f32 {
    let gate = gate.min(limit);
    let up = up.clamp(-limit, limit);
    gate / (1.0 + (-SWIGLU_ALPHA * gate).exp()) * (up + 1.0)
}
