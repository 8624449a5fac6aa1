// Causal attention over a cache: out = softmax(q · K · scale) · V, one head of one token a workgroup.
//
// Grid: (heads, tokens, splits). The softmax is taken in one pass: tiles of TILE keys, each rescaling
// what came before to the new maximum. With SPLIT the keys are shared by several workgroups, each
// writing its unnormalised result with its maximum and sum for attention_merge; without, the result
// is final. Query heads share key/value heads in equal groups. With WINDOW a token sees that many
// positions, its own among them, and the cache is a ring. With SINKS each head has a score without a
// value, which takes weight from all others.
// Limits: HEAD_DIM is a multiple of 8, HEAD_DIM / 2 divides WORKGROUP.

#import "state.wgsl"
#import "lanes.wgsl"

struct Params {
    n_heads: u32,
    n_kv_heads: u32,
    capacity: u32,     // positions in the cache
    row: u32,          // elements of a row of qkv
    scale: f32,
    window: u32,       // positions that a token sees
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;            // [n_tokens, row]
// [n_kv_heads, capacity, HEAD_DIM] each: f32 with FULL_CACHE, else f16.
#ifdef FULL_CACHE
@group(0) @binding(3) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> values: array<vec2<f32>>;
#else
#ifdef HALF_CACHE
@group(0) @binding(3) var<storage, read> keys: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read> values: array<vec2<f16>>;
#else
@group(0) @binding(3) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> values: array<u32>;
#endif
#endif
// Without SPLIT [n_tokens, n_heads · HEAD_DIM]; with it [n_heads, n_splits, HEAD_DIM + 2].
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
#ifdef SINKS
@group(0) @binding(6) var<storage, read> sinks: array<f32>;          // [n_heads]
#endif

const KEYS_A_THREAD: u32 = 4u;
const TILE: u32 = WORKGROUP * KEYS_A_THREAD;
const HALF_DIM: u32 = HEAD_DIM / 2u;
const PARTS: u32 = WORKGROUP / HALF_DIM;    // threads that share an element pair of the result

var<workgroup> query: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> weights: array<f32, TILE>;
var<workgroup> partial: array<vec2<f32>, WORKGROUP>;

#ifdef FULL_CACHE
fn key_word(at: u32) -> vec4<f32> {
    return keys[at];
}

fn value_word(at: u32) -> vec2<f32> {
    return values[at];
}
#else
#ifdef HALF_CACHE
fn key_word(at: u32) -> vec4<f32> {
    return vec4<f32>(keys[at]);
}

fn value_word(at: u32) -> vec2<f32> {
    return vec2<f32>(values[at]);
}
#else
fn key_word(at: u32) -> vec4<f32> {
    let word = keys[at];
    return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
}

fn value_word(at: u32) -> vec2<f32> {
    return unpack2x16float(values[at]);
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

fn score(kv_start: u32, position: u32) -> f32 {
    let at = (kv_start + place(position)) * (HEAD_DIM / 4u);
    var sum = 0.0;
    for (var i = 0u; i < HEAD_DIM / 4u; i++) {
        sum += dot(query[i], key_word(at + i));
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let head = workgroup.x;
    let token = workgroup.y;
    let all_keys = state.position + token + 1u;
#ifdef WINDOW
    let n_keys = min(all_keys, params.window);
#else
    let n_keys = all_keys;
#endif
    let share = (n_keys + n_workgroups.z - 1u) / n_workgroups.z;
    let first_key = all_keys - n_keys + workgroup.z * share;
    let end_key = min(first_key + share, all_keys);
    let kv_start = head / (params.n_heads / params.n_kv_heads) * params.capacity;

    let q_start = token * params.row + head * HEAD_DIM;
    for (var i = thread; i < HEAD_DIM / 4u; i += WORKGROUP) {
        let at = q_start + 4u * i;
        query[i] = vec4<f32>(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]) * params.scale;
    }
    workgroupBarrier();

    let word = thread % HALF_DIM;
    let part = thread / HALF_DIM;
    var largest = -3.0e38;
    var sum = 0.0;                    // of this thread's weights
#ifdef SINKS
    if (workgroup.z == 0u) {
        largest = sinks[head];
        sum = select(0.0, 1.0, thread == 0u);
    }
#endif
    var result = vec2<f32>(0.0);      // of this thread's keys, elements 2 · word and 2 · word + 1
    for (var tile = first_key; tile < end_key; tile += TILE) {
        var scores: array<f32, KEYS_A_THREAD>;
        var tile_largest = largest;
        for (var i = 0u; i < KEYS_A_THREAD; i++) {
            let key = tile + i * WORKGROUP + thread;
            scores[i] = -3.0e38;
            if (key < end_key) {
                scores[i] = score(kv_start, key);
            }
            tile_largest = max(tile_largest, scores[i]);
        }
        let new_largest = max_lanes(tile_largest, thread);
        let rescale = exp(largest - new_largest);
        largest = new_largest;
        sum *= rescale;
        for (var i = 0u; i < KEYS_A_THREAD; i++) {
            let key = i * WORKGROUP + thread;
            let weight = select(0.0, exp(scores[i] - largest), tile + key < end_key);
            weights[key] = weight;
            sum += weight;
        }
        workgroupBarrier();
        result *= rescale;
        let n_tile = min(TILE, end_key - tile);
        for (var i = part; i < n_tile; i += PARTS) {
            result += weights[i] * value_word((kv_start + place(tile + i)) * HALF_DIM + word);
        }
        workgroupBarrier();
    }

    let total = sum_lanes(sum, thread);
    partial[thread] = result;
    workgroupBarrier();
    if (thread < HALF_DIM) {
        for (var i = 1u; i < PARTS; i++) {
            result += partial[thread + i * HALF_DIM];
        }
#ifdef SPLIT
        let at = (head * n_workgroups.z + workgroup.z) * (HEAD_DIM + 2u);
        out[at + 2u * thread] = result.x;
        out[at + 2u * thread + 1u] = result.y;
        if (thread == 0u) {
            out[at + HEAD_DIM] = largest;
            out[at + HEAD_DIM + 1u] = total;
        }
#else
        let at = (token * params.n_heads + head) * HEAD_DIM + 2u * thread;
        out[at] = result.x / total;
        out[at + 1u] = result.y / total;
#endif
    }
}
