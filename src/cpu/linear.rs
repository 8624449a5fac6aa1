//! Products with matrices: twin of `shaders/matvec.wgsl` and `shaders/matmul.wgsl`.

use wide::f32x4;

use super::{
    input::Input,
    lanes,
    product::{self, Products, multiply},
    weights::CpuWeight,
};
use crate::ops::Then;

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
    sums: product::Scratch,
    /// Indices of all input rows.
    all: Vec<usize>,
    /// A product that is not the output itself, [n_tokens, n_out].
    product: Vec<f32>,
}

/// Computes [`Linear`](crate::ops::Linear) into `out`.
pub fn linear(operands: Operands<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let Operands { weight, bias, norm, x, then } = operands;
    let n_out = weight.n_rows;
    let Scratch { input, sums, all, product } = scratch;
    let n_tokens = input.take(x, norm, weight);
    all.clear();
    all.extend(0..n_tokens);

    product.resize(if then == Then::Store { 0 } else { n_tokens * n_out }, 0.0);
    let target = if then == Then::Store { &mut *out } else { &mut product[..] };
    for segment in &weight.segments {
        let mut products = Products { values: target, width: n_out, column: segment.rows.start };
        multiply(segment, 0..segment.rows.len(), input, all, sums, &mut products);
    }
    if let Some(bias) = bias {
        target.chunks_exact_mut(n_out).for_each(|row| add(row, bias));
    }
    match then {
        Then::Store => {}
        Then::Add => add(out, product),
        Then::SwiGlu => {
            for (out, row) in out.chunks_exact_mut(n_out / 2).zip(product.chunks_exact(n_out)) {
                let (gates, ups) = row.split_at(n_out / 2);
                lanes::zip(out, gates, ups, |gate: f32x4, up| lanes::swish(gate, 1.0) * up);
            }
        }
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what);
}
