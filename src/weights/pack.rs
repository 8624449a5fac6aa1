//! Rows of a file's tensors → rows of a packed [`Layout`].
//!
//! Where a layout holds a file's codes, they are moved, not computed anew: what the packed row
//! decodes to is what the file's row decodes to, up to the rounding of products of scales that
//! [`Layout`] states.

use half::{bf16, f16};

use super::{
    Encoding, Part,
    layout::{BLOCK, Layout},
};
use crate::checkpoint::{
    DType,
    dequantize::{dequantize, mxfp4_number},
    mxfp4::ggml_from_blocks,
};

/// Packs rows of tensors; keeps its memory from one to the next.
#[derive(Default)]
pub struct Packer {
    /// Scratch of [`pack_row`].
    row: Vec<f32>,
}

impl Packer {
    /// Packs rows of the tensor of `part`, which `bytes` holds, into `packed`: for each strand its
    /// quants, then its scales, as far as the tensor gives them.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn pack(
        &mut self,
        part: &Part,
        layout: Layout,
        n_cols: usize,
        bytes: &[u8],
        packed: &mut [u8],
    ) {
        let row_bytes = part.row_bytes(n_cols);
        let n_strands = part.place.n_strands;
        let n_rows = bytes.len() / row_bytes / n_strands;
        let quants_bytes = layout.quants_row_bytes(n_cols);
        let scales_bytes = layout.scales_row_bytes(n_cols);
        // Rows of scales end with padding.
        packed.fill(0);
        let mut rest = packed;
        let mut take = |bytes: usize| {
            let (taken, after) = std::mem::take(&mut rest).split_at_mut(bytes);
            rest = after;
            taken
        };
        for strand in 0..n_strands {
            let sources = bytes.chunks_exact(row_bytes).skip(strand).step_by(n_strands);
            match part.encoding {
                Encoding::Blocks(dtype) => {
                    let quants = take(n_rows * quants_bytes);
                    let scales = take(n_rows * scales_bytes);
                    for (i, source) in sources.enumerate() {
                        let quants = &mut quants[i * quants_bytes..][..quants_bytes];
                        let scales = &mut scales[i * scales_bytes..][..scales_bytes];
                        pack_row(dtype, layout, source, quants, scales, &mut self.row);
                    }
                }
                Encoding::Mxfp4Codes => {
                    let targets = take(n_rows * quants_bytes).chunks_exact_mut(quants_bytes);
                    for (target, source) in targets.zip(sources) {
                        let blocks = target.as_chunks_mut().0.iter_mut().zip(source.as_chunks().0);
                        blocks.for_each(|(target, block)| *target = ggml_from_blocks(block));
                    }
                }
                Encoding::Mxfp4Scales => {
                    let targets = take(n_rows * scales_bytes).chunks_exact_mut(scales_bytes);
                    targets.zip(sources).for_each(|(t, s)| t[..s.len()].copy_from_slice(s));
                }
            }
        }
    }
}

/// Packs one row of `n_cols` elements.
///
/// `source` is the row as the file holds it, `quants` and `scales` the row's places in the packed
/// sections, with exactly the lengths that `layout` gives. `row` is scratch memory.
///
/// # Panics
/// When a length does not fit: callers have checked shapes against the file.
pub fn pack_row(
    dtype: DType,
    layout: Layout,
    source: &[u8],
    quants: &mut [u8],
    scales: &mut [u8],
    row: &mut Vec<f32>,
) {
    match (dtype, layout) {
        (DType::Q4_0, Layout::U4) => {
            for (i, block) in source.as_chunks::<18>().0.iter().enumerate() {
                let d = f16_at(block, 0).to_f32();
                quants[i * 16..][..16].copy_from_slice(&block[2..]);
                put_pair(scales, i, d, -8.0 * d);
            }
        }
        (DType::Q4_1, Layout::U4) => {
            for (i, block) in source.as_chunks::<20>().0.iter().enumerate() {
                scales[i * 4..][..4].copy_from_slice(&block[..4]);
                quants[i * 16..][..16].copy_from_slice(&block[4..]);
            }
        }
        (DType::Mxfp4, Layout::Fp4) => {
            for (i, block) in source.as_chunks::<17>().0.iter().enumerate() {
                scales[i] = block[0];
                quants[i * 16..][..16].copy_from_slice(&block[1..]);
            }
        }
        (DType::Q8_0, Layout::I8) => {
            for (i, block) in source.as_chunks::<34>().0.iter().enumerate() {
                scales[i * 2..][..2].copy_from_slice(&block[..2]);
                quants[i * 32..][..32].copy_from_slice(&block[2..]);
            }
        }
        (DType::Q5_0, Layout::I8) => {
            for (i, block) in source.as_chunks::<22>().0.iter().enumerate() {
                scales[i * 2..][..2].copy_from_slice(&block[..2]);
                let codes = five_bits(&block[6..22], &block[2..6]);
                for (quant, code) in quants[i * 32..][..32].iter_mut().zip(codes) {
                    *quant = code.wrapping_sub(16);
                }
            }
        }
        (DType::Q5_1, Layout::I8Affine) => {
            for (i, block) in source.as_chunks::<24>().0.iter().enumerate() {
                scales[i * 4..][..4].copy_from_slice(&block[..4]);
                quants[i * 32..][..32].copy_from_slice(&five_bits(&block[8..24], &block[4..8]));
            }
        }
        (DType::Q4K, Layout::U4) => {
            for (i, block) in source.as_chunks::<144>().0.iter().enumerate() {
                k_scales(block, &mut scales[i * 32..][..32]);
                for pair in 0..4 {
                    // 32 bytes: block 2·pair in the low halves, block 2·pair + 1 in the high ones.
                    let codes = &block[16 + pair * 32..][..32];
                    let (low, high) = quants[(i * 8 + pair * 2) * 16..][..32].split_at_mut(16);
                    for j in 0..16 {
                        low[j] = (codes[j] & 15) | (codes[j + 16] << 4);
                        high[j] = (codes[j] >> 4) | (codes[j + 16] & 0xf0);
                    }
                }
            }
        }
        (DType::Q5K, Layout::I8Affine) => {
            for (i, block) in source.as_chunks::<176>().0.iter().enumerate() {
                k_scales(block, &mut scales[i * 32..][..32]);
                let (high_bits, codes) = (&block[16..48], &block[48..176]);
                for j in 0..256 {
                    let (sub_block, lane) = (j / 32, j % 32);
                    let low = codes[sub_block / 2 * 32 + lane] >> (sub_block % 2 * 4) & 15;
                    quants[i * 256 + j] = low | (high_bits[lane] >> sub_block & 1) << 4;
                }
            }
        }
        (DType::Q6K, Layout::I8Group16) => {
            for (i, block) in source.as_chunks::<210>().0.iter().enumerate() {
                let d = f16_at(block, 208).to_f32();
                for group in 0..16 {
                    let scale = f16::from_f32(d * f32::from(block[192 + group] as i8));
                    scales[(i * 16 + group) * 2..][..2].copy_from_slice(&scale.to_le_bytes());
                }
                let (low_bits, high_bits) = (&block[..128], &block[128..192]);
                for j in 0..256 {
                    // Each half of 128 elements: quarter k has its low 4 bits in 64 bytes (two
                    // quarters share a byte) and its high 2 bits in 32 bytes (four share a byte).
                    let (half, quarter, lane) = (j / 128, j / 32 % 4, j % 32);
                    let low =
                        low_bits[half * 64 + quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
                    let high = high_bits[half * 32 + lane] >> (quarter * 2) & 3;
                    quants[i * 256 + j] = (low | high << 4).wrapping_sub(32);
                }
            }
        }
        (DType::F16, Layout::F16) | (DType::Bf16, Layout::Bf16) => quants.copy_from_slice(source),
        (DType::F32, Layout::F32 | Layout::Vector) => quants.copy_from_slice(source),
        _ => {
            row.resize(source.len() / dtype.block_bytes() * dtype.block_len(), 0.0);
            dequantize(dtype, source, row);
            encode_row(layout, row, quants, scales);
        }
    }
}

/// Encodes a row of numbers in a symmetric or dense layout.
///
/// # Panics
/// For the affine and grouped layouts, into which only a file's own codes are moved.
fn encode_row(layout: Layout, row: &[f32], quants: &mut [u8], scales: &mut [u8]) {
    match layout {
        Layout::I8 => {
            for (i, block) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
                let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                let d = f16::from_f32(largest / 127.0);
                let inverse = if d.to_f32() > 0.0 { 1.0 / d.to_f32() } else { 0.0 };
                scales[i * 2..][..2].copy_from_slice(&d.to_le_bytes());
                for (quant, x) in quants[i * BLOCK..][..BLOCK].iter_mut().zip(block) {
                    *quant = (x * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
                }
            }
        }
        Layout::F16 => {
            for (quant, x) in quants.as_chunks_mut::<2>().0.iter_mut().zip(row) {
                *quant = f16::from_f32(*x).to_le_bytes();
            }
        }
        Layout::Bf16 => {
            for (quant, x) in quants.as_chunks_mut::<2>().0.iter_mut().zip(row) {
                *quant = bf16::from_f32(*x).to_le_bytes();
            }
        }
        Layout::F32 | Layout::Vector => {
            for (quant, x) in quants.as_chunks_mut::<4>().0.iter_mut().zip(row) {
                *quant = x.to_le_bytes();
            }
        }
        Layout::U4 | Layout::Fp4 | Layout::I8Group16 | Layout::I8Affine => {
            unreachable!("numbers are not quantised anew to {}", layout.name())
        }
    }
}

/// The layout in which parts of a file's types `a` and `b` can stand in one section: their own
/// where it is the same, else half precision.
pub fn common_layout(a: Layout, b: Layout) -> Layout {
    if a == b { a } else { Layout::F16 }
}

/// Decodes one packed row: the definition of what each [`Layout`] means.
pub fn unpack_row(layout: Layout, quants: &[u8], scales: &[u8], row: &mut [f32]) {
    let pair =
        |block: usize| (f16_at(scales, block * 4).to_f32(), f16_at(scales, block * 4 + 2).to_f32());
    for (i, x) in row.iter_mut().enumerate() {
        let (block, j) = (i / BLOCK, i % BLOCK);
        let nibble = || quants[block * 16 + j % 16] >> (j / 16 * 4) & 15;
        *x = match layout {
            Layout::U4 => {
                let (d, m) = pair(block);
                d * f32::from(nibble()) + m
            }
            Layout::Fp4 => mxfp4_number(nibble(), scales[block]),
            Layout::I8 => f16_at(scales, block * 2).to_f32() * f32::from(quants[i] as i8),
            Layout::I8Group16 => f16_at(scales, i / 16 * 2).to_f32() * f32::from(quants[i] as i8),
            Layout::I8Affine => {
                let (d, m) = pair(block);
                d * f32::from(quants[i] as i8) + m
            }
            Layout::F16 => f16_at(quants, i * 2).to_f32(),
            Layout::Bf16 => bf16::from_le_bytes([quants[i * 2], quants[i * 2 + 1]]).to_f32(),
            Layout::F32 | Layout::Vector => {
                f32::from_le_bytes(quants[i * 4..][..4].try_into().expect("four bytes"))
            }
        };
    }
}

fn f16_at(bytes: &[u8], offset: usize) -> f16 {
    f16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn put_pair(scales: &mut [u8], block: usize, d: f32, m: f32) {
    scales[block * 4..][..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    scales[block * 4 + 2..][..2].copy_from_slice(&f16::from_f32(m).to_le_bytes());
}

/// 32 codes of 5 bits: low halves as in [`Layout::U4`], the fifth bits in 4 bytes.
fn five_bits(low: &[u8], high: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    std::array::from_fn(|j| {
        let nibble = if j < 16 { low[j] & 15 } else { low[j - 16] >> 4 };
        nibble | ((high >> j & 1) as u8) << 4
    })
}

/// The eight pairs `(d·scale, −dmin·min)` of a K-quant superblock, whose 6-bit factors are spread
/// over 12 bytes: the first four in the low 6 bits, the last four in 4 bits and what is left above.
fn k_scales(block: &[u8], scales: &mut [u8]) {
    let (d, d_min) = (f16_at(block, 0).to_f32(), f16_at(block, 2).to_f32());
    let packed = &block[4..16];
    for j in 0..8 {
        let (scale, min) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (
                packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4,
                packed[j + 4] >> 4 | (packed[j] >> 6) << 4,
            )
        };
        put_pair(scales, j, d * f32::from(scale), -d_min * f32::from(min));
    }
}
