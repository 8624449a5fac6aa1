// What kernels of attention share: parameters, bindings, and how the cache holds keys and values.
//
// With WINDOW the cache is a ring.

#import "state.wgsl"
#ifdef ROTATE
#import "rotation.wgsl"
#endif

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    capacity: u32,     // positions in the cache
    row: u32,          // elements of a row of qkv
    scale: f32,
    window: u32,       // positions that a token sees
    n_rot: u32,        // elements of a head that rotate
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;            // [n_tokens, row]
// [n_kv_heads, capacity, HEAD_DIM] each: f32 with FULL_CACHE, else f16.
#ifdef FULL_CACHE
alias Keys = vec4<f32>;
alias Values = vec2<f32>;
#else
#ifdef HALF_CACHE
alias Keys = vec4<f16>;
alias Values = vec2<f16>;
#else
alias Keys = vec2<u32>;
alias Values = u32;
#endif
#endif
#ifdef ROTATE
@group(0) @binding(3) var<storage, read_write> keys: array<Keys>;
@group(0) @binding(4) var<storage, read_write> values: array<Values>;
@group(0) @binding(7) var<storage, read> rotations: array<vec2<f32>>;    // [256 + coarse, n_rot / 2]
#else
@group(0) @binding(3) var<storage, read> keys: array<Keys>;
@group(0) @binding(4) var<storage, read> values: array<Values>;
#endif
// Without SPLIT [n_tokens, n_heads · HEAD_DIM]; with it [n_heads, n_splits, HEAD_DIM + 2].
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
#ifdef SINKS
@group(0) @binding(6) var<storage, read> sinks: array<f32>;          // [n_heads]
#endif

#ifdef FULL_CACHE
fn as_keys(numbers: vec4<f32>) -> Keys {
    return numbers;
}

fn as_values(numbers: vec2<f32>) -> Values {
    return numbers;
}

fn of_keys(stored: Keys) -> vec4<f32> {
    return stored;
}

fn of_values(stored: Values) -> vec2<f32> {
    return stored;
}
#else
#ifdef HALF_CACHE
fn as_keys(numbers: vec4<f32>) -> Keys {
    return Keys(numbers);
}

fn as_values(numbers: vec2<f32>) -> Values {
    return Values(numbers);
}

fn of_keys(stored: Keys) -> vec4<f32> {
    return vec4<f32>(stored);
}

fn of_values(stored: Values) -> vec2<f32> {
    return vec2<f32>(stored);
}
#else
fn as_keys(numbers: vec4<f32>) -> Keys {
    return Keys(pack2x16float(numbers.xy), pack2x16float(numbers.zw));
}

fn as_values(numbers: vec2<f32>) -> Values {
    return pack2x16float(numbers);
}

fn of_keys(stored: Keys) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(stored.x), unpack2x16float(stored.y));
}

fn of_values(stored: Values) -> vec2<f32> {
    return unpack2x16float(stored);
}
#endif
#endif

// Where the cache holds a position.
fn place(position: u32) -> u32 {
#ifdef WINDOW
    return position % params.capacity;
#else
    return position;
#endif
}

#ifdef ROTATE
// Elements 4i to 4i + 3 of the head at `head`, rotated.
fn rotated_word(head: u32, i: u32) -> vec4<f32> {
    let position = state.position;
    return vec4<f32>(rotated(head, 4u * i, position), rotated(head, 4u * i + 1u, position),
        rotated(head, 4u * i + 2u, position), rotated(head, 4u * i + 3u, position));
}
#endif
