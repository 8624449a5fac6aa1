//! Arithmetic on four numbers at once, for lists of any length.

use wide::{f32x4, i32x4};

/// Below this e^x is taken for zero; it is at least 2⁻¹²⁵, so that no product with it is slow.
const LOWEST: f32 = -86.6;

/// Above this e^x is that of this bound, short of infinity.
const HIGHEST: f32 = 88.0;

/// Adding and subtracting 1.5·2²³ rounds to an integer, which the low bits of the sum hold.
pub const ROUND: f32 = 12_582_912.0;

/// e^x for numbers, with a relative error below 2⁻²².
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, where a polynomial of degree 7 gives e^r; n goes into the
/// exponent.
#[inline(always)]
pub fn exp(x: f32x4) -> f32x4 {
    /// ln 2 as the sum of two, the first of which times n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// Coefficients of r² to r⁷, near Taylor's, for the least relative error (Cephes' `expf`).
    const COEFFICIENTS: [f32; 6] =
        [0.5, 0.166_666_65, 0.041_665_796, 0.008_333_452, 0.001_398_2, 1.987_569_1e-4];
    let is_small = x.simd_lt(f32x4::splat(LOWEST));
    let x = x.fast_min(f32x4::splat(HIGHEST));
    let shifted = x * f32x4::splat(std::f32::consts::LOG2_E) + f32x4::splat(ROUND);
    let n = shifted - f32x4::splat(ROUND);
    let r = x - n * f32x4::splat(LN_2[0]) - n * f32x4::splat(LN_2[1]);
    let [c2, c3, c4, c5, c6, c7] = COEFFICIENTS.map(f32x4::splat);
    let tail = ((((c7 * r + c6) * r + c5) * r + c4) * r + c3) * r + c2;
    let y = tail * r * r + r + f32x4::ONE;
    let exponent = bytemuck::cast::<_, i32x4>(shifted) << 23;
    let y = bytemuck::cast::<_, f32x4>(bytemuck::cast::<_, i32x4>(y) + exponent);
    is_small.select(f32x4::ZERO, y)
}

/// `x / (1 + e^(−steepness · x))`.
#[inline(always)]
pub fn swish(x: f32x4, steepness: f32) -> f32x4 {
    x / (f32x4::ONE + exp(x * f32x4::splat(-steepness)))
}

/// Replaces each element by what `f` makes of it.
#[inline(always)]
pub fn map(values: &mut [f32], f: impl Fn(f32x4) -> f32x4) {
    let (lanes, rest) = values.as_chunks_mut::<4>();
    lanes.iter_mut().for_each(|lanes| *lanes = f(f32x4::new(*lanes)).to_array());
    let last = f(padded(rest)).to_array();
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Writes what `f` makes of each element of `a` and its counterpart in `b` to `out`.
#[inline(always)]
pub fn zip(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32x4, f32x4) -> f32x4) {
    let (out, out_rest) = out.as_chunks_mut::<4>();
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(f32x4::new(*a), f32x4::new(*b)).to_array();
    }
    let last = f(padded(a_rest), padded(b_rest)).to_array();
    out_rest.copy_from_slice(&last[..out_rest.len()]);
}

/// Sum of what `f` makes of each element.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32x4) -> f32x4) -> f32 {
    let (lanes, rest) = values.as_chunks::<4>();
    let sums = lanes.iter().fold(f32x4::ZERO, |sums, lanes| sums + f(f32x4::new(*lanes)));
    let last = f(padded(rest)).to_array();
    sums.reduce_add() + last[..rest.len()].iter().sum::<f32>()
}

/// The largest element, at least `least`.
pub fn largest(values: &[f32], least: f32) -> f32 {
    let (lanes, rest) = values.as_chunks::<4>();
    let start = f32x4::splat(least);
    let found = lanes.iter().fold(start, |found, lanes| found.fast_max(f32x4::new(*lanes)));
    found.to_array().iter().chain(rest).fold(least, |a, &b| a.max(b))
}

/// Dot product, summed in four lanes.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<4>();
    let (b_lanes, b_rest) = b.as_chunks::<4>();
    let mut sums = f32x4::ZERO;
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        sums += f32x4::new(*a) * f32x4::new(*b);
    }
    sums.reduce_add() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Dot products of `a` with four others.
#[inline(always)]
pub fn dots(a: &[f32], others: [&[f32]; 4]) -> f32x4 {
    let (a_lanes, a_rest) = a.as_chunks::<4>();
    let lanes = others.map(|b| &b.as_chunks::<4>().0[..a_lanes.len()]);
    let mut sums = [f32x4::ZERO; 4];
    for (i, a) in a_lanes.iter().enumerate() {
        let a = f32x4::new(*a);
        for (sums, lanes) in sums.iter_mut().zip(lanes) {
            *sums += a * f32x4::new(lanes[i]);
        }
    }
    let [a, b, c, d] = f32x4::transpose(sums);
    let rest = others.map(|b| {
        let b_rest = &b[a_lanes.len() * 4..];
        a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
    });
    a + b + c + d + f32x4::new(rest)
}

fn padded(rest: &[f32]) -> f32x4 {
    let mut lanes = [0.0; 4];
    lanes[..rest.len()].copy_from_slice(rest);
    f32x4::new(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_rounding_and_end_in_zero_and_a_bound() {
        let found = |x: f32| exp(f32x4::splat(x)).to_array()[2];
        let n = 200_000;
        for i in 0..=n {
            let x = (LOWEST + (HIGHEST - LOWEST) * i as f32 / n as f32).min(HIGHEST);
            let expected = f64::from(x).exp();
            let error = (f64::from(found(x)) - expected).abs() / expected;
            assert!(error < 2.0_f64.powi(-22), "e^{x} is off by {error:e}");
        }
        assert_eq!(found(0.0), 1.0);
        assert_eq!([found(-87.0), found(-1e30), found(f32::NEG_INFINITY)], [0.0; 3]);
        assert_eq!([found(1e30), found(f32::INFINITY)], [found(HIGHEST); 2]);
        assert!(found(HIGHEST).is_finite());
    }

    #[test]
    fn lists_of_any_length_are_taken_whole() {
        for n in 0..10 {
            let values: Vec<f32> = (0..n).map(|i| i as f32 - 3.0).collect();
            let doubled: Vec<f32> = values.iter().map(|x| x * 2.0).collect();
            let mut found = values.clone();
            map(&mut found, |x| x + x);
            assert_eq!(found, doubled);
            zip(&mut found, &values, &doubled, |a, b| b - a);
            assert_eq!(found, values);
            assert_eq!(sum(&values, |x| x + f32x4::ONE), values.iter().sum::<f32>() + n as f32);
            assert_eq!(largest(&values, -1.0), values.iter().fold(-1.0, |a: f32, &b| a.max(b)));
            let expected: f32 = values.iter().map(|x| 2.0 * x * x).sum();
            assert_eq!(dot(&values, &doubled), expected);
            let found = dots(&values, [&values, &doubled, &values, &doubled]).to_array();
            assert_eq!(found, [expected / 2.0, expected, expected / 2.0, expected]);
        }
    }
}
