//! Attention: twin of `cpu::attention`, `shaders/attention.wgsl`, `shaders/attention_rows.wgsl` and
//! `shaders/attention_merge.wgsl`.

use super::Target;
use crate::{
    config::RopePairing,
    gpu::{
        Cache, CacheFormat,
        context::GpuBuffer,
        record::{Binding, Extent, Recorder, Word, parameters},
        shader::Variant,
        weights::GpuWeight,
    },
    ops::CacheShape,
};

/// What makes the variant of attention beside the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Width of a head.
    pub head_dim: u32,
    /// Heads that share keys and values.
    pub group: u32,
    /// Whether a token sees a window only.
    pub window: bool,
    /// Whether heads have sinks.
    pub sinks: bool,
    /// What the cache holds numbers as.
    pub format: CacheFormat,
    /// Whether chunks have one token.
    pub one_token: bool,
    /// Which elements rotate together, where queries and the key of one token are rotated on the way.
    pub rotates: Option<RopePairing>,
}

impl AttentionShape {
    /// Rows of queries of a workgroup, and its threads, where rows share keys and values.
    fn rows(self, target: &Target<'_>) -> Option<(u32, u32)> {
        let (most, n_rows) = match self.one_token {
            true => (target.tuning.attention_rows, self.group),
            false => (target.tuning.attention_chunk_rows, target.tuning.max_chunk * self.group),
        };
        // The limits of `attention_rows.wgsl`.
        let threads = target.capabilities.subgroup.filter(|&size| size >= 4)?.min(32);
        let quads = (most / 4).min(n_rows.div_ceil(4)).min(1024 / self.head_dim);
        (quads > 0).then_some((4 * quads, threads))
    }

    /// The variant for a device, unsplit.
    pub fn variant(self, target: &Target<'_>) -> Variant {
        let rows = self.rows(target);
        // Each lane of a CPU's vectors loads by itself: two halves in a word are one load.
        let halves = target.capabilities.f16 && !(rows.is_some() && target.capabilities.software);
        let variant = Variant::new(if rows.is_some() { "attention_rows" } else { "attention" })
            .define_if(self.format == CacheFormat::F32, "FULL_CACHE")
            .define_if(halves && self.format == CacheFormat::F16, "HALF_CACHE")
            .define_if(self.format == CacheFormat::Int8, "INT8_CACHE")
            .define_if(self.window, "WINDOW")
            .define_if(self.sinks, "SINKS")
            .define_if(self.rotates.is_some(), "ROTATE")
            .define_if(self.rotates == Some(RopePairing::Halves), "HALVES")
            .number("HEAD_DIM", self.head_dim);
        match rows {
            Some((rows, threads)) => variant
                .define("SUBGROUPS")
                .number("QUADS", rows / 4)
                .number("LANES", threads)
                .number("PAIRS", (self.head_dim / 2).div_ceil(threads)),
            None => {
                let workgroup = (self.head_dim / 2).max(target.tuning.attention_workgroup);
                target.lanes(variant, workgroup, workgroup)
            }
        }
    }
}

/// How the queries and the key of a single token are rotated on the way.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// As for `rope`.
    pub rotations: &'a GpuBuffer,
    /// Which elements rotate together.
    pub pairing: RopePairing,
    /// Elements of a head that rotate.
    pub n_rot: usize,
}

/// What attention works on.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// Rotated queries in the first columns; with `rotation` queries, keys and values as they are.
    pub qkv: &'a GpuBuffer,
    /// Whether chunks have one token.
    pub one_token: bool,
    /// How they are rotated, and the cache is written, on the way; for one token.
    pub rotation: Option<Rotation<'a>>,
    /// Keys and values.
    pub cache: &'a Cache,
    /// Factor on the dot products.
    pub scale: f32,
    /// Score of a key without a value for each head, `[n_heads]`.
    pub sinks: Option<&'a GpuWeight>,
    /// Results of splits, [n_heads, n_splits, head_dim + 2].
    pub splits: &'a GpuBuffer,
    /// Output, [n_tokens, q_width].
    pub out: &'a GpuBuffer,
}

/// Records attention of the chunk's queries. The many keys of a single token are shared by several
/// workgroups, through `splits`.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    state: &'a GpuBuffer,
    Operands { qkv, one_token, rotation, cache, scale, sinks, splits, out }: Operands<'a>,
) {
    let CacheShape { heads, window, .. } = cache.shape;
    let (n_heads, n_kv_heads) = (heads.n_heads as u32, heads.n_kv_heads as u32);
    let shape = AttentionShape {
        head_dim: heads.head_dim as u32,
        group: n_heads / n_kv_heads,
        window: window.is_some(),
        sinks: sinks.is_some(),
        format: cache.format,
        one_token,
        rotates: rotation.map(|rotation| rotation.pairing),
    };
    let variant = shape.variant(target);
    let bindings = |out: &'a GpuBuffer| {
        let mut bindings = vec![
            (
                0,
                parameters(&[
                    heads.n_heads.into(),
                    heads.n_kv_heads.into(),
                    cache.capacity.into(),
                    heads.qkv_width().into(),
                    Word::F32(scale),
                    window.unwrap_or(0).into(),
                    rotation.map_or(0, |rotation| rotation.n_rot).into(),
                ]),
            ),
            (1, Binding::Read(state.into())),
            (2, Binding::Read(qkv.into())),
            (5, Binding::Write(out.into())),
        ];
        let (keys, values) = ((&cache.keys).into(), (&cache.values).into());
        bindings.extend(match rotation {
            Some(_) => [(3, Binding::Write(keys)), (4, Binding::Write(values))],
            None => [(3, Binding::Read(keys)), (4, Binding::Read(values))],
        });
        bindings.extend(rotation.map(|rotation| (7, Binding::Read(rotation.rotations.into()))));
        bindings.extend(sinks.map(|sinks| (6, Binding::Read(sinks.vector().into()))));
        bindings
    };
    let tuning = target.tuning.clone();
    let most_keys = window.map_or(u32::MAX, |window| window as u32);
    let n_splits = move |extent: Extent| {
        if extent.n_tokens == 1 { tuning.n_splits(extent.n_keys.min(most_keys)) } else { 1 }
    };
    let rows = shape.rows(target);
    let grid = move |n_tokens: u32, n_splits: u32| match rows {
        Some((rows, _)) => [(shape.group * n_tokens).div_ceil(rows), n_kv_heads, n_splits],
        None => [n_heads, n_tokens, n_splits],
    };
    let whole = n_splits.clone();
    recorder.dispatch(
        "attention",
        variant.clone(),
        bindings(out),
        Box::new(move |extent| (whole(extent) == 1).then_some(grid(extent.n_tokens, 1))),
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
            (n_splits > 1).then_some(grid(1, n_splits))
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
