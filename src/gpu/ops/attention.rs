//! Attention: twin of `cpu::attention`, `shaders/attention.wgsl` and `shaders/attention_merge.wgsl`.

use super::Target;
use crate::gpu::{
    Cache,
    context::GpuBuffer,
    record::{Binding, Extent, Recorder, Word, parameters},
    shader::Variant,
};

/// The variant for heads of a width, unsplit.
pub fn variant(target: &Target<'_>, head_dim: u32) -> Variant {
    let workgroup = (head_dim / 2).max(64);
    let variant = Variant::new("attention")
        .define_if(target.capabilities.f16, "HALF_CACHE")
        .number("HEAD_DIM", head_dim);
    target.lanes(variant, workgroup, workgroup)
}

/// What attention works on.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// Rotated queries in the first columns.
    pub qkv: &'a GpuBuffer,
    /// Keys and values.
    pub cache: &'a Cache,
    /// Factor on the dot products.
    pub scale: f32,
    /// Results of splits, [n_heads, n_splits, head_dim + 2].
    pub splits: &'a GpuBuffer,
    /// Output, [n_tokens, q_width].
    pub out: &'a GpuBuffer,
}

/// Records attention of the chunk's queries. A single token with many keys is shared by several
/// workgroups a head, through `splits`.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    state: &'a GpuBuffer,
    Operands { qkv, cache, scale, splits, out }: Operands<'a>,
) {
    let heads = cache.heads;
    let n_heads = heads.n_heads as u32;
    let variant = variant(target, heads.head_dim as u32);
    let bindings = |out: &'a GpuBuffer| {
        vec![
            (
                0,
                parameters(&[
                    heads.n_heads.into(),
                    heads.n_kv_heads.into(),
                    cache.capacity.into(),
                    heads.qkv_width().into(),
                    Word::F32(scale),
                ]),
            ),
            (1, Binding::Read(state.into())),
            (2, Binding::Read(qkv.into())),
            (3, Binding::Read((&cache.keys).into())),
            (4, Binding::Read((&cache.values).into())),
            (5, Binding::Write(out.into())),
        ]
    };
    let tuning = target.tuning.clone();
    let n_splits = move |extent: Extent| {
        if extent.n_tokens == 1 { tuning.n_splits(extent.n_keys) } else { 1 }
    };
    let whole = n_splits.clone();
    recorder.dispatch(
        "attention",
        variant.clone(),
        bindings(out),
        Box::new(move |extent| (whole(extent) == 1).then_some([n_heads, extent.n_tokens, 1])),
    );
    if target.tuning.max_splits == 1 {
        return;
    }
    let split = n_splits.clone();
    recorder.dispatch(
        "attention split",
        variant.define("SPLIT"),
        bindings(splits),
        Box::new(move |extent| {
            let n_splits = split(extent);
            (n_splits > 1).then_some([n_heads, 1, n_splits])
        }),
    );
    recorder.dispatch(
        "attention merge",
        Variant::new("attention_merge"),
        vec![
            (0, parameters(&[heads.head_dim.into()])),
            (1, Binding::Read(splits.into())),
            (2, Binding::Write(out.into())),
        ],
        Box::new(move |extent| {
            let n_splits = n_splits(extent);
            (n_splits > 1).then_some([n_heads, n_splits, 1])
        }),
    );
}
