//! Rotary embeddings and the cache.

use half::{bf16, f16};
use pesi::{
    config::RopePairing,
    cpu::reference,
    gpu::{Cache, CacheFormat, ops::rope, record::Extent},
    ops::{CacheNumbers, CacheShape, Heads, rope::RopeTable},
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
            (Heads { n_heads: 1, n_kv_heads: 1, head_dim: 512 }, 512),
        ] {
            for pairing in [RopePairing::Adjacent, RopePairing::Halves] {
                let (exact, compact) = (Precision::Exact, Precision::Compact);
                let (full, int8) = (CacheNumbers::Full, CacheNumbers::Int8);
                for (position, n_tokens, window, precision, numbers) in [
                    (0, 1, None, compact, full),
                    (7, 5, None, exact, full),
                    (7, 5, None, compact, int8),
                    (254, 33, None, compact, full),
                    (2120, 33, Some(40), compact, full),
                    (2120, 33, Some(40), exact, full),
                    (2120, 33, Some(40), compact, int8),
                ] {
                    let table = RopeTable {
                        frequencies: (0..n_rot / 2).map(|i| 0.9_f64.powi(i as i32)).collect(),
                        magnitude: 0.75,
                    };
                    let shape = CacheShape { heads, window, numbers };
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
                    // Of the largest: half an integer of a scale that is up to a 128th too large.
                    let tolerance = match cache.format {
                        CacheFormat::F32 => 1e-6,
                        CacheFormat::F16 => 6e-4,
                        CacheFormat::Int8 => 4e-3,
                    };
                    let kv_words = heads.n_kv_heads * cache.bytes_of(capacity) as usize / 4;
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
    let Heads { n_kv_heads, head_dim, .. } = cache.shape.heads;
    let n_words = cache.bytes_of(1) as usize / 4;
    let heads = (0..n_kv_heads).flat_map(|head| {
        let at = (head * cache.capacity + position % cache.capacity) * n_words;
        let words = &words[at..at + n_words];
        if cache.format == CacheFormat::F32 {
            return words.to_vec();
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_bits().to_le_bytes()).collect();
        if cache.format == CacheFormat::F16 {
            let halves = bytes.chunks_exact(2);
            return halves.map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect();
        }
        let (codes, scales) = bytes.split_at(head_dim);
        let scales = scales.chunks_exact(2);
        codes
            .chunks(32)
            .zip(scales.map(|scale| bf16::from_le_bytes([scale[0], scale[1]]).to_f32()))
            .flat_map(|(codes, scale)| {
                codes.iter().map(move |code| f32::from(code.cast_signed()) * scale)
            })
            .collect()
    });
    heads.collect()
}
