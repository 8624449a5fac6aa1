//! Rotary embeddings and the write into the cache: twin of `shaders/rope.wgsl`.

use super::cache::Cache;
use crate::{config::RopePairing, ops::rope::RopeTable};

/// Rotates queries in place, and keys into `cache`; copies values into `cache`.
///
/// `qkv` is [n_tokens, qkv_width], its first row at `position`.
pub fn rope(
    qkv: &mut [f32],
    cache: &mut Cache,
    rotations: &[[f32; 2]],
    position: usize,
    pairing: RopePairing,
    n_rot: usize,
) {
    let heads = cache.shape.heads;
    let n_pairs = n_rot / 2;
    cache.truncate(position);
    for (t, row) in qkv.chunks_exact_mut(heads.qkv_width()).enumerate() {
        let (rotated, values) = row.split_at_mut(heads.q_width() + heads.kv_width());
        for head in rotated.chunks_exact_mut(heads.head_dim) {
            for pair in 0..n_pairs {
                let [c, s] = RopeTable::rotation(rotations, n_pairs, position + t, pair);
                let (a, b) = match pairing {
                    RopePairing::Adjacent => (2 * pair, 2 * pair + 1),
                    RopePairing::Halves => (pair, pair + n_pairs),
                };
                (head[a], head[b]) = (head[a] * c - head[b] * s, head[a] * s + head[b] * c);
            }
        }
        cache.push(&rotated[heads.q_width()..], values);
    }
}
