//! Rotary embeddings and the cache.

use half::f16;
use pesi::{
    config::RopePairing,
    cpu::reference,
    gpu::{Cache, ops::rope, record::Extent},
    ops::{CacheShape, Heads, rope::RopeTable},
    weights::Precision,
};

use super::{
    data::{Random, assert_close},
    device::devices,
};

#[test]
fn tables_are_exact_far_into_the_context() {
    let table = RopeTable {
        frequencies: (0..32).map(|i| 150_000_f64.powf(-f64::from(i) / 32.0)).collect(),
        magnitude: 1.25,
    };
    let entries = table.entries(131_072).unwrap();
    for position in [0, 1, 255, 256, 257, 4095, 70_000, 131_071] {
        for (pair, frequency) in table.frequencies.iter().enumerate() {
            let [c, s] = RopeTable::rotation(&entries, 32, position, pair);
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            assert!((f64::from(c) - 1.25 * cos).abs() < 5e-7, "cosine at {position}, pair {pair}");
            assert!((f64::from(s) - 1.25 * sin).abs() < 5e-7, "sine at {position}, pair {pair}");
        }
    }
}

#[test]
fn gpu_rotates_and_caches() {
    for device in devices() {
        let mut random = Random::new(6);
        for (heads, n_rot) in [
            (Heads { n_heads: 1, n_kv_heads: 1, head_dim: 8 }, 8),
            (Heads { n_heads: 3, n_kv_heads: 1, head_dim: 64 }, 64),
            (Heads { n_heads: 4, n_kv_heads: 2, head_dim: 128 }, 32),
        ] {
            for pairing in [RopePairing::Adjacent, RopePairing::Halves] {
                for (position, n_tokens, window, precision) in [
                    (0, 1, None, Precision::Compact),
                    (7, 5, None, Precision::Exact),
                    (254, 33, None, Precision::Compact),
                    (2120, 33, Some(40), Precision::Compact),
                    (2120, 33, Some(40), Precision::Exact),
                ] {
                    let table = RopeTable {
                        frequencies: (0..n_rot / 2).map(|i| 0.9_f64.powi(i as i32)).collect(),
                        magnitude: 0.75,
                    };
                    let shape = CacheShape { heads, window };
                    let context_length = if window.is_some() { 3000 } else { 300 };
                    let capacity = shape.capacity(context_length);
                    let entries = table.entries(context_length).unwrap();
                    let rotations = device.storage(bytemuck::cast_slice(&entries));
                    let qkv = random.activations(n_tokens * heads.qkv_width());
                    let buffer = device.storage(&qkv);
                    let cache = device.cache(shape, context_length, precision);
                    let state = device.state(position as u32, n_tokens as u32);
                    let extent = Extent { n_tokens: n_tokens as u32, n_keys: 0 };
                    device.run(extent, |recorder| {
                        rope::record(recorder, &state, &rotations, &buffer, &cache, pairing, n_rot);
                    });
                    let found = device.read(&buffer, qkv.len());
                    let exact = precision == Precision::Exact;
                    let tolerance = if exact { 1e-6 } else { 6e-4 };
                    let kv_words = heads.kv_width() * capacity / if exact { 1 } else { 2 };
                    let keys = device.read(&cache.keys, kv_words);
                    let values = device.read(&cache.values, kv_words);

                    for t in 0..n_tokens {
                        let what = format!("{}: {heads:?} {pairing:?} token {t}", device.name);
                        let row = &qkv[t * heads.qkv_width()..][..heads.qkv_width()];
                        let (mut rotated, v) = (row.to_vec(), q_and_k(heads));
                        reference::rope(
                            &mut rotated[..v],
                            heads.head_dim,
                            &table.frequencies,
                            table.magnitude,
                            position + t,
                            pairing,
                        );
                        let q = heads.q_width();
                        let found = &found[t * heads.qkv_width()..][..q];
                        assert_close(found, &rotated[..q], 1e-6, &what);
                        let k = cached(&keys, &cache, position + t);
                        assert_close(&k, &rotated[q..v], tolerance, &what);
                        let v_found = cached(&values, &cache, position + t);
                        assert_close(&v_found, &rotated[v..], tolerance, &what);
                    }
                }
            }
        }
    }
}

fn q_and_k(heads: Heads) -> usize {
    heads.q_width() + heads.kv_width()
}

/// What a cache holds for one position, all heads side by side.
fn cached(words: &[f32], cache: &Cache, position: usize) -> Vec<f32> {
    let heads = cache.shape.heads;
    let n_words = if cache.full { heads.head_dim } else { heads.head_dim / 2 };
    let words = (0..heads.n_kv_heads).flat_map(|head| {
        &words[(head * cache.capacity + position % cache.capacity) * n_words..][..n_words]
    });
    if cache.full {
        return words.copied().collect();
    }
    words
        .flat_map(|word| {
            let [a, b, c, d] = word.to_bits().to_le_bytes();
            [f16::from_le_bytes([a, b]).to_f32(), f16::from_le_bytes([c, d]).to_f32()]
        })
        .collect()
}
