//! Attention over the cache.

use half::f16;
use pesi::{
    cpu::reference,
    gpu::{
        Cache,
        ops::attention::{self, Operands},
        record::Extent,
    },
    ops::Heads,
};

use super::{
    data::{Random, assert_close},
    device::devices,
};

fn halves(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| f16::from_f32(random.signed()).to_f32()).collect()
}

/// [n_positions, kv_width] in the cache's order, two halves a word.
fn packed(rows: &[f32], heads: Heads, capacity: usize) -> Vec<u32> {
    let (dim, half) = (heads.head_dim, heads.head_dim / 2);
    let mut words = vec![0; heads.n_kv_heads * capacity * half];
    for (position, row) in rows.chunks_exact(heads.kv_width()).enumerate() {
        for (head, row) in row.chunks_exact(dim).enumerate() {
            for (i, pair) in row.chunks_exact(2).enumerate() {
                let bits = |x: f32| u32::from(f16::from_f32(x).to_bits());
                words[(head * capacity + position) * half + i] =
                    bits(pair[0]) | bits(pair[1]) << 16;
            }
        }
    }
    words
}

#[test]
fn gpu_attention_matches_double_precision() {
    let capacity = 1100;
    for mut device in devices() {
        // Small splits, so that a test reaches many.
        device.tuning.split_keys = 64;
        let mut random = Random::new(7);
        for heads in [
            Heads { n_heads: 1, n_kv_heads: 1, head_dim: 8 },
            Heads { n_heads: 6, n_kv_heads: 2, head_dim: 64 },
            Heads { n_heads: 2, n_kv_heads: 1, head_dim: 128 },
            Heads { n_heads: 2, n_kv_heads: 2, head_dim: 256 },
        ] {
            for (position, n_tokens) in
                [(0, 1), (62, 1), (63, 1), (64, 1), (255, 1), (256, 1), (1090, 1), (0, 3), (250, 9)]
            {
                let n_keys = position + n_tokens;
                let keys = halves(&mut random, n_keys * heads.kv_width());
                let values = halves(&mut random, n_keys * heads.kv_width());
                let mut qkv = halves(&mut random, n_tokens * heads.qkv_width());
                // One query that all but one key are far from.
                qkv[0] *= 300.0;
                let scale = 1.0 / (heads.head_dim as f32).sqrt();

                let cache = Cache::new(&device.context, heads, capacity).unwrap();
                for (buffer, rows) in [(&cache.keys, &keys), (&cache.values, &values)] {
                    let words = packed(rows, heads, capacity);
                    let bytes = bytemuck::cast_slice(&words);
                    device.context.queue.write_buffer(&buffer.buffer, 0, bytes);
                }
                let q = device.storage(&qkv);
                let n_splits = device.tuning.max_splits as usize;
                let splits =
                    device.storage(&vec![0.0; heads.n_heads * n_splits * (heads.head_dim + 2)]);
                let out = device.storage(&vec![0.0; n_tokens * heads.q_width()]);
                let state = device.state(position as u32, n_tokens as u32);
                let extent = Extent { n_tokens: n_tokens as u32, n_keys: n_keys as u32 };
                let target = device.target();
                let operands =
                    Operands { qkv: &q, cache: &cache, scale, splits: &splits, out: &out };
                device.run(extent, |recorder| {
                    attention::record(recorder, &target, &state, operands);
                });
                let found = device.read(&out, n_tokens * heads.q_width());
                for t in 0..n_tokens {
                    let seen = (position + t + 1) * heads.kv_width();
                    let expected = reference::attention(
                        &qkv[t * heads.qkv_width()..][..heads.q_width()],
                        &keys[..seen],
                        &values[..seen],
                        heads,
                        scale,
                    );
                    let found = &found[t * heads.q_width()..][..heads.q_width()];
                    let what = format!("{}: {heads:?} at {position}, token {t}", device.name);
                    assert_close(found, &expected, 1e-4, &what);
                }
            }
        }
    }
}
