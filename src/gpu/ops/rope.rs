//! Rotary embeddings and the write into the cache: twin of `cpu::rope` and `shaders/rope.wgsl`.

use crate::{
    config::RopePairing,
    gpu::{
        Cache, CacheFormat,
        context::GpuBuffer,
        record::{Binding, Recorder, parameters},
        shader::Variant,
    },
};

/// Threads of a workgroup, each with four elements.
const THREADS: u32 = 128;

/// The variant for an order of pairs, and a cache.
pub fn variant(pairing: RopePairing, format: CacheFormat) -> Variant {
    Variant::new("rope")
        .number("THREADS", THREADS)
        .define_if(pairing == RopePairing::Halves, "HALVES")
        .define_if(format == CacheFormat::F32, "FULL_CACHE")
        .define_if(format == CacheFormat::Int8, "INT8_CACHE")
}

/// Records the rotation of the chunk's queries and keys.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    state: &'a GpuBuffer,
    rotations: &'a GpuBuffer,
    qkv: &'a GpuBuffer,
    cache: &'a Cache,
    pairing: RopePairing,
    n_rot: usize,
) {
    let heads = cache.shape.heads;
    let bindings = vec![
        (
            0,
            parameters(&[
                heads.n_heads.into(),
                heads.n_kv_heads.into(),
                heads.head_dim.into(),
                n_rot.into(),
                cache.capacity.into(),
            ]),
        ),
        (1, Binding::Read(state.into())),
        (2, Binding::Read(rotations.into())),
        (3, Binding::Write(qkv.into())),
        (4, Binding::Write((&cache.keys).into())),
        (5, Binding::Write((&cache.values).into())),
    ];
    let x = (heads.qkv_width() as u32 / 4).div_ceil(THREADS);
    recorder.dispatch(
        "rope",
        variant(pairing, cache.format),
        bindings,
        Box::new(move |extent| Some([x, extent.n_tokens, 1])),
    );
}
