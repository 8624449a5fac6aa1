//! The operations on the CPU: one file an operation, twins of `gpu::ops` and of the shaders.
//!
//! [`CpuDevice`] holds a plan's weights, buffers and caches in memory and carries the plan out: the whole of
//! it, or one thread's share ([`program`], [`team`]).
//! [`mod@reference`] states each operation in its plainest form; tests compare everything with it.

mod attention;
mod cache;
mod embed;
mod experts;
mod input;
mod lanes;
mod linear;
mod product;
mod program;
pub mod reference;
mod rope;
mod route;
mod sample;
pub mod team;
#[cfg(not(target_arch = "wasm32"))]
mod threads;
mod weights;

use std::ops::Range;

#[cfg(not(target_arch = "wasm32"))]
pub use self::threads::Threads;
pub use self::{cache::ParkedCache, program::Program, sample::Sampler, weights::CpuWeight};
use self::{
    program::{Gather, Step},
    team::Exchange,
};
use crate::{
    engine::{MemoryUse, Outputs},
    error::Result,
    memory::Allocation,
    ops::{BufferId, CacheShape, Experts, Linear, Op, Plan},
    weights::{Section, Sink, WeightId},
};

/// A program with its weights, activations and caches in memory.
pub struct CpuDevice {
    program: Program,
    /// The way to the threads that have the other shares.
    exchange: Option<Box<dyn Exchange>>,
    weights: Vec<CpuWeight>,
    /// Activations of the chunk being computed, by [`BufferId`].
    buffers: Vec<Vec<f32>>,
    /// Keys and values by cache.
    caches: Vec<cache::Cache>,
    /// Entries of [`RopeTable::entries`](crate::ops::rope::RopeTable::entries).
    rotations: Vec<[f32; 2]>,
    linear: linear::Scratch,
    experts: experts::Scratch,
    attention: attention::Scratch,
    /// What another thread has shown.
    shown: Vec<f32>,
    /// Tokens of the last chunk that have outputs.
    n_tokens: usize,
}

/// Most tokens of a chunk: small enough to stop soon, large enough that decoding matrix rows, which
/// these tokens share, costs little.
pub const MAX_CHUNK: usize = 32;

/// Most tokens of a chunk whose logits are all wanted: rows of logits are long.
pub const MAX_EVALUATION: usize = 8;

impl CpuDevice {
    /// Bytes that `program` takes with `context_length` positions.
    pub fn needed(program: &Program, context_length: usize) -> MemoryUse {
        let buffers: u64 = program.n_values().map(|n| 4 * n).sum();
        MemoryUse {
            weights: program.weights.iter().map(CpuWeight::needed).sum(),
            caches: program
                .caches
                .iter()
                .map(|&shape| cache::Cache::needed(shape, context_length))
                .sum(),
            scratch: buffers
                + 8 * program.rope.n_entries(context_length)
                + attention::Scratch::needed(&program.caches, context_length),
        }
    }

    /// All of `plan`, see [`with`](Self::with).
    ///
    /// # Errors
    /// As there.
    pub fn new(plan: &Plan, context_length: usize) -> Result<Self> {
        Self::with(Program::whole(plan), context_length, None)
    }

    /// Allocates everything that `program` needs for `context_length` positions; weights are zero until they
    /// are written through [`Sink`]. A share has an exchange with the threads that have the others.
    ///
    /// # Errors
    /// `out_of_memory` with the bytes needed and those there were.
    pub fn with(
        program: Program,
        context_length: usize,
        exchange: Option<Box<dyn Exchange>>,
    ) -> Result<Self> {
        let mut allocation = Allocation::of(Self::needed(&program, context_length).total());
        let (weights, caches) = (&program.weights, &program.caches);
        Ok(Self {
            weights: weights
                .iter()
                .map(|weight| CpuWeight::new(weight, &mut allocation))
                .collect::<Result<_>>()?,
            buffers: program
                .n_values()
                .map(|n_values| allocation.room_for(n_values))
                .collect::<Result<_>>()?,
            caches: caches
                .iter()
                .map(|&shape| cache::Cache::new(shape, context_length, &mut allocation))
                .collect::<Result<_>>()?,
            rotations: program.rope.entries(context_length)?,
            linear: linear::Scratch::default(),
            experts: experts::Scratch::default(),
            attention: attention::Scratch::new(caches, context_length, &mut allocation)?,
            shown: Vec::new(),
            n_tokens: 0,
            program,
            exchange,
        })
    }

    /// Bytes held, but for what products keep.
    pub fn memory(&self) -> MemoryUse {
        let buffers = self.buffers.iter().map(|buffer| buffer.capacity() * 4).sum::<usize>();
        MemoryUse {
            weights: self.weights.iter().map(CpuWeight::bytes).sum::<usize>() as u64,
            caches: self.caches.iter().map(cache::Cache::bytes).sum(),
            scratch: (buffers + self.rotations.len() * 8 + self.attention.bytes()) as u64,
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
    /// # Errors
    /// `device_lost` when another thread has ended.
    ///
    /// # Panics
    /// When `tokens` is empty or a token is not below `n_vocab`: callers have checked.
    pub fn extend(&mut self, tokens: &[u32], position: usize, outputs: Outputs) -> Result<()> {
        let n_to_caches = self.program.n_to_caches();
        self.run(0..n_to_caches, tokens, position)?;
        let rest = n_to_caches..self.program.steps.len();
        match outputs {
            Outputs::None => Ok(()),
            Outputs::All => self.run(rest, tokens, position),
            Outputs::Last => {
                self.keep_last();
                let last = tokens.len() - 1;
                self.run(rest, &tokens[last..], position + last)
            }
        }
    }

    /// Leaves the last row of each buffer that has one for each token.
    fn keep_last(&mut self) {
        for (buffer, &width) in self.buffers.iter_mut().zip(&self.program.widths) {
            if buffer.len() == self.n_tokens * width {
                let last = buffer.len() - width;
                buffer.copy_within(last.., 0);
                buffer.truncate(width);
            }
        }
    }

    /// As [`extend`](Self::extend) with all outputs, and gives what `hidden` holds after the embedding and
    /// after each layer, [n_layers + 1, n_tokens, width].
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn hidden_states(&mut self, tokens: &[u32], position: usize) -> Result<Vec<f32>> {
        let mut states = Vec::new();
        let mut start = 0;
        for end in self.program.step_ends.clone() {
            self.run(start..end, tokens, position)?;
            states.extend_from_slice(&self.buffers[self.program.head.x.0]);
            start = end;
        }
        Ok(states)
    }

    fn run(&mut self, steps: Range<usize>, tokens: &[u32], position: usize) -> Result<()> {
        assert!(!tokens.is_empty(), "a chunk has at least one token");
        self.n_tokens = tokens.len();
        for index in steps {
            match self.program.steps[index] {
                Step::Op(op) => self.op(&op, tokens, position),
                Step::Embed { table, first, out } => self.embed(table, first, out, tokens)?,
                Step::Slice(gather) => self.slice(gather),
                Step::Gather(gather) => self.gather(gather)?,
            }
        }
        Ok(())
    }

    fn op(&mut self, op: &Op, tokens: &[u32], position: usize) {
        match *op {
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
                    &mut self.attention,
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

    /// This thread's rows of a table, and the others' from them.
    fn embed(
        &mut self,
        table: WeightId,
        first: usize,
        out: BufferId,
        tokens: &[u32],
    ) -> Result<()> {
        let (weight, width) = (&self.weights[table.0], self.width(out));
        let mut rows = std::mem::take(&mut self.buffers[out.0]);
        resized(&mut rows, tokens.len() * width).fill(0.0);
        for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(width)) {
            if let Some(token) = (*token as usize).checked_sub(first)
                && token < weight.n_rows
            {
                embed::embed(weight, &[token as u32], row);
            }
        }
        let exchange = self.exchange.as_mut().expect(SHARED);
        exchange.show(&rows)?;
        for rank in (0..exchange.size()).filter(|rank| *rank != exchange.rank()) {
            exchange.read(rank, resized(&mut self.shown, rows.len()));
            rows.iter_mut().zip(&self.shown).for_each(|(x, shown)| *x += shown);
        }
        self.buffers[out.0] = rows;
        Ok(())
    }

    /// Copies this thread's columns of a buffer.
    fn slice(&mut self, Gather { part, out, n_rows, split }: Gather) {
        let exchange = self.exchange.as_ref().expect(SHARED);
        let columns = split.of(exchange.rank(), exchange.size());
        let mut sliced = std::mem::take(&mut self.buffers[part.0]);
        resized(&mut sliced, self.n_tokens * n_rows * columns.len());
        let rows = self.buffers[out.0].chunks_exact(split.width);
        for (row, sliced) in rows.zip(sliced.chunks_exact_mut(columns.len())) {
            sliced.copy_from_slice(&row[columns.clone()]);
        }
        self.buffers[part.0] = sliced;
    }

    /// Fills a buffer with the columns of all threads.
    fn gather(&mut self, Gather { part, out, n_rows, split }: Gather) -> Result<()> {
        let n_rows = self.n_tokens * n_rows;
        let exchange = self.exchange.as_mut().expect(SHARED);
        exchange.show(&self.buffers[part.0])?;
        let out = resized(&mut self.buffers[out.0], n_rows * split.width);
        for rank in 0..exchange.size() {
            let columns = split.of(rank, exchange.size());
            let shown = resized(&mut self.shown, n_rows * columns.len());
            exchange.read(rank, shown);
            let rows = out.chunks_exact_mut(split.width);
            for (row, shown) in rows.zip(shown.chunks_exact(columns.len())) {
                row[columns.clone()].copy_from_slice(shown);
            }
        }
        Ok(())
    }

    /// Shows numbers to the other threads, and gives what these show, as many numbers each.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn show(&mut self, values: &[f32]) -> Result<&[f32]> {
        let exchange = self.exchange.as_mut().expect(SHARED);
        exchange.show(values)?;
        let shown = resized(&mut self.shown, exchange.size() * values.len());
        for (rank, shown) in shown.chunks_exact_mut(values.len()).enumerate() {
            exchange.read(rank, shown);
        }
        Ok(shown)
    }

    /// Logits of `rows` of the tokens of the last chunk that have outputs, [rows, n_vocab]; empty but for the
    /// first thread.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub fn logits(&mut self, rows: Range<usize>) -> Result<&mut [f32]> {
        let head = self.program.head;
        let n_rows = rows.len();
        self.linear(&head, rows);
        let Some(Gather { part, out, split, .. }) = self.program.logits else {
            return Ok(&mut self.buffers[head.out.0]);
        };
        let exchange = self.exchange.as_mut().expect(SHARED);
        let width = self.program.widths[out.0];
        let (mut all, own) = (std::mem::take(&mut self.buffers[out.0]), &self.buffers[part.0]);
        resized(&mut all, n_rows * width);
        for row in 0..n_rows {
            let n_own = own.len() / n_rows;
            exchange.show(&own[row * n_own..][..n_own])?;
            if width > 0 {
                for rank in 0..exchange.size() {
                    let row = &mut all[row * width..][..width];
                    exchange.read(rank, &mut row[split.of(rank, exchange.size())]);
                }
            }
        }
        self.buffers[out.0] = all;
        Ok(&mut self.buffers[out.0])
    }

    /// The key/value caches, as far as this thread holds them.
    pub fn caches(&self) -> &[CacheShape] {
        &self.program.caches
    }

    /// Number of tokens in the last chunk that have outputs.
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
        self.program.widths[id.0]
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

/// What a device with a share has.
const SHARED: &str = "threads that share a plan have an exchange";

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
