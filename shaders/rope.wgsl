// Rotary embeddings, and the write into the cache.
//
// Grid: (threads over a row's queries, keys and values four elements at a time, tokens). Queries are
// rotated in place, keys on their way into the cache; values are copied. The cache keeps two f16 in a
// word, with FULL_CACHE f32, with INT8_CACHE integers as in cache.wgsl. With HALVES element i of a head
// rotates with i + n_rot/2, else 2i with 2i + 1; a thread has two neighbouring pairs, and so two pairs of
// neighbours. The rotation of a position is the product of a fine and a coarse entry of `rotations`, see
// ops::rope.
// Limits: n_rot is a multiple of 4; head_dim is a power of two, at most 4 · THREADS.

#import "state.wgsl"

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    head_dim: u32,
    n_rot: u32,        // elements of a head that rotate
    capacity: u32,     // positions in the cache, which is a ring
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> rotations: array<vec4<f32>>;    // [256 + coarse, n_rot / 4]
@group(0) @binding(3) var<storage, read_write> qkv: array<vec2<f32>>;    // [n_tokens, all heads · head_dim / 2]
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

// The complex product, twice.
fn product(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return a.xxzz * b + a.yyww * vec4<f32>(-b.y, b.x, -b.w, b.z);
}

// Cosines and sines of pairs 2i and 2i + 1 of a head.
fn rotation(position: u32, i: u32) -> vec4<f32> {
    let n = params.n_rot / 4u;
    return product(rotations[position % 256u * n + i], rotations[(256u + position / 256u) * n + i]);
}

#ifdef INT8_CACHE
// Pairs of neighbours of the workgroup's keys and values, rotated, in their order: heads and groups are whole.
var<workgroup> shared_pairs: array<vec2<f32>, 2 * THREADS>;

// A 127th of the largest magnitude among `n` pairs from `first` on: as bfloat16, rounded up, so that no integer is
// beyond 127.
fn group_scale(first: u32, n: u32) -> u32 {
    var largest = 0.0;
    for (var i = 0u; i < n; i++) {
        let pair = abs(shared_pairs[first + i]);
        largest = max(largest, max(pair.x, pair.y));
    }
    return (bitcast<u32>(largest / 127.0) + 0xffffu) >> 16u;
}

// The integers of a pair and the next.
fn integers(pair: u32, n: u32) -> u32 {
    let scale = bitcast<f32>(group_scale(pair / n * n, n) << 16u);
    let inverse = 1.0 / max(scale, 0x1p-126f);
    let codes = vec4<i32>(round(vec4<f32>(shared_pairs[pair], shared_pairs[pair + 1u]) * inverse));
    let bytes = bitcast<vec4<u32>>(codes) & vec4<u32>(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

// The scales of the group that begins with a pair, and of the next where the head goes on.
fn scales(pair: u32, n: u32) -> u32 {
    let first = group_scale(pair, n);
    if (params.head_dim <= 2u * n) {
        return first;
    }
    return first | (group_scale(pair + n, n) << 16u);
}
#endif

@compute @workgroup_size(THREADS)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let half_dim = params.head_dim / 2u;
    let token = id.y;
    let n_heads = params.n_heads + 2u * params.n_kv_heads;
    let position = state.position + token;
    let i = id.x % (half_dim / 2u);
    let head_idx = id.x / (half_dim / 2u);
    let head = (token * n_heads + head_idx) * half_dim;
    let is_there = head_idx < n_heads && token < state.n_tokens;
    let is_query = head_idx < params.n_heads;
    let is_key = head_idx < params.n_heads + params.n_kv_heads;
    // Which pairs of neighbours the thread has.
    var first = 2u * i;
    var second = first + 1u;
    let rotates = 4u * i < params.n_rot;
#ifdef HALVES
    if (rotates) {
        first = i;
        second = i + params.n_rot / 4u;
    }
#endif
    var pairs = vec4<f32>();
    if (is_there) {
        pairs = vec4<f32>(qkv[head + first], qkv[head + second]);
    }
    if (is_there && is_key && rotates) {
        let r = rotation(position, i);
#ifdef HALVES
        pairs = product(r, pairs.xzyw).xzyw;
#else
        pairs = product(r, pairs);
#endif
    }
    if (is_there && is_query) {
        qkv[head + first] = pairs.xy;
        qkv[head + second] = pairs.zw;
    }
    let is_cached = is_there && !is_query;
    let kv_head = (head_idx - params.n_heads) % params.n_kv_heads;
    let row = kv_head * params.capacity + position % params.capacity;
#ifdef INT8_CACHE
    let start_of_head = (thread - i) * 2u;
    shared_pairs[start_of_head + first] = pairs.xy;
    shared_pairs[start_of_head + second] = pairs.zw;
    workgroupBarrier();
    let n_words = params.head_dim / 4u;
    let start = row * (n_words + (params.head_dim + 63u) / 64u);
    let group = min(half_dim, 16u);
    if (is_cached) {
        store(is_key, start + i, integers(2u * thread, group));
    }
    if (is_cached && i % 16u == 0u) {
        store(is_key, start + n_words + i / 16u, scales(2u * thread, group));
    }
#else
    if (is_cached) {
        store(is_key, row * half_dim + first, packed(pairs.xy));
        store(is_key, row * half_dim + second, packed(pairs.zw));
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
