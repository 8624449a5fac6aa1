// Causal attention over a cache: out = softmax(q · K · scale) · V, one head of one token a workgroup.
//
// Grid: (heads, tokens, splits). The softmax is taken in one pass: tiles of TILE keys, each rescaling
// what came before to the new maximum. With SPLIT the keys are shared by several workgroups, each
// writing its unnormalised result with its maximum and sum for attention_merge; without, the result
// is final. Query heads share key/value heads in equal groups. With WINDOW a token sees that many
// positions, its own among them, and the cache is a ring. With SINKS each head has a score without a
// value, which takes weight from all others. With ROTATE there is one token, whose queries and key are
// rotated here, see rope.wgsl; one head of a group writes key and value into the cache.
// Limits: HEAD_DIM is a multiple of 8, HEAD_DIM / 2 divides WORKGROUP.

#import "cache.wgsl"
#import "lanes.wgsl"

const KEYS_A_THREAD: u32 = 4u;
const TILE: u32 = WORKGROUP * KEYS_A_THREAD;
const HALF_DIM: u32 = HEAD_DIM / 2u;
const PARTS: u32 = WORKGROUP / HALF_DIM;    // threads that share an element pair of the result

var<workgroup> query: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> weights: array<f32, TILE>;
var<workgroup> partial: array<vec2<f32>, WORKGROUP>;

#ifdef ROTATE
// Key and value of the token itself, which no thread can rely on to be in the cache yet.
var<workgroup> newest_key: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> newest_value: array<vec2<f32>, HALF_DIM>;

// Prepares the query of a head, and key and value of the token, each by threads of its own; the latter two
// are written into the cache if `writes`.
fn prepare(head: u32, kv_head: u32, kv_start: u32, writes: bool, thread: u32) {
    const WORDS: u32 = HEAD_DIM / 4u;
    let key = (params.n_heads + kv_head) * HEAD_DIM;
    let value = key + params.n_kv_heads * HEAD_DIM;
    let at = kv_start + place(state.position);
    for (var i = thread; i < 2u * WORDS + HALF_DIM; i += WORKGROUP) {
        if (i < WORDS) {
            query[i] = rotated_word(head * HEAD_DIM, i) * params.scale;
        } else if (i < 2u * WORDS) {
            let word = i - WORDS;
            let stored = as_keys(rotated_word(key, word));
            newest_key[word] = of_keys(stored);
            if (writes) {
                keys[at * WORDS + word] = stored;
            }
        } else {
            let word = i - 2u * WORDS;
            let stored = as_values(vec2<f32>(qkv[value + 2u * word], qkv[value + 2u * word + 1u]));
            newest_value[word] = of_values(stored);
            if (writes) {
                values[at * HALF_DIM + word] = stored;
            }
        }
    }
}
#endif

fn score(kv_start: u32, position: u32) -> f32 {
    var sum = 0.0;
#ifdef ROTATE
    if (position == state.position) {
        for (var i = 0u; i < HEAD_DIM / 4u; i++) {
            sum += dot(query[i], newest_key[i]);
        }
        return sum;
    }
#endif
    let at = (kv_start + place(position)) * KEY_WORDS;
    for (var group = 0u; group < HEAD_DIM; group += GROUP) {
        var of_group = 0.0;
        for (var i = group / 4u; i < (group + GROUP) / 4u; i++) {
            of_group += dot(query[i], key_word(at, i));
        }
        sum += of_group * key_scale(at, group);
    }
    return sum;
}

// A pair of elements of a position's value, from the cache.
fn value_at(kv_start: u32, position: u32, word: u32) -> vec2<f32> {
    return value_word((kv_start + place(position)) * VALUE_WORDS, word);
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
    let group = params.n_heads / params.n_kv_heads;
    let kv_head = head / group;
    let kv_start = kv_head * params.capacity;

#ifdef ROTATE
    prepare(head, kv_head, kv_start, head % group == 0u && workgroup.z == 0u, thread);
#else
    let q_start = token * params.row + head * HEAD_DIM;
    for (var i = thread; i < HEAD_DIM / 4u; i += WORKGROUP) {
        let at = q_start + 4u * i;
        query[i] = vec4<f32>(qkv[at], qkv[at + 1u], qkv[at + 2u], qkv[at + 3u]) * params.scale;
    }
#endif
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
        var scores = array<f32, KEYS_A_THREAD>();
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
#ifdef ROTATE
        let has_newest = tile + n_tile == all_keys;
        let n_cached = n_tile - u32(has_newest);
#else
        let n_cached = n_tile;
#endif
        var i = part;
        // Several reads at once are in flight.
        for (; i + 3u * PARTS < n_cached; i += 4u * PARTS) {
            let a = value_at(kv_start, tile + i, word);
            let b = value_at(kv_start, tile + i + PARTS, word);
            let c = value_at(kv_start, tile + i + 2u * PARTS, word);
            let d = value_at(kv_start, tile + i + 3u * PARTS, word);
            result += weights[i] * a + weights[i + PARTS] * b
                + weights[i + 2u * PARTS] * c + weights[i + 3u * PARTS] * d;
        }
        for (; i < n_cached; i += PARTS) {
            result += weights[i] * value_at(kv_start, tile + i, word);
        }
#ifdef ROTATE
        if (has_newest && part == 0u) {
            result += weights[n_cached] * newest_value[word];
        }
#endif
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
