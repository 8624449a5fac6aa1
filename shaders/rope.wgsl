// Rotary embeddings, and the write into the cache.
//
// Grid: (threads over a row's queries, keys and values two elements at a time, tokens). Queries are
// rotated in place, keys on their way into the cache; values are copied. The cache keeps two f16 in a
// word, with FULL_CACHE f32. With HALVES element i of a head rotates with i + n_rot/2, else 2i with 2i + 1.
// The rotation of a position is the product of a fine and a coarse entry of `rotations`, see ops::rope.

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
@group(0) @binding(4) var<storage, read_write> keys: array<Pair>;        // [n_kv_heads, capacity, head_dim / 2]
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

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let half_dim = params.head_dim / 2u;
    let token = id.y;
    let n_heads = params.n_heads + 2u * params.n_kv_heads;
    if (id.x >= n_heads * half_dim || token >= state.n_tokens) {
        return;
    }
    let position = state.position + token;
    let head_idx = id.x / half_dim;
    let i = id.x % half_dim;
    let head = (token * n_heads + head_idx) * params.head_dim;
    if (head_idx < params.n_heads) {
        if (i < params.n_rot / 2u) {
#ifdef HALVES
            let a = i;
            let b = i + params.n_rot / 2u;
#else
            let a = 2u * i;
            let b = a + 1u;
#endif
            let rotated_a = rotated(head, a, position);
            let rotated_b = rotated(head, b, position);
            qkv[head + a] = rotated_a;
            qkv[head + b] = rotated_b;
        }
        return;
    }
    let kv_head = (head_idx - params.n_heads) % params.n_kv_heads;
    let at = (kv_head * params.capacity + position % params.capacity) * half_dim + i;
    if (head_idx < params.n_heads + params.n_kv_heads) {
        let pair = vec2<f32>(rotated(head, 2u * i, position), rotated(head, 2u * i + 1u, position));
        keys[at] = packed(pair);
    } else {
        values[at] = packed(vec2<f32>(qkv[head + 2u * i], qkv[head + 2u * i + 1u]));
    }
}
