//! Product of many rows with a matrix: twin of `cpu::linear`, `shaders/matmul.wgsl` and
//! `shaders/matmul_lanes.wgsl`.

use super::{Product, ProductShape, Target};
use crate::{
    gpu::{
        context::GpuBuffer, record::Recorder, shader::Variant, tuning::LaneTile, weights::GpuWeight,
    },
    ops::Then,
    weights::Layout,
};

/// Tokens of a tile of `matmul.wgsl`.
const TILE_TOKENS: u32 = 32;

/// Whether the product can have RMSNorm ahead of it: where dispatches cost more than to square each input once more for
/// every tile of rows.
pub fn normalises(target: &Target<'_>) -> bool {
    target.tuning.lane_tile.is_some()
}

/// The variant for a product, with RMSNorm ahead of it if `norm` is set.
pub fn variant(target: &Target<'_>, shape: ProductShape, norm: bool) -> Variant {
    if let Some(tile) = target.tuning.lane_tile {
        let variant = shape.variant(target, "matmul_lanes").define_if(norm, "NORM");
        return target.lane_tile(variant, tile);
    }
    // Products of codes and scales would be rounded to f16, which is enough to send tokens to other
    // experts; bf16 and f32 have a wider range.
    let fits_half = shape.layout == Layout::F16;
    shape.variant(target, "matmul").define_if(target.capabilities.f16 && fits_half, "HALF_TILE")
}

/// Records the product of all rows of the chunk, one dispatch a page; `norm` is the gain and epsilon of RMSNorm ahead
/// of it, on devices where the product [`normalises`].
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    state: &'a GpuBuffer,
    x: &'a GpuBuffer,
    norm: Option<(&'a GpuWeight, f32)>,
    product: &Product<'a>,
) {
    let (tile_rows, tile_tokens) = match target.tuning.lane_tile {
        Some(LaneTile { rows, quads }) => (rows * target.tuning.matvec_workgroup, 4 * quads),
        None if product.then == Then::SwiGlu => (32, TILE_TOKENS),
        None => (64, TILE_TOKENS),
    };
    for page in &product.weight.pages {
        let variant = variant(target, product.shape(page), norm.is_some());
        let bindings = product.bindings(page, state, x, norm);
        let x_tiles = (page.outputs.len() as u32).div_ceil(tile_rows);
        recorder.dispatch(
            &product.weight.name,
            variant,
            bindings,
            Box::new(move |extent| Some([x_tiles, extent.n_tokens.div_ceil(tile_tokens), 1])),
        );
    }
}
