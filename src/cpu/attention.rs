//! Causal attention over a cache: twin of `shaders/attention.wgsl`.

use super::linear::dot_f32;
use crate::ops::Heads;

/// Keys and values of one layer in f32, position after position.
pub struct Cache {
    pub heads: Heads,
    /// [n_positions, kv_width].
    keys: Vec<f32>,
    /// [n_positions, kv_width].
    values: Vec<f32>,
}

impl Cache {
    pub fn new(heads: Heads) -> Self {
        Self { heads, keys: Vec::new(), values: Vec::new() }
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        (self.keys.capacity() + self.values.capacity()) * 4
    }

    /// Forgets positions from `position` on.
    pub fn truncate(&mut self, position: usize) {
        self.keys.truncate(position * self.heads.kv_width());
        self.values.truncate(position * self.heads.kv_width());
    }

    /// Appends the next position.
    pub fn push(&mut self, keys: &[f32], values: &[f32]) {
        self.keys.extend_from_slice(keys);
        self.values.extend_from_slice(values);
    }
}

/// `softmax(q·K · scale)·V` for each query head of each token, over positions up to the token's own.
///
/// `qkv` is [n_tokens, qkv_width], its first row at `position`; `out` is [n_tokens, q_width].
pub fn attention(
    qkv: &[f32],
    cache: &Cache,
    position: usize,
    scale: f32,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let Heads { n_heads, n_kv_heads, head_dim } = cache.heads;
    let kv_width = cache.heads.kv_width();
    let rows = qkv.chunks_exact(cache.heads.qkv_width());
    for (t, (row, out)) in rows.zip(out.chunks_exact_mut(n_heads * head_dim)).enumerate() {
        let n_keys = position + t + 1;
        let queries = row.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in queries.enumerate() {
            let column = head / (n_heads / n_kv_heads) * head_dim;
            let at = |cache: &[f32], position: usize| position * kv_width + column..cache.len();
            scores.clear();
            scores.extend((0..n_keys).map(|position| {
                let key = &cache.keys[at(&cache.keys, position)][..head_dim];
                dot_f32(query, key) * scale
            }));
            let largest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let mut sum = 0.0;
            out.fill(0.0);
            for (position, score) in scores.iter().enumerate() {
                let weight = (score - largest).exp();
                sum += weight;
                let value = &cache.values[at(&cache.values, position)][..head_dim];
                for (out, value) in out.iter_mut().zip(value) {
                    *out += weight * value;
                }
            }
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }
}
