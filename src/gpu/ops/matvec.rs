//! Product of one row with a matrix: twin of `cpu::linear` and `shaders/matvec.wgsl`.

use super::{Product, ProductShape, Target};
use crate::gpu::{context::GpuBuffer, record::Recorder, shader::Variant, weights::GpuWeight};

/// The variant for a product with a matrix of so many outputs and columns, with RMSNorm ahead of it if
/// `norm` is set.
pub fn variant(
    target: &Target<'_>,
    shape: ProductShape,
    [n_outputs, n_cols]: [usize; 2],
    norm: bool,
) -> Variant {
    let tuning = target.tuning;
    let mut variant = shape
        .variant(target, "matvec")
        .define_if(norm, "NORM")
        .number("ROWS", tuning.sizes.matvec_rows);
    if let Some(n_cols) = target.staged(n_cols, 0) {
        variant = variant.define("STAGED").number("STAGED_WORDS", n_cols / 4);
    }
    target.lanes(variant, tuning.matvec_workgroup, tuning.lanes(n_outputs))
}

/// Records the product of the chunk's last row, one dispatch a page; `norm` is the gain and epsilon of
/// RMSNorm ahead of it.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    state: &'a GpuBuffer,
    x: &'a GpuBuffer,
    norm: Option<(&'a GpuWeight, f32)>,
    product: &Product<'a>,
) {
    let tuning = target.tuning;
    for page in &product.weight.pages {
        let sizes = [page.outputs.len(), product.weight.n_cols];
        let variant = variant(target, product.shape(page), sizes, norm.is_some());
        let bindings = product.bindings(page, state, x, norm);
        let rows = tuning.rows_of_workgroup(page.outputs.len());
        let n_workgroups = (page.outputs.len() as u32).div_ceil(rows);
        let y = n_workgroups.div_ceil(65_535);
        let grid = [n_workgroups.div_ceil(y), y, 1];
        recorder.dispatch(&product.weight.name, variant, bindings, Box::new(move |_| Some(grid)));
    }
}
