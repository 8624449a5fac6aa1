//! Causal attention over a cache: twin of `shaders/attention.wgsl`.

use wide::f32x4;

use super::{
    cache::{Cache, Columns},
    lanes::{self, exp},
};
use crate::{
    error::Result,
    memory::Allocation,
    ops::{CacheNumbers, CacheShape, Heads},
};

/// What attention works with, kept from one operation to the next.
pub struct Scratch {
    scores: Vec<f32>,
    /// Keys and values of a head, of caches that hold integers.
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Scratch {
    /// Bytes for attention over `caches`, but for scores.
    pub fn needed(caches: &[CacheShape], context_length: usize) -> u64 {
        2 * 4 * Self::n_decoded(caches, context_length)
    }

    /// Allocates that.
    ///
    /// # Errors
    /// Those of `allocation`.
    pub fn new(
        caches: &[CacheShape],
        context_length: usize,
        allocation: &mut Allocation,
    ) -> Result<Self> {
        let n_decoded = Self::n_decoded(caches, context_length);
        let [keys, values] = [allocation.room_for(n_decoded)?, allocation.room_for(n_decoded)?];
        Ok(Self { scores: Vec::new(), keys, values })
    }

    /// Memory in use, but for scores.
    pub fn bytes(&self) -> usize {
        (self.keys.capacity() + self.values.capacity()) * 4
    }

    /// Keys of a head that are decoded at once, at most.
    fn n_decoded(caches: &[CacheShape], context_length: usize) -> u64 {
        let of_integers = caches.iter().filter(|cache| cache.numbers == CacheNumbers::Int8);
        let n_decoded = of_integers
            .map(|cache| cache.capacity(context_length) as u64 * cache.heads.head_dim as u64);
        n_decoded.max().unwrap_or(0)
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
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let heads = cache.shape.heads;
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let n_tokens = qkv.len() / heads.qkv_width();
    let Scratch { scores, keys, values } = scratch;
    let first_seen = cache.shape.first_seen(position);
    for kv_head in 0..n_kv_heads {
        let seen = first_seen..position + n_tokens;
        let [keys, values] = cache.columns(seen, kv_head, [&mut *keys, &mut *values]);
        let group = kv_head * heads.group()..(kv_head + 1) * heads.group();
        for (token, head) in
            (0..n_tokens).flat_map(|token| group.clone().map(move |head| (token, head)))
        {
            let query = &qkv[token * heads.qkv_width() + head * head_dim..][..head_dim];
            let out = &mut out[(token * n_heads + head) * head_dim..][..head_dim];
            let seen = cache.shape.first_seen(position + token) - first_seen
                ..position + token + 1 - first_seen;
            score(query, keys.rows(seen.clone()), scale, scores);
            let sink = sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head]);
            let largest = lanes::largest(scores, sink);
            lanes::map(scores, |score| exp(score - f32x4::splat(largest)));
            let sum = (sink - largest).exp() + lanes::sum(scores, |weight| weight);
            mix(scores, values.rows(seen), out);
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }
}

/// `query·key · scale` for each of `keys`.
fn score(query: &[f32], keys: Columns<'_>, scale: f32, scores: &mut Vec<f32>) {
    let Columns { rows, width, columns } = keys;
    scores.clear();
    let fours = rows.chunks_exact(4 * width);
    let rest = fours.remainder().chunks_exact(width);
    for keys in fours {
        let four = std::array::from_fn(|i| &keys[i * width..][columns.clone()]);
        let four = lanes::dots(query, four) * f32x4::splat(scale);
        scores.extend_from_slice(&four.to_array());
    }
    scores.extend(rest.map(|key| lanes::dot(query, &key[columns.clone()]) * scale));
}

/// The sum of `values`, weighted.
fn mix(weights: &[f32], values: Columns<'_>, out: &mut [f32]) {
    let Columns { rows, width, columns } = values;
    out.fill(0.0);
    let fours = rows.chunks_exact(4 * width);
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
