//! The operations on the CPU: one file an operation, twins of `gpu::ops` and of the shaders.
//!
//! [`CpuDevice`] holds a plan's weights, buffers and caches in memory and carries the plan out.
//! [`mod@reference`] states each operation in its plainest form; tests compare everything with it.

mod attention;
mod embed;
mod experts;
mod input;
mod lanes;
mod linear;
mod product;
pub mod reference;
mod rope;
mod route;
mod sample;
mod weights;

use std::ops::Range;

pub use self::{attention::ParkedCache, sample::Sampler, weights::CpuWeight};
use crate::{
    engine::MemoryUse,
    error::Result,
    memory::Allocation,
    ops::{BufferId, CacheShape, Experts, Linear, Op, Plan},
    weights::{Section, Sink, WeightId},
};

/// A plan with its weights, activations and caches in memory.
pub struct CpuDevice {
    plan: Plan,
    weights: Vec<CpuWeight>,
    /// Activations of the chunk being computed, by [`BufferId`].
    buffers: Vec<Vec<f32>>,
    /// Keys and values by cache.
    caches: Vec<attention::Cache>,
    /// Entries of [`RopeTable::entries`](crate::ops::rope::RopeTable::entries).
    rotations: Vec<[f32; 2]>,
    linear: linear::Scratch,
    experts: experts::Scratch,
    scores: Vec<f32>,
    /// Tokens of the last chunk.
    n_tokens: usize,
}

/// Most tokens of a chunk: small enough to stop soon, large enough that decoding matrix rows, which
/// these tokens share, costs little.
pub const MAX_CHUNK: usize = 32;

/// Most tokens of a chunk whose logits are all wanted: rows of logits are long.
pub const MAX_EVALUATION: usize = 8;

impl CpuDevice {
    /// Bytes that `plan` takes with `context_length` positions.
    pub fn needed(plan: &Plan, context_length: usize) -> MemoryUse {
        let buffers: u64 = n_values(plan).map(|n| 4 * n).sum();
        MemoryUse {
            weights: plan.weights.weights.iter().map(CpuWeight::needed).sum(),
            caches: plan
                .caches
                .iter()
                .map(|&shape| attention::Cache::needed(shape, context_length))
                .sum(),
            scratch: buffers + 8 * plan.rope.n_entries(context_length),
        }
    }

    /// Allocates everything that `plan` needs for `context_length` positions; weights are zero until they
    /// are written through [`Sink`].
    ///
    /// # Errors
    /// `out_of_memory` with the bytes needed and those there were.
    pub fn new(plan: Plan, context_length: usize) -> Result<Self> {
        let mut allocation = Allocation::of(Self::needed(&plan, context_length).total());
        let weights = &plan.weights.weights;
        let caches = &plan.caches;
        Ok(Self {
            weights: weights
                .iter()
                .map(|weight| CpuWeight::new(weight, &mut allocation))
                .collect::<Result<_>>()?,
            buffers: n_values(&plan)
                .map(|n_values| allocation.room_for(n_values))
                .collect::<Result<_>>()?,
            caches: caches
                .iter()
                .map(|&shape| attention::Cache::new(shape, context_length, &mut allocation))
                .collect::<Result<_>>()?,
            rotations: plan.rope.entries(context_length)?,
            linear: linear::Scratch::default(),
            experts: experts::Scratch::default(),
            scores: Vec::new(),
            n_tokens: 0,
            plan,
        })
    }

    /// Bytes held, but for what products keep.
    pub fn memory(&self) -> MemoryUse {
        let buffers = self.buffers.iter().map(|buffer| buffer.capacity() * 4).sum::<usize>();
        MemoryUse {
            weights: self.weights.iter().map(CpuWeight::bytes).sum::<usize>() as u64,
            caches: self.caches.iter().map(attention::Cache::bytes).sum::<usize>() as u64,
            scratch: (buffers + self.rotations.len() * 8) as u64,
        }
    }

    /// Copies of the first `n_positions` of all caches; `None` where there is no memory for them.
    pub fn park(&self, n_positions: usize) -> Option<Vec<ParkedCache>> {
        self.caches.iter().map(|cache| cache.park(n_positions)).collect()
    }

    /// Puts back what was parked.
    pub fn unpark(&mut self, parked: &[ParkedCache]) {
        self.caches.iter_mut().zip(parked).for_each(|(cache, parked)| cache.unpark(parked));
    }

    /// Computes the layers for `tokens` at successive positions from `position`.
    ///
    /// # Panics
    /// When `tokens` is empty or a token is not below `n_vocab`: callers have checked.
    pub fn extend(&mut self, tokens: &[u32], position: usize) {
        self.run(0..self.plan.layers.len(), tokens, position);
    }

    /// As [`extend`](Self::extend), and gives what `hidden` holds after the embedding and after each
    /// layer, [n_layers + 1, n_tokens, width].
    pub fn hidden_states(&mut self, tokens: &[u32], position: usize) -> Vec<f32> {
        let mut states = Vec::new();
        let mut start = 0;
        for end in self.plan.layer_ends.clone() {
            self.run(start..end, tokens, position);
            states.extend_from_slice(&self.buffers[self.plan.head.x.0]);
            start = end;
        }
        states
    }

    fn run(&mut self, ops: Range<usize>, tokens: &[u32], position: usize) {
        assert!(!tokens.is_empty(), "a chunk has at least one token");
        self.n_tokens = tokens.len();
        for index in ops {
            match self.plan.layers[index] {
                Op::Embed { table, out } => {
                    let n_values = tokens.len() * self.width(out);
                    let out = resized(&mut self.buffers[out.0], n_values);
                    embed::embed(&self.weights[table.0], tokens, out);
                }
                Op::Linear(linear) => self.linear(&linear, 0..tokens.len()),
                Op::Rope { qkv, cache, heads: _, pairing, n_rot } => rope::rope(
                    &mut self.buffers[qkv.0],
                    &mut self.caches[cache.0],
                    &self.rotations,
                    position,
                    pairing,
                    n_rot,
                ),
                Op::Attention { qkv, cache, out, heads, scale, sinks } => {
                    let mut attended = std::mem::take(&mut self.buffers[out.0]);
                    resized(&mut attended, tokens.len() * heads.q_width());
                    attention::attention(
                        &self.buffers[qkv.0],
                        &self.caches[cache.0],
                        position,
                        scale,
                        sinks.map(|id| self.weights[id.0].vector()),
                        &mut self.scores,
                        &mut attended,
                    );
                    self.buffers[out.0] = attended;
                }
                Op::Route { logits, n_used, out } => {
                    let mut routing = std::mem::take(&mut self.buffers[out.0]);
                    resized(&mut routing, tokens.len() * 2 * n_used);
                    let n_experts = self.width(logits);
                    route::route(&self.buffers[logits.0], n_experts, n_used, &mut routing);
                    self.buffers[out.0] = routing;
                }
                Op::Experts(experts) => self.experts(&experts),
            }
        }
    }

    /// Logits of tokens `rows` of the last chunk, [rows, n_vocab].
    pub fn logits(&mut self, rows: Range<usize>) -> &mut [f32] {
        let head = self.plan.head;
        self.linear(&head, rows);
        &mut self.buffers[head.out.0]
    }

    /// The key/value caches of the plan.
    pub fn caches(&self) -> &[CacheShape] {
        &self.plan.caches
    }

    /// Number of tokens in the last chunk.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// The activations in buffer `id` after the last chunk.
    pub fn buffer(&self, id: BufferId) -> &[f32] {
        &self.buffers[id.0]
    }

    /// Replaces the activations in buffer `id`.
    pub fn set_buffer(&mut self, id: BufferId, contents: &[f32]) {
        self.buffers[id.0].clear();
        self.buffers[id.0].extend_from_slice(contents);
    }

    fn width(&self, id: BufferId) -> usize {
        self.plan.buffers[id.0].width
    }

    fn linear(&mut self, linear: &Linear, rows: Range<usize>) {
        let (width_in, width_out) = (self.width(linear.x), self.width(linear.out));
        let mut out = std::mem::take(&mut self.buffers[linear.out.0]);
        resized(&mut out, rows.len() * width_out);
        linear::linear(
            linear::Operands {
                weight: &self.weights[linear.weight.0],
                bias: linear.bias.map(|id| self.weights[id.0].vector()),
                norm: linear.norm.map(|norm| (self.weights[norm.gain.0].vector(), norm.eps)),
                x: &self.buffers[linear.x.0][rows.start * width_in..rows.end * width_in],
                then: linear.then,
            },
            &mut self.linear,
            &mut out,
        );
        self.buffers[linear.out.0] = out;
    }

    fn experts(&mut self, experts: &Experts) {
        let n_values = self.n_tokens * self.width(experts.out);
        let mut out = std::mem::take(&mut self.buffers[experts.out.0]);
        resized(&mut out, n_values);
        experts::experts(
            experts::Operands {
                weight: &self.weights[experts.weight.0],
                bias: experts.bias.map(|id| self.weights[id.0].vector()),
                norm: experts.norm.map(|norm| (self.weights[norm.gain.0].vector(), norm.eps)),
                x: &self.buffers[experts.x.0],
                routing: &self.buffers[experts.routing.0],
                n_experts: experts.n_experts,
                n_used: experts.n_used,
                then: experts.then,
            },
            &mut self.experts,
            &mut out,
        );
        self.buffers[experts.out.0] = out;
    }
}

/// Numbers of a chunk in each activation buffer.
fn n_values(plan: &Plan) -> impl Iterator<Item = u64> {
    plan.buffers.iter().enumerate().map(|(index, buffer)| {
        let n_rows = if index == plan.head.out.0 { MAX_EVALUATION } else { MAX_CHUNK };
        buffer.width as u64 * n_rows as u64
    })
}

fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

impl Sink for CpuDevice {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        self.weights[id.0].write(segment, section, rows, bytes);
        Ok(())
    }
}
