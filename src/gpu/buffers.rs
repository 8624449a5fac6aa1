//! What a plan holds on a GPU, and how its operations are recorded over it.

use super::{
    context::{Context, GpuBuffer},
    ops::{Product, Target, attention, embed, matmul, matvec, rms_norm, rope, sample::Sampling},
    record::Recorder,
    tuning::Tuning,
    weights::GpuWeight,
};
use crate::{
    engine::MemoryUse,
    error::{Error, ErrorKind, Result},
    ops::{BufferId, Heads, Linear, Op, Plan},
};

/// Words of the state, see `shaders/state.wgsl`.
const STATE_BYTES: u64 = 16;

/// Keys and values of one layer: f16 in pairs, [n_kv_heads, capacity, head_dim / 2] words each.
pub struct Cache {
    /// Shape of a position.
    pub heads: Heads,
    /// Positions that fit.
    pub capacity: usize,
    /// Rotated keys.
    pub keys: GpuBuffer,
    /// Values.
    pub values: GpuBuffer,
}

impl Cache {
    /// Allocates a cache of `capacity` positions.
    ///
    /// # Errors
    /// `out_of_memory` when it is larger than a binding may be.
    pub fn new(context: &Context, heads: Heads, capacity: usize) -> Result<Self> {
        let bytes = heads.kv_width() as u64 * capacity as u64 * 2;
        if bytes > context.capabilities.max_binding {
            return Err(Error::new(
                ErrorKind::OutOfMemory,
                "the cache is larger than a GPU binding",
            )
            .with("needed", bytes)
            .with("limit", context.capabilities.max_binding)
            .with("context_length", capacity));
        }
        Ok(Self {
            heads,
            capacity,
            keys: context.storage("cache keys", bytes),
            values: context.storage("cache values", bytes),
        })
    }
}

/// Everything that recordings bind.
pub struct Buffers {
    /// By weight id of the plan.
    pub weights: Vec<GpuWeight>,
    /// By buffer id of the plan; the logits have one row, others `max_chunk`.
    pub activations: Vec<GpuBuffer>,
    /// By cache id of the plan.
    pub caches: Vec<Cache>,
    /// Rows of the widest normalised input.
    normed: GpuBuffer,
    splits: GpuBuffer,
    rotations: GpuBuffer,
    /// Position and counts, see `shaders/state.wgsl`.
    pub state: GpuBuffer,
    /// Tokens of the chunk.
    pub tokens: GpuBuffer,
    /// What sampling needs.
    pub sampling: Sampling,
}

/// Which rows of the chunk an operation works on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    Chunk,
    /// The last one.
    Last,
}

impl Buffers {
    /// Allocates everything; also tells how many bytes that took.
    ///
    /// # Errors
    /// `out_of_memory` when something is larger than a binding may be.
    pub fn new(
        context: &Context,
        plan: &Plan,
        context_length: usize,
        tuning: &Tuning,
    ) -> Result<(Self, MemoryUse)> {
        let start = context.allocated();
        let weights = plan
            .weights
            .weights
            .iter()
            .map(|weight| GpuWeight::new(context, weight))
            .collect::<Result<Vec<_>>>()?;
        let weights_end = context.allocated();
        let caches = plan
            .caches
            .iter()
            .map(|&heads| Cache::new(context, heads, context_length))
            .collect::<Result<Vec<_>>>()?;
        let caches_end = context.allocated();

        let max_chunk = tuning.max_chunk as usize;
        let rows = |width: usize, n_rows: usize| (width * n_rows * 4) as u64;
        let activations = plan
            .buffers
            .iter()
            .enumerate()
            .map(|(index, buffer)| {
                let n_rows = if index == plan.head.out.0 { 1 } else { max_chunk };
                context.storage(buffer.name, rows(buffer.width, n_rows))
            })
            .collect();
        let widest = plan.buffers[plan.head.x.0].width;
        let split_words = plan
            .caches
            .iter()
            .map(|heads| heads.n_heads * tuning.max_splits as usize * (heads.head_dim + 2))
            .max()
            .unwrap_or(0);
        let entries = plan.rope.entries(context_length);
        let rotations = context.storage("rotations", (entries.len() * 8) as u64);
        context.queue.write_buffer(&rotations.buffer, 0, bytemuck::cast_slice(&entries));
        let target = Target { capabilities: &context.capabilities, tuning };
        let buffers = Self {
            weights,
            activations,
            caches,
            normed: context.storage("normed", rows(widest, max_chunk)),
            splits: context.storage("attention splits", (split_words * 4) as u64),
            rotations,
            state: context.storage("state", STATE_BYTES),
            tokens: context.storage("tokens", rows(1, max_chunk)),
            sampling: Sampling::new(context, &target, plan.n_vocab, tuning.max_batch),
        };
        let memory = MemoryUse {
            weights: weights_end - start,
            caches: caches_end - weights_end,
            scratch: context.allocated() - caches_end,
        };
        Ok((buffers, memory))
    }

    /// Records an operation of the plan.
    pub fn record<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        op: &Op,
        rows: Rows,
    ) {
        let buffer = |id: BufferId| &self.activations[id.0];
        match *op {
            Op::Embed { table, out } => embed::record(
                recorder,
                &self.state,
                &self.weights[table.0],
                &self.tokens,
                buffer(out),
            ),
            Op::Linear(linear) => {
                self.record_linear(recorder, target, &linear, rows, buffer(linear.out));
            }
            Op::Rope { qkv, cache, heads: _, pairing, n_rot } => rope::record(
                recorder,
                &self.state,
                &self.rotations,
                buffer(qkv),
                &self.caches[cache.0],
                pairing,
                n_rot,
            ),
            Op::Attention { qkv, cache, out, heads: _, scale } => attention::record(
                recorder,
                target,
                &self.state,
                attention::Operands {
                    qkv: buffer(qkv),
                    cache: &self.caches[cache.0],
                    scale,
                    splits: &self.splits,
                    out: buffer(out),
                },
            ),
        }
    }

    /// Records a product with a matrix, into `out`.
    pub fn record_linear<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        linear: &Linear,
        rows: Rows,
        out: &'a GpuBuffer,
    ) {
        let x = &self.activations[linear.x.0];
        let norm = linear.norm.map(|norm| (&self.weights[norm.gain.0], norm.eps));
        let product = Product {
            weight: &self.weights[linear.weight.0],
            bias: linear.bias.map(|id| &self.weights[id.0]),
            out,
            then: linear.then,
        };
        match (rows, norm) {
            (Rows::Last, norm) => matvec::record(recorder, target, &self.state, x, norm, &product),
            (Rows::Chunk, Some((gain, eps))) => {
                rms_norm::record(recorder, target, x, gain, eps, &self.normed);
                matmul::record(recorder, target, &self.state, &self.normed, &product);
            }
            (Rows::Chunk, None) => matmul::record(recorder, target, &self.state, x, &product),
        }
    }
}
