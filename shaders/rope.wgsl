// Rotary embeddings, and the write into the cache.
//
// Grid: (threads over a row's queries, keys and values two elements at a time, tokens). Queries are
// rotated in place, keys on their way into the cache; values are copied. The cache keeps two f16 in a
// word, with FULL_CACHE f32, with INT8_CACHE integers as in cache.wgsl. With HALVES element i of a head
// rotates with i + n_rot/2, else 2i with 2i + 1. The rotation of a position is the product of a fine and a
// coarse entry of `rotations`, see ops::rope.

#import "state.wgsl"
#import "rotation.wgsl"

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    n_rot: u32,        // elements of a head that rotate
    capacity: u32,     // positions in the cache, which is a ring
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> rotations: array<vec2<f32>>;    // [256 + coarse, n_rot / 2]
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>;          // [n_tokens, all heads · head_dim]
@group(0) @binding(4) var<storage, read_write> keys: array<Pair>;        // [n_kv_heads, capacity, head_dim]
@group(0) @binding(5) var<storage, read_write> values: array<Pair>;      // as keys

#ifdef FULL_CACHE
alias Pair = vec2<f32>;

fn packed(pair: vec2<f32>) -> Pair {
    return pair;
}
#else
alias Pair = u32;

fn packed(pair: vec2<f32>) -> Pair {
    return pack2x16float(pair);
}
#endif

#ifdef INT8_CACHE
// Pairs of the workgroup's keys and values, rotated. A head has a power of two of them: groups are whole.
var<workgroup> pairs: array<vec2<f32>, 64>;

// A 127th of the largest magnitude among `n` pairs from `first` on: as bfloat16, rounded up, so that no integer is
// beyond 127.
fn group_scale(first: u32, n: u32) -> u32 {
    var largest = 0.0;
    for (var i = 0u; i < n; i++) {
        let pair = abs(pairs[first + i]);
        largest = max(largest, max(pair.x, pair.y));
    }
    return (bitcast<u32>(largest / 127.0) + 0xffffu) >> 16u;
}

// The integers of a thread's pair and the next.
fn integers(thread: u32, n: u32) -> u32 {
    let scale = bitcast<f32>(group_scale(thread / n * n, n) << 16u);
    let inverse = 1.0 / max(scale, 0x1p-126f);
    let codes = vec4<i32>(round(vec4<f32>(pairs[thread], pairs[thread + 1u]) * inverse));
    let bytes = bitcast<vec4<u32>>(codes) & vec4<u32>(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

// The scales of the group that begins with a thread's pair, and of the next where the head goes on.
fn scales(thread: u32, n: u32) -> u32 {
    let first = group_scale(thread, n);
    if (params.head_dim <= 2u * n) {
        return first;
    }
    return first | (group_scale(thread + n, n) << 16u);
}
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let half_dim = params.head_dim / 2u;
    let token = id.y;
    let n_heads = params.n_heads + 2u * params.n_kv_heads;
    let position = state.position + token;
    let head_idx = id.x / half_dim;
    let i = id.x % half_dim;
    let head = (token * n_heads + head_idx) * params.head_dim;
    let is_query = head_idx < params.n_heads;
    let is_key = head_idx < params.n_heads + params.n_kv_heads;
    let is_there = head_idx < n_heads && token < state.n_tokens;
    if (is_query && is_there && i < params.n_rot / 2u) {
#ifdef HALVES
        let a = head + i;
        let b = a + params.n_rot / 2u;
#else
        let a = head + 2u * i;
        let b = a + 1u;
#endif
        let r = rotation(position, i);
        let pair = vec2<f32>(qkv[a], qkv[b]);
        qkv[a] = pair.x * r.x - pair.y * r.y;
        qkv[b] = pair.y * r.x + pair.x * r.y;
    }
    let is_cached = is_there && !is_query;
    var pair = vec2<f32>(0.0);
    if (is_cached && is_key) {
        pair = vec2<f32>(rotated(head, 2u * i, position), rotated(head, 2u * i + 1u, position));
    } else if (is_cached) {
        pair = vec2<f32>(qkv[head + 2u * i], qkv[head + 2u * i + 1u]);
    }
    let kv_head = (head_idx - params.n_heads) % params.n_kv_heads;
    let row = kv_head * params.capacity + position % params.capacity;
#ifdef INT8_CACHE
    pairs[thread] = pair;
    workgroupBarrier();
    let n_words = params.head_dim / 4u;
    let start = row * (n_words + (params.head_dim + 63u) / 64u);
    let group = min(half_dim, 16u);
    if (is_cached && i % 2u == 0u) {
        store(is_key, start + i / 2u, integers(thread, group));
    }
    if (is_cached && i % 32u == 0u) {
        store(is_key, start + n_words + i / 32u, scales(thread, group));
    }
#else
    if (is_cached) {
        store(is_key, row * half_dim + i, packed(pair));
    }
#endif
}

fn store(is_key: bool, at: u32, stored: Pair) {
    if (is_key) {
        keys[at] = stored;
    } else {
        values[at] = stored;
    }
}
