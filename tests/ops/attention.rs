//! Attention over the cache.

use half::{bf16, f16};
use pesi::{
    config::RopePairing,
    cpu::reference,
    gpu::{
        Cache, CacheFormat,
        ops::{
            attention::{self, Operands, Rotation},
            rope,
        },
        record::Extent,
    },
    ops::{CacheNumbers, CacheShape, Heads, rope::RopeTable},
    weights::Precision,
};

use super::{
    data::{Matrix, Random, assert_close},
    device::{Device, some_devices},
};

fn halves(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| f16::from_f32(random.signed()).to_f32()).collect()
}

/// [n_positions, kv_width] in the cache's order, and what that means.
fn packed(rows: &[f32], cache: &Cache) -> (Vec<u32>, Vec<f32>) {
    let heads = cache.shape.heads;
    let n_words = cache.bytes_of(1) as usize / 4;
    let mut words = vec![0; heads.n_kv_heads * cache.capacity * n_words];
    let mut meant = Vec::with_capacity(rows.len());
    for (position, row) in rows.chunks_exact(heads.kv_width()).enumerate() {
        for (head, row) in row.chunks_exact(heads.head_dim).enumerate() {
            let at = (head * cache.capacity + position % cache.capacity) * n_words;
            let (packed, numbers) = match cache.format {
                CacheFormat::F32 => (row.iter().map(|x| x.to_bits()).collect(), row.to_vec()),
                CacheFormat::F16 => {
                    let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
                    let pairs = row.chunks_exact(2);
                    (pairs.map(|x| half(x[0]) | half(x[1]) << 16).collect(), row.to_vec())
                }
                CacheFormat::Int8 => packed_integers(row),
            };
            words[at..at + n_words].copy_from_slice(&packed);
            meant.extend(numbers);
        }
    }
    (words, meant)
}

/// A head of a position as integers, then the scales of 32 each.
fn packed_integers(head: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let (mut codes, mut scales, mut meant) = (Vec::new(), Vec::new(), Vec::new());
    for group in head.chunks(32) {
        let largest = group.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        // A scale that is too large by less than a hundredth, as it is in bfloat16.
        let scale = bf16::from_f32(largest / 126.5);
        scales.extend(scale.to_le_bytes());
        for x in group {
            let code = (x / scale.to_f32()).round();
            codes.push((code as i8).cast_unsigned());
            meant.push(code * scale.to_f32());
        }
    }
    scales.resize(scales.len().next_multiple_of(4), 0);
    codes.extend(scales);
    let words = codes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
    (words.collect(), meant)
}

#[test]
fn gpu_attention_matches_double_precision() {
    let cases =
        [(0, 1), (62, 1), (63, 1), (64, 1), (255, 1), (256, 1), (1090, 1), (0, 3), (250, 9)];
    check(None, 1100, &cases);
}

#[test]
fn gpu_attention_within_a_window_matches_double_precision() {
    // Around the window's size, and where the ring has been overwritten.
    let cases = [(0, 1), (98, 1), (99, 1), (100, 1), (96, 9), (1123, 1), (1120, 9), (2300, 3)];
    check(Some(100), 3000, &cases);
    check(Some(1), 3000, &[(0, 1), (0, 3), (1100, 1)]);
}

fn check(window: Option<usize>, context_length: usize, cases: &[(usize, usize)]) {
    for mut device in some_devices() {
        // Small splits, so that a test reaches many, and rows as where subgroups are wide.
        device.tuning.sizes.split_keys = 64;
        device.tuning.attention_chunk_rows = 8;
        let mut random = Random::new(7);
        let usual = [
            (Heads { n_heads: 6, n_kv_heads: 2, head_dim: 64 }, &[true, false][..]),
            (Heads { n_heads: 10, n_kv_heads: 1, head_dim: 128 }, &[true]),
        ];
        let others = [
            (Heads { n_heads: 1, n_kv_heads: 1, head_dim: 8 }, &[false][..]),
            (Heads { n_heads: 2, n_kv_heads: 2, head_dim: 256 }, &[true]),
        ];
        // Widths of heads and windows are independent of each other.
        let others = others.into_iter().filter(|_| window.is_none());
        for (heads, with_sinks) in usual.into_iter().chain(others) {
            for &(position, n_tokens) in cases {
                // Which cases have sinks and what the cache holds are independent of each other.
                let (precision, numbers) = match (position + n_tokens) % 3 {
                    0 => (Precision::Exact, CacheNumbers::Full),
                    1 if heads.head_dim < 256 => (Precision::Compact, CacheNumbers::Int8),
                    _ => (Precision::Compact, CacheNumbers::Full),
                };
                let shape = CacheShape { heads, window, numbers };
                for &with_sinks in with_sinks {
                    check_case(
                        &device,
                        (shape, precision),
                        context_length,
                        [position, n_tokens],
                        with_sinks,
                        &mut random,
                    );
                }
            }
        }
    }
}

fn check_case(
    device: &Device,
    (shape, precision): (CacheShape, Precision),
    context_length: usize,
    [position, n_tokens]: [usize; 2],
    with_sinks: bool,
    random: &mut Random,
) {
    let heads = shape.heads;
    let n_keys = position + n_tokens;
    let keys = halves(random, n_keys * heads.kv_width());
    let values = halves(random, n_keys * heads.kv_width());
    let mut qkv = halves(random, n_tokens * heads.qkv_width());
    // One query that all but one key are far from.
    qkv[0] *= 300.0;
    let scale = 1.0 / (heads.head_dim as f32).sqrt();
    // Sinks below, among and above the scores.
    let sinks = with_sinks.then(|| {
        Matrix::vector(&(0..heads.n_heads).map(|i| i as f32 * 4.0 - 4.0).collect::<Vec<_>>())
    });

    let cache = device.cache(shape, context_length, precision);
    let [keys, values] = [(&cache.keys, &keys), (&cache.values, &values)].map(|(buffer, rows)| {
        let (words, meant) = packed(rows, &cache);
        device.context.queue.write_buffer(&buffer.buffer, 0, bytemuck::cast_slice(&words));
        meant
    });
    let q = device.storage(&qkv);
    let n_splits = device.tuning.max_splits as usize;
    let splits = device.storage(&vec![0.0; heads.n_heads * n_splits * (heads.head_dim + 2)]);
    let out = device.storage(&vec![0.0; n_tokens * heads.q_width()]);
    let state = device.state(position as u32, n_tokens as u32);
    let extent = Extent { n_tokens: n_tokens as u32, n_keys: n_keys as u32 };
    let target = device.target();
    let uploaded = sinks.as_ref().map(|sinks| sinks.upload(&device.context));
    let operands = Operands {
        qkv: &q,
        one_token: n_tokens == 1 && cache.format == CacheFormat::Int8,
        rotation: None,
        cache: &cache,
        scale,
        sinks: uploaded.as_ref(),
        splits: &splits,
        out: &out,
    };
    device.run(extent, |recorder| attention::record(recorder, &target, &state, operands));
    let found = device.read(&out, n_tokens * heads.q_width());
    for t in 0..n_tokens {
        let first = shape.window.map_or(0, |window| (position + t + 1).saturating_sub(window));
        let seen = first * heads.kv_width()..(position + t + 1) * heads.kv_width();
        let expected = reference::attention(
            &qkv[t * heads.qkv_width()..][..heads.q_width()],
            &keys[seen.clone()],
            &values[seen],
            heads,
            scale,
            sinks.as_ref().map(|sinks| sinks.decoded.as_slice()),
        );
        let found = &found[t * heads.q_width()..][..heads.q_width()];
        let what = format!("{}: {shape:?} at {position}, token {t}", device.name);
        assert_close(found, &expected, 1e-4, &what);
    }
}

#[test]
fn attention_that_rotates_is_rotation_then_attention() {
    for mut device in some_devices() {
        device.tuning.sizes.split_keys = 64;
        let mut random = Random::new(8);
        for (heads, n_rot, pairing) in [
            (Heads { n_heads: 6, n_kv_heads: 2, head_dim: 64 }, 64, RopePairing::Halves),
            (Heads { n_heads: 10, n_kv_heads: 1, head_dim: 128 }, 32, RopePairing::Adjacent),
            (Heads { n_heads: 2, n_kv_heads: 2, head_dim: 8 }, 8, RopePairing::Halves),
        ] {
            for (position, window, precision) in [
                (0, None, Precision::Compact),
                (130, None, Precision::Exact),
                (2120, Some(40), Precision::Compact),
            ] {
                let shape = CacheShape { heads, window, numbers: CacheNumbers::Full };
                let what = format!("{}: {shape:?} {pairing:?} at {position}", device.name);
                let case = [position, n_rot];
                let [apart, together] =
                    rotated_attention(&device, shape, pairing, case, precision, &mut random);
                // Two ways to round to f16 may differ in the last bit.
                let exact = precision == Precision::Exact;
                let tolerance = if exact { 1e-5 } else { 1e-3 };
                for (apart, together) in apart.iter().zip(&together) {
                    assert_close(together, apart, tolerance, &what);
                }
            }
        }
    }
}

/// Output, keys and values of one token, with the rotation apart and on the way.
fn rotated_attention(
    device: &Device,
    shape: CacheShape,
    pairing: RopePairing,
    [position, n_rot]: [usize; 2],
    precision: Precision,
    random: &mut Random,
) -> [[Vec<f32>; 3]; 2] {
    let heads = shape.heads;
    let context_length = position + 2;
    let table = RopeTable {
        frequencies: (0..n_rot / 2).map(|i| 0.9_f64.powi(i as i32)).collect(),
        magnitude: 0.75,
    };
    let rotations = device.storage(bytemuck::cast_slice(&table.entries(context_length).unwrap()));
    let qkv = halves(random, heads.qkv_width());
    let earlier = [0, 1].map(|_| halves(random, position * heads.kv_width()));
    let state = device.state(position as u32, 1);
    let extent = Extent { n_tokens: 1, n_keys: position as u32 + 1 };
    let n_splits = device.tuning.max_splits as usize;
    let splits = device.storage(&vec![0.0; heads.n_heads * n_splits * (heads.head_dim + 2)]);
    let target = device.target();
    [false, true].map(|on_the_way| {
        let cache = device.cache(shape, context_length, precision);
        let mut n_words = 0;
        for (buffer, rows) in [&cache.keys, &cache.values].into_iter().zip(&earlier) {
            let (words, _) = packed(rows, &cache);
            n_words = words.len();
            device.context.queue.write_buffer(&buffer.buffer, 0, bytemuck::cast_slice(&words));
        }
        let buffer = device.storage(&qkv);
        let out = device.storage(&vec![0.0; heads.q_width()]);
        let rotation = Rotation { rotations: &rotations, pairing, n_rot };
        device.run(extent, |recorder| {
            if !on_the_way {
                rope::record(recorder, &state, &rotations, &buffer, &cache, pairing, n_rot);
            }
            let operands = Operands {
                qkv: &buffer,
                one_token: on_the_way,
                rotation: on_the_way.then_some(rotation),
                cache: &cache,
                scale: 0.2,
                sinks: None,
                splits: &splits,
                out: &out,
            };
            attention::record(recorder, &target, &state, operands);
        });
        let stored = |buffer| {
            let words = device.read(buffer, n_words);
            if cache.format == CacheFormat::F32 {
                return words;
            }
            let halves = words.iter().flat_map(|word| {
                let bits = word.to_bits();
                [bits as u16, (bits >> 16) as u16].map(|half| f16::from_bits(half).to_f32())
            });
            halves.collect()
        };
        [device.read(&out, heads.q_width()), stored(&cache.keys), stored(&cache.values)]
    })
}
