//! Rows of the embedding table: twin of `shaders/embed.wgsl`.

use super::weights::CpuWeight;
use crate::{
    checkpoint::dequantize::mxfp4_number,
    weights::{BLOCK, Layout},
};
use half::{bf16, f16};

/// Decodes row `tokens[t]` of `table` into row `t` of `out`, [n_tokens, n_cols].
pub fn embed(table: &CpuWeight, tokens: &[u32], out: &mut [f32]) {
    for (&token, out) in tokens.iter().zip(out.chunks_exact_mut(table.n_cols)) {
        let token = token as usize;
        let segment = table
            .segments
            .iter()
            .find(|segment| segment.rows.contains(&token))
            .expect("tokens are below n_vocab");
        let row = token - segment.rows.start;
        let quants = &segment.quants[row * segment.quants_row_bytes..][..segment.quants_row_bytes];
        let scales = segment.row_scales(row);
        for (i, x) in out.iter_mut().enumerate() {
            let (block, j) = (i / BLOCK, i % BLOCK);
            let min = || segment.mins[row * segment.n_groups + block];
            let nibble = || quants[block * 16 + j % 16] >> (j / 16 * 4) & 15;
            *x = match segment.layout {
                Layout::U4 => scales[block] * f32::from(nibble()) + min(),
                Layout::Fp4 => {
                    mxfp4_number(nibble(), segment.exponents[row * segment.n_groups + block])
                }
                Layout::I8 => scales[block] * f32::from(quants[i] as i8),
                Layout::I8Group16 => scales[i / 16] * f32::from(quants[i] as i8),
                Layout::I8Affine => scales[block] * f32::from(quants[i] as i8) + min(),
                Layout::F16 => f16::from_le_bytes([quants[i * 2], quants[i * 2 + 1]]).to_f32(),
                Layout::Bf16 => bf16::from_le_bytes([quants[i * 2], quants[i * 2 + 1]]).to_f32(),
                Layout::F32 => {
                    f32::from_le_bytes(quants[i * 4..][..4].try_into().expect("four bytes"))
                }
                Layout::Vector => unreachable!("a table is a matrix"),
            };
        }
    }
}
