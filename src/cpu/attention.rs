//! Causal attention over a cache: twin of `shaders/attention.wgsl`.

use wide::f32x4;

use super::{
    cache::{Cache, Columns},
    lanes::{self, exp},
};
use crate::ops::Heads;

/// What attention works with, kept from one operation to the next.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f32>,
    /// Keys and values of a head, of caches that hold integers.
    keys: Vec<f32>,
    values: Vec<f32>,
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
        let keys = cache.keys(seen.clone(), kv_head, keys);
        let values = cache.values(seen, kv_head, values);
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
