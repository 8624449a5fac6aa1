// Many rows of input times the matrices of their tokens' experts, tile by tile of one expert's choices.
//
// With SWIGLU a row of input is a token's: out[c, r] = g · sigmoid(1.702 g) · (u + 1), limited, for each
// choice c = token · N_USED + slot, over matrices with gates, then ups. Without it each choice has its
// own row: out[c, r] = weight[c] · (x[c] · w[r] + bias[r]); experts_sum adds a token's choices.
// Grid: (tiles of 64 rows, tiles of choices), as experts_group counted. Experts of other pages are left
// to those pages' dispatches. A workgroup of 64 threads decodes one block of 32 columns of 64 rows at a
// time into workgroup memory and multiplies it with TILE_TOKENS inputs; each thread keeps 8 rows by
// TILE_TOKENS / 8 inputs. With SWIGLU a tile is 32 gates and their 32 ups.
// Limits: columns are a multiple of 32.

#import "block.wgsl"
#import "experts_tile.wgsl"

const WORDS: u32 = 8u;             // vec4 words of a block
const STRIDE: u32 = WORDS + 1u;    // padded, so that neighbouring rows are in other banks
const GROUPS: u32 = TILE_TOKENS / 8u;
#ifdef SWIGLU
const ROWS_OUT: u32 = 32u;
#else
const ROWS_OUT: u32 = 64u;
#endif

var<workgroup> w_tile: array<vec4<f32>, 64u * STRIDE>;
var<workgroup> x_tile: array<vec4<f32>, TILE_TOKENS * STRIDE>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = load_tile(workgroup.y, thread);
    let expert = tile.expert - params.first_expert;
    if (expert >= params.n_experts) {
        return;
    }
    let first_out = workgroup.x * ROWS_OUT;
    let row_lane = thread / 8u;
    let token_lane = thread % 8u;

    // The matrix row that this thread decodes.
    var w_row = min(first_out + thread % ROWS_OUT, params.n_out - 1u);
#ifdef SWIGLU
    w_row += (2u * expert + thread / ROWS_OUT) * params.n_out;
#else
    w_row += expert * params.n_out;
#endif

    // Where the inputs that this thread brings are: a word of each block of GROUPS rows.
    var x_at: array<u32, GROUPS>;
    for (var group = 0u; group < GROUPS; group++) {
        x_at[group] = input_start(tile, row_lane + group * 8u) + token_lane;
    }

    var sums: array<f32, 8u * GROUPS>;    // 8 rows, each with GROUPS inputs
    for (var block = 0u; block < params.n_blocks; block++) {
        let w = load_block(w_row, block, params.n_blocks);
        let at = thread * STRIDE;
        w_tile[at] = w.v0;
        w_tile[at + 1u] = w.v1;
        w_tile[at + 2u] = w.v2;
        w_tile[at + 3u] = w.v3;
        w_tile[at + 4u] = w.v4;
        w_tile[at + 5u] = w.v5;
        w_tile[at + 6u] = w.v6;
        w_tile[at + 7u] = w.v7;
        for (var group = 0u; group < GROUPS; group++) {
            x_tile[(row_lane + group * 8u) * STRIDE + token_lane] = x[x_at[group] + block * WORDS];
        }
        workgroupBarrier();
        for (var word = 0u; word < WORDS; word++) {
            var inputs = array<vec4<f32>, GROUPS>();
            for (var group = 0u; group < GROUPS; group++) {
                inputs[group] = x_tile[(token_lane + group * 8u) * STRIDE + word];
            }
            for (var i = 0u; i < 8u; i++) {
                let weights = w_tile[(row_lane + i * 8u) * STRIDE + word];
                for (var group = 0u; group < GROUPS; group++) {
                    sums[i * GROUPS + group] += dot(weights, inputs[group]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var group = 0u; group < GROUPS; group++) {
        let place = token_lane + group * 8u;
        if (place >= tile.n_choices) {
            continue;
        }
        let choice = order[tile.first + place];
        for (var i = 0u; i < ROWS_OUT / 8u; i++) {
            let column = first_out + row_lane + i * 8u;
            if (column >= params.n_out) {
                continue;
            }
#ifdef SWIGLU
            let up = sums[(i + 4u) * GROUPS + group];
#else
            let up = 0.0;
#endif
            put(sums[i * GROUPS + group], up, tile.expert, choice, column);
        }
    }
}
