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
// [n_kv_heads, capacity, HEAD_DIM] each: f32 with FULL_CACHE, 8-bit integers with INT8_CACHE, else f16.
#ifdef FULL_CACHE
alias Keys = vec4<f32>;
alias Values = vec2<f32>;
#else
#ifdef INT8_CACHE
alias Keys = u32;      // HEAD_DIM / 4 words of integers, then the scales of groups of 32 as bfloat16, two a word
alias Values = u32;    // as keys
#else
#ifdef HALF_CACHE
alias Keys = vec4<f16>;
alias Values = vec2<f16>;
#else
alias Keys = vec2<u32>;
alias Values = u32;
#endif
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

#ifdef INT8_CACHE
const KEY_WORDS: u32 = HEAD_DIM / 4u + (HEAD_DIM + 63u) / 64u;    // words of a position
const VALUE_WORDS: u32 = KEY_WORDS;
const GROUP: u32 = min(HEAD_DIM, 32u);                            // elements with one scale

fn integers(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// The scale in `scales` of the group of a head's element `i`.
fn scale_in(scales: u32, i: u32) -> f32 {
    return bitcast<f32>(select(scales << 16u, scales & 0xffff0000u, i / 32u % 2u == 1u));
}

// By what elements from `i` on of the key at `start` are multiplied yet.
fn key_scale(start: u32, i: u32) -> f32 {
    return scale_in(keys[start + HEAD_DIM / 4u + i / 64u], i);
}

// Elements 4i to 4i + 3 of the key at `start`, but for its scale.
fn key_word(start: u32, i: u32) -> vec4<f32> {
    return integers(keys[start + i]);
}

// Elements 2i and 2i + 1 of the value at `start`.
fn value_word(start: u32, i: u32) -> vec2<f32> {
    let codes = integers(values[start + i / 2u]);
    let scale = scale_in(values[start + HEAD_DIM / 4u + i / 32u], 2u * i);
    return select(codes.xy, codes.zw, i % 2u == 1u) * scale;
}
#else
const KEY_WORDS: u32 = HEAD_DIM / 4u;
const VALUE_WORDS: u32 = HEAD_DIM / 2u;
const GROUP: u32 = HEAD_DIM;

fn key_scale(start: u32, i: u32) -> f32 {
    return 1.0;
}

fn key_word(start: u32, i: u32) -> vec4<f32> {
    return of_keys(keys[start + i]);
}

fn value_word(start: u32, i: u32) -> vec2<f32> {
    return of_values(values[start + i]);
}

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
