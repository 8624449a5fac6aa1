//! Causal attention over a cache: twin of `shaders/attention.wgsl`.

use std::ops::Range;

use wide::f32x4;

use super::lanes::{self, exp};
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

    /// Where the row of `position` stands.
    fn at(&self, position: usize) -> usize {
        (position - self.start) * self.shape.heads.kv_width()
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
    let heads = cache.shape.heads;
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let rows = qkv.chunks_exact(heads.qkv_width());
    for (t, (row, out)) in rows.zip(out.chunks_exact_mut(n_heads * head_dim)).enumerate() {
        let seen = cache.at(cache.shape.first_seen(position + t))..cache.at(position + t + 1);
        let (keys, values) = (&cache.keys[seen.clone()], &cache.values[seen]);
        let queries = row.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in queries.enumerate() {
            let column = head / (n_heads / n_kv_heads) * head_dim;
            let columns = column..column + head_dim;
            score(query, keys, heads.kv_width(), columns.clone(), scale, scores);
            let sink = sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head]);
            let largest = lanes::largest(scores, sink);
            lanes::map(scores, |score| exp(score - f32x4::splat(largest)));
            let sum = (sink - largest).exp() + lanes::sum(scores, |weight| weight);
            mix(scores, values, heads.kv_width(), columns, out);
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }
}

/// `query·key · scale` for the columns `columns` of each of `keys`, [n_keys, width].
fn score(
    query: &[f32],
    keys: &[f32],
    width: usize,
    columns: Range<usize>,
    scale: f32,
    scores: &mut Vec<f32>,
) {
    scores.clear();
    let fours = keys.chunks_exact(4 * width);
    let rest = fours.remainder().chunks_exact(width);
    for keys in fours {
        let four = std::array::from_fn(|i| &keys[i * width..][columns.clone()]);
        let four = lanes::dots(query, four) * f32x4::splat(scale);
        scores.extend_from_slice(&four.to_array());
    }
    scores.extend(rest.map(|key| lanes::dot(query, &key[columns.clone()]) * scale));
}

/// The sum of the columns `columns` of `values`, [n_values, width], weighted.
fn mix(weights: &[f32], values: &[f32], width: usize, columns: Range<usize>, out: &mut [f32]) {
    out.fill(0.0);
    let fours = values.chunks_exact(4 * width);
    let rest = fours.remainder().chunks_exact(width);
    let (by_four, single) = weights.as_chunks::<4>();
    for (weights, values) in by_four.iter().zip(fours) {
        let [a, b, c, d] = std::array::from_fn(|i| &values[i * width..][columns.clone()]);
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *out += (weights[0] * a + weights[1] * b) + (weights[2] * c + weights[3] * d);
        }
    }
    for (weight, value) in single.iter().zip(rest) {
        out.iter_mut().zip(&value[columns.clone()]).for_each(|(out, value)| *out += weight * value);
    }
}
