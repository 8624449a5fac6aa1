//! Decodes tensors to `f32`, exactly.
//!
//! Results are bit for bit those of the `gguf` package for Python, ggml's reference in NumPy: each
//! product and sum below is one rounding in `f32`, in the order written. (The bits of a NaN may
//! differ.) Blocks are decoded by loops of constant length over arrays, so that compilers turn
//! them into SIMD without bounds checks, on `simd128` too.
//!
//! In the layouts, `d` and `m` are scales and minima in half precision. Nibble arrays `qs` hold
//! element `j` in the low half of byte `j` and element `j + n_bytes` in its high half.

use super::DType;

/// Decodes the blocks in `bytes` to `out`.
///
/// | type  | block                                                      | element              |
/// |-------|------------------------------------------------------------|----------------------|
/// | Q4_0  | `d`, `qs[16]`                                              | `d * (q - 8)`        |
/// | Q4_1  | `d`, `m`, `qs[16]`                                         | `d * q + m`          |
/// | Q5_0  | `d`, `qh` (u32: bit 4 of element `i` is bit `i`), `qs[16]` | `d * (q - 16)`       |
/// | Q5_1  | `d`, `m`, `qh`, `qs[16]`                                   | `d * q + m`          |
/// | Q8_0  | `d`, `q` (i8 × 32)                                         | `d * q`              |
/// | Q4_K  | `d`, `m`, 8 scales and minima, `qs[32]` × 4                | `d * s * q - m * n`  |
/// | Q5_K  | `d`, `m`, 8 scales and minima, `qh[32]`, `qs[32]` × 4      | `d * s * q - m * n`  |
/// | Q6_K  | `ql[64]` × 2, `qh[32]` × 2, `s` (i8 × 16), `d`             | `d * s * (q - 32)`   |
/// | MXFP4 | `e` (u8), `qs[16]`                                         | `E2M1[q] * 2^(e-127)`|
/// | U8    | `q` (u8)                                                   | `q`                  |
///
/// An MXFP4 scale of 255, which is NaN to the OCP specification and which no quantizer writes, is
/// read by the same formula, as in ggml: ±0.5 becomes ±2^127 and larger codes become infinite. Code
/// 8, negative zero, becomes zero.
///
/// # Panics
/// If `bytes` is not a whole number of blocks of `dtype`, or `out` is not as long as those blocks
/// have elements. [`TensorInfo`](super::TensorInfo) guarantees the former of whole rows.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => decode(bytes, out, |block, out: &mut [f32; 1]| {
            *out = [f32::from_le_bytes(*block)];
        }),
        DType::F16 => decode(bytes, out, |block, out: &mut [f32; 1]| {
            *out = [f16_to_f32(u16::from_le_bytes(*block))];
        }),
        DType::Bf16 => decode(bytes, out, |block, out: &mut [f32; 1]| {
            *out = [f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16)];
        }),
        DType::Q4_0 => decode(bytes, out, q4_0),
        DType::Q4_1 => decode(bytes, out, q4_1),
        DType::Q5_0 => decode(bytes, out, q5_0),
        DType::Q5_1 => decode(bytes, out, q5_1),
        DType::Q8_0 => decode(bytes, out, q8_0),
        DType::Q4K => decode(bytes, out, q4_k),
        DType::Q5K => decode(bytes, out, q5_k),
        DType::Q6K => decode(bytes, out, q6_k),
        DType::Mxfp4 => decode(bytes, out, mxfp4),
        DType::U8 => decode(bytes, out, |[byte]: &[u8; 1], out: &mut [f32; 1]| {
            *out = [f32::from(*byte)];
        }),
    }
}

/// Applies `block` to each block of `BYTES` bytes and the `LEN` elements it stands for.
#[inline(always)]
fn decode<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, partial_block) = bytes.as_chunks();
    let (outs, partial_out) = out.as_chunks_mut();
    assert!(
        partial_block.is_empty() && partial_out.is_empty() && blocks.len() == outs.len(),
        "{} bytes in blocks of {BYTES} are not {} elements in blocks of {LEN}",
        bytes.len(),
        out.len(),
    );
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

/// The value of a half-precision number, without branches. Exponent and significand are moved into
/// place and the exponent's bias corrected; infinity and NaN need that twice. A subnormal half
/// gets the exponent of the smallest normal one and so an implicit bit, which is subtracted again:
/// its value is a normal number in `f32`, on which every processor computes fast.
#[inline(always)]
fn f16_to_f32(bits: u16) -> f32 {
    const BIAS_CORRECTION: u32 = (127 - 15) << 23;
    const SMALLEST_NORMAL: u32 = 1 << 23;
    const INFINITY: u32 = 31 << 23;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let corrected = magnitude + BIAS_CORRECTION;
    let subnormal = f32::from_bits(corrected + SMALLEST_NORMAL)
        - f32::from_bits(SMALLEST_NORMAL + BIAS_CORRECTION);
    let not_finite = corrected + BIAS_CORRECTION;
    let magnitude = if magnitude < SMALLEST_NORMAL {
        subnormal.to_bits()
    } else if magnitude < INFINITY {
        corrected
    } else {
        not_finite
    };
    f32::from_bits(magnitude | u32::from(bits & 0x8000) << 16)
}

/// The half-precision number at `offset`.
#[inline(always)]
fn half_at<const N: usize>(block: &[u8; N], offset: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[offset], block[offset + 1]]))
}

/// The `LEN` bytes at `offset`.
#[inline(always)]
fn bytes_at<const LEN: usize>(block: &[u8], offset: usize) -> &[u8; LEN] {
    block[offset..].first_chunk().expect("the field lies within the block")
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let qs: &[u8; 16] = bytes_at(block, 2);
    for j in 0..16 {
        out[j] = d * f32::from((qs[j] & 0xf) as i8 - 8);
        out[j + 16] = d * f32::from((qs[j] >> 4) as i8 - 8);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let m = half_at(block, 2);
    let qs: &[u8; 16] = bytes_at(block, 4);
    for j in 0..16 {
        out[j] = d * f32::from(qs[j] & 0xf) + m;
        out[j + 16] = d * f32::from(qs[j] >> 4) + m;
    }
}

/// The 32 unsigned 5-bit integers whose low bits are the nibbles `qs` and whose bits 4 are `qh`.
#[inline(always)]
fn join_5_bits(qh: &[u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let qh = u32::from_le_bytes(*qh);
    let mut q = [0; 32];
    for j in 0..16 {
        q[j] = (qs[j] & 0xf) | ((qh >> j) << 4) as u8 & 0x10;
        q[j + 16] = (qs[j] >> 4) | (qh >> (j + 16) << 4) as u8 & 0x10;
    }
    q
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let q = join_5_bits(bytes_at(block, 2), bytes_at(block, 6));
    for j in 0..32 {
        out[j] = d * f32::from(q[j] as i8 - 16);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let m = half_at(block, 2);
    let q = join_5_bits(bytes_at(block, 4), bytes_at(block, 8));
    for j in 0..32 {
        out[j] = d * f32::from(q[j]) + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let q: &[u8; 32] = bytes_at(block, 2);
    for j in 0..32 {
        out[j] = d * f32::from(q[j] as i8);
    }
}

/// The scale and the minimum of the groups of a Q4_K or Q5_K block, which starts with `d` and `m`.
///
/// Twelve bytes hold eight scales and eight minima of 6 bits. Groups 0 to 3: the low 6 bits of bytes
/// 0 to 3 and 4 to 7. Groups 4 to 7: the halves of bytes 8 to 11 are the low 4 bits, the top 2 bits
/// of bytes 0 to 3 and 4 to 7 the high ones.
#[inline(always)]
fn k_scales<const N: usize>(block: &[u8; N]) -> [(f32, f32); 8] {
    let d = half_at(block, 0);
    let m = half_at(block, 2);
    let packed: &[u8; 12] = bytes_at(block, 4);
    let mut scales = [(0.0, 0.0); 8];
    for j in 0..4 {
        let (scale, minimum, rest) = (packed[j], packed[j + 4], packed[j + 8]);
        scales[j] = (d * f32::from(scale & 0x3f), m * f32::from(minimum & 0x3f));
        scales[j + 4] = (
            d * f32::from((rest & 0xf) | scale >> 6 << 4),
            m * f32::from((rest >> 4) | minimum >> 6 << 4),
        );
    }
    scales
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let scales = k_scales(block);
    let (pairs, _) = out.as_chunks_mut::<64>();
    for (i, pair) in pairs.iter_mut().enumerate() {
        let qs: &[u8; 32] = bytes_at(block, 16 + 32 * i);
        let [(d_low, m_low), (d_high, m_high)] = [scales[2 * i], scales[2 * i + 1]];
        for j in 0..32 {
            pair[j] = d_low * f32::from(qs[j] & 0xf) - m_low;
            pair[j + 32] = d_high * f32::from(qs[j] >> 4) - m_high;
        }
    }
}

/// Bit `g` of `qh[j]` is bit 4 of element `j` of group `g`.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let scales = k_scales(block);
    let qh: &[u8; 32] = bytes_at(block, 16);
    let (pairs, _) = out.as_chunks_mut::<64>();
    for (i, pair) in pairs.iter_mut().enumerate() {
        let qs: &[u8; 32] = bytes_at(block, 48 + 32 * i);
        let [(d_low, m_low), (d_high, m_high)] = [scales[2 * i], scales[2 * i + 1]];
        for j in 0..32 {
            let high_bits = qh[j] >> (2 * i);
            pair[j] = d_low * f32::from((qs[j] & 0xf) | (high_bits & 1) << 4) - m_low;
            pair[j + 32] = d_high * f32::from((qs[j] >> 4) | (high_bits & 2) << 3) - m_high;
        }
    }
}

/// Each half of a block is 4 runs of 32 elements: the low bits of runs 0 and 1 are the low nibbles of
/// `ql[0..32]` and `ql[32..64]`, those of runs 2 and 3 the high nibbles; bits `2r` and `2r + 1` of
/// `qh[j]` are the high bits of element `j` of run `r`. Each 16 elements have a scale.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    let (halves, _) = out.as_chunks_mut::<128>();
    for (half, out) in halves.iter_mut().enumerate() {
        let ql: &[u8; 64] = bytes_at(block, 64 * half);
        let qh: &[u8; 32] = bytes_at(block, 128 + 32 * half);
        let scales: &[u8; 8] = bytes_at(block, 192 + 8 * half);
        let scales = scales.map(|scale| d * f32::from(scale as i8));
        let (runs, _) = out.as_chunks_mut::<32>();
        for (run, out) in runs.iter_mut().enumerate() {
            let low: &[u8; 32] = bytes_at(ql, 32 * (run % 2));
            let [first, second] = [scales[2 * run], scales[2 * run + 1]];
            let element = |j: usize| {
                let q = (low[j] >> (run / 2 * 4)) & 0xf | (qh[j] >> (2 * run) & 3) << 4;
                f32::from(q as i8 - 32)
            };
            for j in 0..16 {
                out[j] = first * element(j);
                out[j + 16] = second * element(j + 16);
            }
        }
    }
}

/// Twice the value of an E2M1 code, which is an integer: 0, 1, 2, 3, 4, 6, 8 or 12, negated by bit 3.
/// As those lie on a convex line of three slopes, they are a maximum rather than a table look-up,
/// which would not become SIMD.
#[inline(always)]
pub(crate) fn doubled_e2m1(code: u8) -> i8 {
    let step = (code & 7) as i8;
    let magnitude = step.max(2 * step - 4).max(4 * step - 16);
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// The number that an E2M1 code and an E8M0 scale make.
pub(crate) fn mxfp4_number(code: u8, scale: u8) -> f32 {
    half_of_e8m0(scale) * f32::from(doubled_e2m1(code))
}

fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let half_scale = half_of_e8m0(block[0]);
    let qs: &[u8; 16] = bytes_at(block, 1);
    for j in 0..16 {
        out[j] = half_scale * f32::from(doubled_e2m1(qs[j] & 0xf));
        out[j + 16] = half_scale * f32::from(doubled_e2m1(qs[j] >> 4));
    }
}

/// `2^(e - 128)`: half the value of an E8M0 scale, to go with [`doubled_e2m1`]. The two smallest
/// are subnormal and have no exponent to set.
#[inline(always)]
pub(crate) fn half_of_e8m0(e: u8) -> f32 {
    let e = u32::from(e);
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_converted_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f32();
            let found = f16_to_f32(bits);
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#06x}: {found} is not {expected}"
            );
        }
    }

    /// The values of the OCP Microscaling specification times an exact power of two, in f64 and
    /// rounded once, for every pair of code and scale.
    #[test]
    fn mxfp4_is_e2m1_times_a_power_of_two_at_every_scale() {
        const E2M1: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let mut block = [0; 17];
        for j in 0..16 {
            block[1 + j] = j as u8 | (15 - j as u8) << 4;
        }
        for e in 0..=u8::MAX {
            block[0] = e;
            let mut out = [f32::NAN; 32];
            dequantize(DType::Mxfp4, &block, &mut out);
            for (element, found) in out.into_iter().enumerate() {
                let code = if element < 16 { element } else { 31 - element };
                let sign = if code < 8 { 1.0 } else { -1.0 };
                let expected = (sign * E2M1[code % 8] * 2f64.powi(i32::from(e) - 127)) as f32;
                assert_eq!(found, expected, "code {code}, scale {e}");
            }
        }
    }

    #[test]
    fn the_smallest_mxfp4_scales_are_subnormal_and_not_infinite() {
        let mut out = [0.0; 32];
        dequantize(DType::Mxfp4, &[0; 17], &mut out);
        assert_eq!(out, [0.0; 32]);
        for (e, bits) in [(0, 0x0020_0000), (1, 0x0040_0000), (2, 0x0080_0000)] {
            let mut block = [0x11; 17];
            block[0] = e;
            dequantize(DType::Mxfp4, &block, &mut out);
            assert_eq!(out.map(f32::to_bits), [bits; 32]);
        }
    }

    #[test]
    #[should_panic(expected = "35 bytes in blocks of 34 are not 32 elements in blocks of 32")]
    fn a_length_mismatch_is_a_bug_of_the_caller() {
        dequantize(DType::Q8_0, &[0; 35], &mut [0.0; 32]);
    }
}
