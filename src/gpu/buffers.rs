//! What a plan holds on a GPU, and how its operations are recorded over it.

use super::{
    context::{Context, GpuBuffer, Guard, buffer_bytes, check_binding},
    ops::{
        Product, Target, attention, embed, experts, matmul, matvec, rms_norm, rope, route,
        sample::Sampling,
    },
    record::Recorder,
    tuning::Tuning,
    weights::GpuWeight,
};
use crate::{
    engine::MemoryUse,
    error::Result,
    ops::{
        BufferId, CACHE_GROUP, CacheNumbers, CacheShape, Experts, Linear, Op, Plan, ThenExperts,
    },
    weights::Precision,
};

/// Words of the state, see `shaders/state.wgsl`.
const STATE_BYTES: u64 = 16;

/// What a cache on the GPU holds numbers as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    /// As they are.
    F32,
    /// Two in a word.
    F16,
    /// Four in a word; after those of a head of a position, its scales, two in a word.
    Int8,
}

impl CacheFormat {
    /// What a cache of `numbers` holds: f32 for [`CacheNumbers::Full`] where everything is to stay as exact as
    /// it can.
    fn of(numbers: CacheNumbers, precision: Precision) -> Self {
        match (numbers, precision) {
            (CacheNumbers::Int8, _) => Self::Int8,
            (CacheNumbers::Full, Precision::Exact) => Self::F32,
            (CacheNumbers::Full, Precision::Compact) => Self::F16,
        }
    }

    /// Bytes of a position of a head, in keys and in values each.
    fn bytes(self, head_dim: usize) -> u64 {
        let bytes = match self {
            Self::F32 => 4 * head_dim,
            Self::F16 => 2 * head_dim,
            Self::Int8 => head_dim + 4 * head_dim.div_ceil(2 * CACHE_GROUP),
        };
        bytes as u64
    }
}

/// Keys and values of one layer, [n_kv_heads, capacity, head_dim] each.
pub struct Cache {
    /// Heads and window.
    pub shape: CacheShape,
    /// Positions that fit: the last so many where there is a window.
    pub capacity: usize,
    /// What elements are.
    pub format: CacheFormat,
    /// Rotated keys.
    pub keys: GpuBuffer,
    /// Values.
    pub values: GpuBuffer,
}

impl Cache {
    /// Bytes of a cache for a context of `context_length` positions.
    pub fn needed(shape: CacheShape, context_length: usize, precision: Precision) -> u64 {
        2 * buffer_bytes(half_bytes(shape, context_length, precision))
    }

    /// Allocates such a cache.
    ///
    /// # Errors
    /// Those of `guard`.
    pub async fn new(
        guard: &mut Guard<'_>,
        shape: CacheShape,
        context_length: usize,
        precision: Precision,
    ) -> Result<Self> {
        let bytes = half_bytes(shape, context_length, precision);
        check_binding("cache", bytes, guard.max_binding())
            .map_err(|error| error.with("context_length", context_length))?;
        Ok(Self {
            shape,
            capacity: shape.capacity(context_length),
            format: CacheFormat::of(shape.numbers, precision),
            keys: guard.storage("cache keys", bytes).await?,
            values: guard.storage("cache values", bytes).await?,
        })
    }
}

impl Cache {
    /// Bytes of so many positions of one head, in keys and in values each.
    pub fn bytes_of(&self, n_positions: usize) -> u64 {
        n_positions as u64 * self.format.bytes(self.shape.heads.head_dim)
    }
}

/// Bytes of the keys of a cache, and of its values.
fn half_bytes(shape: CacheShape, context_length: usize, precision: Precision) -> u64 {
    let of_head = CacheFormat::of(shape.numbers, precision).bytes(shape.heads.head_dim);
    (shape.heads.n_kv_heads * shape.capacity(context_length)) as u64 * of_head
}

/// Whether, for one row, `op` does the work of the one before it as well. Integers in a cache have scales, for which
/// the numbers of a group meet ahead of attention.
fn absorbs(op: &Op, before: &Op, caches: &[Cache], tuning: &Tuning) -> bool {
    match (before, op) {
        (Op::Rope { qkv: rotated, cache: written, .. }, Op::Attention { qkv, cache, .. }) => {
            let is_int8 = caches[cache.0].format == CacheFormat::Int8;
            !is_int8 && rotated == qkv && written == cache
        }
        (Op::Route { out, .. }, Op::Experts(Experts { routing, then, .. })) => {
            tuning.fuses_into_experts
                && out == routing
                && matches!(then, ThenExperts::SwiGlu { .. })
        }
        _ => false,
    }
}

/// Everything that recordings bind.
pub struct Buffers {
    /// By weight id of the plan.
    pub weights: Vec<GpuWeight>,
    /// By buffer id of the plan; the logits have one row, others `max_chunk`.
    pub activations: Vec<GpuBuffer>,
    /// Elements of a row of each activation buffer.
    widths: Vec<usize>,
    /// By cache id of the plan.
    pub caches: Vec<Cache>,
    /// Rows of the widest normalised input.
    pub normed: GpuBuffer,
    splits: GpuBuffer,
    rotations: GpuBuffer,
    /// Where the plan has experts.
    experts: Option<experts::Scratch>,
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
    /// `out_of_memory` when something is larger than a binding may be, and those of [`Guard::finish`].
    pub async fn new(
        context: &Context,
        plan: &Plan,
        context_length: usize,
        tuning: &Tuning,
    ) -> Result<(Self, MemoryUse)> {
        let start = context.allocated();
        let mut guard = Guard::new(context);
        let target = Target { capabilities: &context.capabilities, tuning };
        let max_chunk = tuning.max_chunk as usize;
        let rows = |width: usize, n_rows: usize| width as u64 * n_rows as u64 * 4;
        let activations = plan
            .buffers
            .iter()
            .enumerate()
            .map(|(index, buffer)| {
                let n_rows = if index == plan.head.out.0 { 1 } else { max_chunk };
                context.storage(buffer.name, rows(buffer.width, n_rows))
            })
            .collect::<Result<_>>()?;
        let widest = plan.buffers[plan.head.x.0].width;
        let split_words = plan
            .caches
            .iter()
            .map(|CacheShape { heads, .. }| {
                let n_splits = heads.n_heads as u64 * u64::from(tuning.max_splits);
                n_splits * (heads.head_dim as u64 + 2)
            })
            .max()
            .unwrap_or(0);
        let entries = plan.rope.entries(context_length)?;
        let rotations = context.storage("rotations", entries.len() as u64 * 8)?;
        context.queue.write_buffer(&rotations.buffer, 0, bytemuck::cast_slice(&entries));
        let experts = plan.layers.iter().find_map(|op| match op {
            Op::Experts(experts) if experts.then == ThenExperts::Add => {
                let width = plan.buffers[experts.out.0].width;
                let sizes = [experts.n_experts, experts.n_used, width];
                Some(experts::Scratch::new(context, &target, sizes))
            }
            _ => None,
        });
        let experts = experts.transpose()?;
        let normed = context.storage("normed", rows(widest, max_chunk))?;
        let splits = context.storage("attention splits", split_words * 4)?;
        let state = context.storage("state", STATE_BYTES)?;
        let tokens = context.storage("tokens", rows(1, max_chunk))?;
        let sampling = Sampling::new(context, &target, plan.n_vocab, tuning.max_batch)?;

        // The rest takes nearly all of the memory. How much it will be is known ahead, so that a device
        // that refuses some of it is not asked for all of it.
        let max_binding = context.capabilities.max_binding;
        let needed =
            plan.weights.weights.iter().map(|weight| GpuWeight::needed(weight, max_binding));
        let memory = MemoryUse {
            weights: needed.sum::<Result<_>>()?,
            caches: plan
                .caches
                .iter()
                .map(|&shape| Cache::needed(shape, context_length, plan.precision))
                .sum(),
            scratch: context.allocated() - start,
        };
        guard.will_hold(start + memory.total());
        let mut weights = Vec::with_capacity(plan.weights.weights.len());
        for weight in &plan.weights.weights {
            weights.push(GpuWeight::new(&mut guard, weight).await?);
        }
        let mut caches = Vec::with_capacity(plan.caches.len());
        for &shape in &plan.caches {
            caches.push(Cache::new(&mut guard, shape, context_length, plan.precision).await?);
        }
        guard.finish().await?;
        debug_assert_eq!(context.allocated() - start, memory.total(), "sizes are as counted");
        let buffers = Self {
            weights,
            activations,
            widths: plan.buffers.iter().map(|buffer| buffer.width).collect(),
            caches,
            normed,
            splits,
            rotations,
            experts,
            state,
            tokens,
            sampling,
        };
        Ok((buffers, memory))
    }

    /// Records the operation `index` of `ops`. For one row, rotations and the choice of experts are part of
    /// the operations after them.
    pub fn record<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        ops: &[Op],
        index: usize,
        rows: Rows,
    ) {
        let buffer = |id: BufferId| &self.activations[id.0];
        let one_row = rows == Rows::Last;
        let before = index.checked_sub(1).map(|before| &ops[before]);
        let absorbs = |op: &Op, before: &Op| {
            one_row && self::absorbs(op, before, &self.caches, target.tuning)
        };
        let absorbed = before.filter(|before| absorbs(&ops[index], before));
        match ops[index] {
            Op::Rope { .. } | Op::Route { .. }
                if ops.get(index + 1).is_some_and(|next| absorbs(next, &ops[index])) => {}
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
            Op::Attention { qkv, cache, out, heads: _, scale, sinks } => attention::record(
                recorder,
                target,
                &self.state,
                attention::Operands {
                    qkv: buffer(qkv),
                    rotation: match absorbed {
                        Some(&Op::Rope { pairing, n_rot, .. }) => {
                            Some(attention::Rotation { rotations: &self.rotations, pairing, n_rot })
                        }
                        _ => None,
                    },
                    cache: &self.caches[cache.0],
                    scale,
                    sinks: sinks.map(|id| &self.weights[id.0]),
                    splits: &self.splits,
                    out: buffer(out),
                    one_token: one_row,
                },
            ),
            Op::Route { logits, n_used, out } => {
                let n_experts = self.widths[logits.0];
                let sizes = [n_experts, n_used];
                route::record(recorder, &self.state, buffer(logits), sizes, buffer(out));
            }
            Op::Experts(experts) => {
                let logits = match absorbed {
                    Some(&Op::Route { logits, .. }) => Some(buffer(logits)),
                    _ => None,
                };
                self.record_experts(recorder, target, &experts, logits, rows);
            }
        }
    }

    fn record_experts<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        op: &Experts,
        logits: Option<&'a GpuBuffer>,
        rows: Rows,
    ) {
        let norm = op.norm.map(|norm| (&self.weights[norm.gain.0], norm.eps));
        let operands = experts::Operands {
            state: &self.state,
            weight: &self.weights[op.weight.0],
            bias: op.bias.map(|id| &self.weights[id.0]),
            x: &self.activations[op.x.0],
            routing: &self.activations[op.routing.0],
            logits,
            out: &self.activations[op.out.0],
            n_experts: op.n_experts,
            n_used: op.n_used,
            then: op.then,
        };
        let within = rows == Rows::Last && target.tuning.fuses_into_experts;
        let (norm, x) = self.normed(recorder, target, norm, operands.x, within);
        let operands = experts::Operands { x, ..operands };
        if rows == Rows::Last {
            return experts::record_last(recorder, target, norm, operands);
        }
        let scratch = self.experts.as_ref().expect("a plan with experts has room for them");
        experts::record_chunk(recorder, target, scratch, operands);
    }

    /// What is left to normalise, and rows: `norm` and `x` where products normalise `within`, else none and where a
    /// dispatch of its own puts them.
    fn normed<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        norm: Option<(&'a GpuWeight, f32)>,
        x: &'a GpuBuffer,
        within: bool,
    ) -> (Option<(&'a GpuWeight, f32)>, &'a GpuBuffer) {
        match norm {
            Some((gain, eps)) if !within => {
                rms_norm::record(recorder, target, x, gain, eps, &self.normed);
                (None, &self.normed)
            }
            _ => (norm, x),
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
        match rows {
            Rows::Last => matvec::record(recorder, target, &self.state, x, norm, &product),
            Rows::Chunk => {
                let within = matmul::normalises(target);
                let (norm, x) = self.normed(recorder, target, norm, x, within);
                matmul::record(recorder, target, &self.state, x, norm, &product);
            }
        }
    }
}
