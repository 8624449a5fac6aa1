// Causal attention over a cache, as in attention.wgsl, where several rows of queries share each key and value
// that is loaded: heads of a group, and tokens. Four rows are a vector.
//
// Grid: (tiles of 4 · QUADS rows, key/value heads, splits). Row r of a key/value head is of token r / group and
// head r % group of its group. Of each tile of keys a thread has 4, with their scores for all rows; then weights
// go from thread to thread, while each sums PAIRS pairs of elements of all rows' results. SPLIT, WINDOW, SINKS
// and ROTATE are as in attention.wgsl; the first tile of rows writes key and value into the cache.
// Limits: HEAD_DIM is a multiple of 8, QUADS · HEAD_DIM is 1,024 at most; the workgroup's threads, LANES, are
// 4 at least, a power of two and in one subgroup.

#import "cache.wgsl"

const TILE: u32 = 4u * LANES;
const HALF_DIM: u32 = HEAD_DIM / 2u;
const CHUNK: u32 = min(LANES, 8u);    // elements of a query that threads load at once, one each
const LOWEST: f32 = -3.0e38;

var<workgroup> queries: array<vec4<f32>, QUADS * HEAD_DIM>;

fn sum_lanes(value: vec4<f32>) -> vec4<f32> {
    var sum = value;
    for (var offset = LANES / 2u; offset > 0u; offset /= 2u) {
        sum += subgroupShuffleXor(sum, offset);
    }
    return sum;
}

fn max_lanes(value: vec4<f32>) -> vec4<f32> {
    var largest = value;
    for (var offset = LANES / 2u; offset > 0u; offset /= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, offset));
    }
    return largest;
}

// The values of four neighbours from `lane` on, one in a column.
fn of_lanes(value: vec4<f32>, lane: u32) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupShuffle(value, lane), subgroupShuffle(value, lane + 1u),
        subgroupShuffle(value, lane + 2u), subgroupShuffle(value, lane + 3u));
}

// Element `i` of the query at `start`.
fn query(start: u32, i: u32) -> f32 {
#ifdef ROTATE
    return rotated(start, i, state.position);
#else
    return qkv[start + i];
#endif
}

// Where the cache holds four positions of a head that starts at `kv_start`: `after` one that is at `first`,
// by less than the ring's size. A division for each would take longer than what is loaded from there.
fn places(kv_start: u32, first: u32, after: vec4<u32>) -> vec4<u32> {
    let places = first + after;
#ifdef WINDOW
    return kv_start + select(places, places - params.capacity, places >= vec4<u32>(params.capacity));
#else
    return kv_start + places;
#endif
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = params.n_heads / params.n_kv_heads;
    let kv_head = workgroup.y;
    let kv_start = kv_head * params.capacity;
#ifdef ROTATE
    let n_rows = group;
#else
    let n_rows = group * state.n_tokens;
#endif
    let first_row = workgroup.x * 4u * QUADS;
    var tokens: array<vec4<u32>, QUADS>;
    var heads: array<vec4<u32>, QUADS>;
#repeat q QUADS
    {
        // Rows past the last are computed as that one.
        let rows = min(first_row + $q * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(n_rows - 1u));
        tokens[$q] = rows / group;
        heads[$q] = kv_head * group + rows - tokens[$q] * group;
        let starts = tokens[$q] * params.row + heads[$q] * HEAD_DIM;
        for (var i = thread; i < HEAD_DIM; i += LANES) {
            let elements =
                vec4<f32>(query(starts.x, i), query(starts.y, i), query(starts.z, i), query(starts.w, i));
            queries[$q * HEAD_DIM + i] = elements * params.scale;
        }
    }
#end
    workgroupBarrier();

    // Keys that any of the rows sees, of which this workgroup has its share.
    let first_token = first_row / group;
#ifdef WINDOW
    let first_seen = max(state.position + first_token + 1u, params.window) - params.window;
#else
    let first_seen = 0u;
#endif
#ifdef ROTATE
    let end_seen = state.position;
#else
    let last_token = (min(first_row + QUADS * 4u, n_rows) - 1u) / group;
    let end_seen = state.position + last_token + 1u;
#endif
    let share = (end_seen - first_seen + n_workgroups.z - 1u) / n_workgroups.z;
    let first_key = first_seen + workgroup.z * share;
    let end_key = min(first_key + share, end_seen);
    let first_place = place(first_key);

    var largest: array<vec4<f32>, QUADS>;
    var sums: array<vec4<f32>, QUADS>;                    // of this thread's weights
    // Elements 2 · word and 2 · word + 1 of rows, words LANES apart.
    var evens: array<array<vec4<f32>, PAIRS>, QUADS>;
    var odds: array<array<vec4<f32>, PAIRS>, QUADS>;
#repeat q QUADS
    largest[$q] = vec4<f32>(LOWEST);
#end
    if (workgroup.z == 0u) {
        let mine = select(0.0, 1.0, thread == 0u);
#ifdef SINKS
#repeat q QUADS
        largest[$q] = vec4<f32>(sinks[heads[$q].x], sinks[heads[$q].y], sinks[heads[$q].z], sinks[heads[$q].w]);
        sums[$q] = vec4<f32>(mine);
#end
#endif
#ifdef ROTATE
        // The token itself, which no thread can rely on to be in the cache yet.
        let key = (params.n_heads + kv_head) * HEAD_DIM;
        let value = key + params.n_kv_heads * HEAD_DIM;
        let at = kv_start + place(state.position);
        let writes = workgroup.x == 0u;
        var scores = array<vec4<f32>, QUADS>();
        for (var i = thread; i < HEAD_DIM / 4u; i += LANES) {
            let stored = as_keys(rotated_word(key, i));
            if (writes) {
                keys[at * (HEAD_DIM / 4u) + i] = stored;
            }
            let k = of_keys(stored);
#repeat q QUADS
            {
                let first = $q * HEAD_DIM + 4u * i;
                scores[$q] += queries[first] * k.x + queries[first + 1u] * k.y + queries[first + 2u] * k.z
                    + queries[first + 3u] * k.w;
            }
#end
        }
#repeat q QUADS
        {
            let score = sum_lanes(scores[$q]);
            let new_largest = max(largest[$q], score);
            sums[$q] *= exp(largest[$q] - new_largest);
            largest[$q] = new_largest;
            scores[$q] = exp(score - new_largest);
            sums[$q] += scores[$q] * mine;
        }
#end
#repeat p PAIRS
        {
            let word = min($p * LANES + thread, HALF_DIM - 1u);
            let stored = as_values(vec2<f32>(qkv[value + 2u * word], qkv[value + 2u * word + 1u]));
            if (writes) {
                values[at * HALF_DIM + word] = stored;
            }
            let pair = of_values(stored);
#repeat q QUADS
            evens[$q][$p] = scores[$q] * pair.x;
            odds[$q][$p] = scores[$q] * pair.y;
#end
        }
#end
#endif
    }

    for (var tile = first_key; tile < end_key; tile += TILE) {
        // What is past the end has no weight; the last position is loaded in its place.
        let last = vec4<u32>(end_key - 1u);
        let mine = tile + thread + LANES * vec4<u32>(0u, 1u, 2u, 3u);
        let starts = places(kv_start, first_place, min(mine, last) - first_key) * KEY_WORDS;
        var scores = array<mat4x4<f32>, QUADS>();         // a key in a column
        var scales = vec4<f32>(1.0);
        for (var chunk = 0u; chunk < HEAD_DIM; chunk += CHUNK) {
            if (chunk % GROUP == 0u) {
                scales = vec4<f32>(key_scale(starts.x, chunk), key_scale(starts.y, chunk),
                    key_scale(starts.z, chunk), key_scale(starts.w, chunk));
            }
            var elements = array<vec4<f32>, QUADS>();
#repeat q QUADS
            elements[$q] = queries[$q * HEAD_DIM + chunk + thread % CHUNK];
#end
            for (var i = 0u; i < CHUNK; i += 4u) {
                let word = (chunk + i) / 4u;
                let k = mat4x4<f32>(key_word(starts.x, word) * scales.x, key_word(starts.y, word) * scales.y,
                    key_word(starts.z, word) * scales.z, key_word(starts.w, word) * scales.w);
#repeat q QUADS
                scores[$q] += of_lanes(elements[$q], i) * k;
#end
            }
        }
#repeat q QUADS
        {
            let ends = state.position + tokens[$q] + 1u;
#ifdef WINDOW
            let firsts = max(ends, vec4<u32>(params.window)) - params.window;
#else
            let firsts = vec4<u32>(0u);
#endif
            var tile_largest = largest[$q];
#repeat k 4
            {
                let key = vec4<u32>(mine[$k]);
                let seen = (key >= firsts) & (key < min(ends, vec4<u32>(end_key)));
                scores[$q][$k] = select(vec4<f32>(LOWEST), scores[$q][$k], seen);
                tile_largest = max(tile_largest, scores[$q][$k]);
            }
#end
            tile_largest = max_lanes(tile_largest);
            let rescale = exp(largest[$q] - tile_largest);
            largest[$q] = tile_largest;
            sums[$q] *= rescale;
#repeat k 4
            {
                // Of a row that has seen no key yet, the largest is the lowest too.
                let weights = exp(scores[$q][$k] - tile_largest);
                scores[$q][$k] = select(vec4<f32>(0.0), weights, scores[$q][$k] > vec4<f32>(LOWEST));
                sums[$q] += scores[$q][$k];
            }
#end
#repeat p PAIRS
            evens[$q][$p] *= rescale;
            odds[$q][$p] *= rescale;
#end
        }
#end

        for (var first = tile; first < min(tile + TILE, end_key); first += LANES) {
            for (var key = first; key < min(first + LANES, end_key); key += 4u) {
                let four = min(key + vec4<u32>(0u, 1u, 2u, 3u), last);
                let starts = places(kv_start, first_place, four - first_key) * VALUE_WORDS;
#repeat q QUADS
                let weights$q = of_lanes(scores[$q][0], key - first);
#end
#repeat p PAIRS
                {
                    let word = min($p * LANES + thread, HALF_DIM - 1u);
                    let pairs = transpose(mat4x2<f32>(value_word(starts.x, word), value_word(starts.y, word),
                        value_word(starts.z, word), value_word(starts.w, word)));
#repeat q QUADS
                    evens[$q][$p] += weights$q * pairs[0];
                    odds[$q][$p] += weights$q * pairs[1];
#end
                }
#end
            }
            // The next keys' weights move up: an index that is not constant would keep all of them in memory.
#repeat q QUADS
            scores[$q] = mat4x4<f32>(scores[$q][1], scores[$q][2], scores[$q][3], scores[$q][3]);
#end
        }
    }

#repeat q QUADS
    {
        let total = sum_lanes(sums[$q]);
#repeat r 4
        if (first_row + $q * 4u + $r < n_rows) {
            let head = heads[$q][$r];
#ifdef SPLIT
            let at = (head * n_workgroups.z + workgroup.z) * (HEAD_DIM + 2u);
            let scale = 1.0;
            if (thread == 0u) {
                out[at + HEAD_DIM] = largest[$q][$r];
                out[at + HEAD_DIM + 1u] = total[$r];
            }
#else
            let at = (tokens[$q][$r] * params.n_heads + head) * HEAD_DIM;
            let scale = 1.0 / total[$r];
#endif
#repeat p PAIRS
            if ($p * LANES + thread < HALF_DIM) {
                let element = at + 2u * ($p * LANES + thread);
                out[element] = evens[$q][$p][$r] * scale;
                out[element + 1u] = odds[$q][$p][$r] * scale;
            }
#end
        }
#end
    }
#end
}
