//! Causal attention over a cache: twin of `shaders/attention.wgsl`.

use super::linear::dot_f32;
use crate::{
    error::Result,
    memory::{Allocation, room_for},
    ops::{CacheShape, Heads},
};

/// Keys and values of one layer in f32, position after position.
pub struct Cache {
    pub shape: CacheShape,
    /// Positions that must be kept.
    capacity: usize,
    /// The first position that is held.
    start: usize,
    /// [n_positions, kv_width].
    keys: Vec<f32>,
    /// [n_positions, kv_width].
    values: Vec<f32>,
}

/// Keys and values of one layer, set aside.
pub struct ParkedCache {
    start: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl ParkedCache {
    /// Memory in use.
    pub fn bytes(&self) -> u64 {
        ((self.keys.capacity() + self.values.capacity()) * 4) as u64
    }
}

impl Cache {
    /// Allocates room for every position that is ever held in a context of `context_length`.
    ///
    /// # Errors
    /// Those of `allocation`.
    pub fn new(
        shape: CacheShape,
        context_length: usize,
        allocation: &mut Allocation,
    ) -> Result<Self> {
        let n_values = Self::n_values(shape, context_length);
        let capacity = shape.capacity(context_length);
        let [keys, values] = [allocation.room_for(n_values)?, allocation.room_for(n_values)?];
        Ok(Self { shape, capacity, start: 0, keys, values })
    }

    /// Bytes that such a cache takes.
    pub fn needed(shape: CacheShape, context_length: usize) -> u64 {
        2 * 4 * Self::n_values(shape, context_length)
    }

    /// Numbers in the keys, and in the values, at most.
    fn n_values(shape: CacheShape, context_length: usize) -> u64 {
        // With a window positions stay until they are twice as many as must be kept.
        let n_positions = match shape.window {
            Some(_) => shape.capacity(context_length).saturating_mul(2).min(context_length),
            None => context_length,
        };
        n_positions as u64 * shape.heads.kv_width() as u64
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        (self.keys.capacity() + self.values.capacity()) * 4
    }

    /// A copy of the first `n_positions`, as far as they are held; `None` where there is no memory for it.
    pub fn park(&self, n_positions: usize) -> Option<ParkedCache> {
        let len = n_positions.saturating_sub(self.start) * self.shape.heads.kv_width();
        let copy = |values: &[f32]| {
            let values = &values[..len.min(values.len())];
            let mut copy = room_for(values.len() as u64).ok()?;
            copy.extend_from_slice(values);
            Some(copy)
        };
        let (keys, values) = (copy(&self.keys)?, copy(&self.values)?);
        Some(ParkedCache { start: self.start, keys, values })
    }

    /// Holds what was parked, and nothing else.
    pub fn unpark(&mut self, parked: &ParkedCache) {
        self.start = parked.start;
        self.keys.clear();
        self.keys.extend_from_slice(&parked.keys);
        self.values.clear();
        self.values.extend_from_slice(&parked.values);
    }

    /// Forgets positions from `position` on, which is held or follows what is.
    pub fn truncate(&mut self, position: usize) {
        if position < self.start {
            self.start = position;
        }
        let len = (position - self.start) * self.shape.heads.kv_width();
        self.keys.truncate(len);
        self.values.truncate(len);
    }

    /// Appends the next position. Positions beyond the capacity go by halves, so that moving the rest
    /// costs little.
    pub fn push(&mut self, keys: &[f32], values: &[f32]) {
        let kv_width = self.shape.heads.kv_width();
        let n_positions = self.keys.len() / kv_width;
        if self.shape.window.is_some() && n_positions >= 2 * self.capacity {
            let gone = n_positions - self.capacity;
            self.keys.drain(..gone * kv_width);
            self.values.drain(..gone * kv_width);
            self.start += gone;
        }
        self.keys.extend_from_slice(keys);
        self.values.extend_from_slice(values);
    }

    /// Where the vector of `position` stands for the key/value head that begins at `column`.
    fn at(&self, position: usize, column: usize) -> usize {
        (position - self.start) * self.shape.heads.kv_width() + column
    }
}

/// `softmax(q·K · scale)·V` for each query head of each token, over the positions that the token sees.
/// With `sinks`, [n_heads], the softmax has one score more, whose weight is dropped.
///
/// `qkv` is [n_tokens, qkv_width], its first row at `position`; `out` is [n_tokens, q_width].
pub fn attention(
    qkv: &[f32],
    cache: &Cache,
    position: usize,
    scale: f32,
    sinks: Option<&[f32]>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Heads { n_heads, n_kv_heads, head_dim } = cache.shape.heads;
    let rows = qkv.chunks_exact(cache.shape.heads.qkv_width());
    for (t, (row, out)) in rows.zip(out.chunks_exact_mut(n_heads * head_dim)).enumerate() {
        let seen = cache.shape.first_seen(position + t)..position + t + 1;
        let queries = row.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in queries.enumerate() {
            let column = head / (n_heads / n_kv_heads) * head_dim;
            scores.clear();
            scores.extend(seen.clone().map(|position| {
                let key = &cache.keys[cache.at(position, column)..][..head_dim];
                dot_f32(query, key) * scale
            }));
            let sink = sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head]);
            let largest = scores.iter().fold(sink, |a, &b| a.max(b));
            let mut sum = (sink - largest).exp();
            out.fill(0.0);
            for (position, score) in seen.clone().zip(&*scores) {
                let weight = (score - largest).exp();
                sum += weight;
                let value = &cache.values[cache.at(position, column)..][..head_dim];
                for (out, value) in out.iter_mut().zip(value) {
                    *out += weight * value;
                }
            }
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }
}
