// Rows of input times a matrix: out[t, r] = then(x[t] · w[r] + bias[r]).
//
// Grid: (tiles of 64 rows, tiles of 32 tokens). A workgroup of 64 threads decodes one block of 32
// columns of 64 rows at a time into workgroup memory and multiplies it with 32 tokens; each thread
// keeps 8 rows by 4 tokens. With SWIGLU a tile is 32 gates and their 32 ups, so that a thread holds
// both of a pair. With HALF_TILE (shader-f16, for weights that are f16) they are kept so; sums are
// f32 always.
// Limits: columns are a multiple of 32.

#import "state.wgsl"
#import "block.wgsl"
#import "product.wgsl"
#import "product_rows.wgsl"

#ifdef HALF_TILE
alias Weights = vec4<f16>;
#else
alias Weights = vec4<f32>;
#endif

const WORDS: u32 = 8u;             // vec4 words of a block
const STRIDE: u32 = WORDS + 1u;    // padded, so that neighbouring rows are in other banks
#ifdef SWIGLU
const ROWS_OUT: u32 = 32u;
#else
const ROWS_OUT: u32 = 64u;
#endif

var<workgroup> w_tile: array<Weights, 64u * STRIDE>;
var<workgroup> x_tile: array<vec4<f32>, 32u * STRIDE>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first_row = workgroup.x * ROWS_OUT;
    let first_token = workgroup.y * 32u;
    let row_lane = thread / 8u;
    let token_lane = thread % 8u;

    // The matrix row that this thread decodes.
    var w_row = min(first_row + thread % ROWS_OUT, params.n_rows - 1u);
    if (thread >= ROWS_OUT) {
        w_row += params.pair;
    }

    // Where the inputs that this thread brings are: a word of each block of 4 tokens.
    let tokens = first_token + row_lane + vec4<u32>(0u, 8u, 16u, 24u);
    let x_at = min(tokens, vec4<u32>(state.n_tokens - 1u)) * params.n_blocks * WORDS + token_lane;

    var sums: array<vec4<f32>, 8>;    // 8 rows; 4 tokens in a vector
    for (var block = 0u; block < params.n_blocks; block++) {
        let w = load_block(w_row, block, params.n_blocks);
        let at = thread * STRIDE;
        w_tile[at] = Weights(w.v0);
        w_tile[at + 1u] = Weights(w.v1);
        w_tile[at + 2u] = Weights(w.v2);
        w_tile[at + 3u] = Weights(w.v3);
        w_tile[at + 4u] = Weights(w.v4);
        w_tile[at + 5u] = Weights(w.v5);
        w_tile[at + 6u] = Weights(w.v6);
        w_tile[at + 7u] = Weights(w.v7);
        x_tile[row_lane * STRIDE + token_lane] = x[x_at.x + block * WORDS];
        x_tile[(row_lane + 8u) * STRIDE + token_lane] = x[x_at.y + block * WORDS];
        x_tile[(row_lane + 16u) * STRIDE + token_lane] = x[x_at.z + block * WORDS];
        x_tile[(row_lane + 24u) * STRIDE + token_lane] = x[x_at.w + block * WORDS];
        workgroupBarrier();
        for (var word = 0u; word < WORDS; word++) {
            let x0 = x_tile[token_lane * STRIDE + word];
            let x1 = x_tile[(token_lane + 8u) * STRIDE + word];
            let x2 = x_tile[(token_lane + 16u) * STRIDE + word];
            let x3 = x_tile[(token_lane + 24u) * STRIDE + word];
            for (var i = 0u; i < 8u; i++) {
                let w = vec4<f32>(w_tile[(row_lane + i * 8u) * STRIDE + word]);
                sums[i] += vec4<f32>(dot(w, x0), dot(w, x1), dot(w, x2), dot(w, x3));
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < ROWS_OUT / 8u; i++) {
        let row = first_row + row_lane + i * 8u;
        if (row >= params.n_rows) {
            continue;
        }
        let column = params.first_out + row;
#ifdef SWIGLU
        let up = sums[i + 4u];
#else
        let up = vec4<f32>();
#endif
        put(sums[i], up, column, first_token + token_lane, 8u);
    }
}
