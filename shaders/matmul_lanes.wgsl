// Rows of input times a matrix: out[t, r] = then(x[t] · w[r] + bias[r]), for adapters whose threads are
// lanes of a CPU's vectors.
//
// Grid: (workgroups of ROWS · WORKGROUP rows, tiles of 4 tokens). Each thread has ROWS rows (with SWIGLU
// gates and their ups) and sums for 4 tokens. Loads cost most there, since each lane loads by itself: nothing
// passes through workgroup memory, a block of inputs is loaded once for all rows of a thread and a block of
// weights once for all tokens.
// Limits: columns are a multiple of 32.

#import "state.wgsl"
#import "block.wgsl"
#import "input.wgsl"
#import "product.wgsl"

const TOKENS: u32 = 4u;

struct Inputs {
    b0: Block, b1: Block, b2: Block, b3: Block,
}

// A token's block.
fn token_block(token: u32, block: u32) -> Block {
    let row = min(token, state.n_tokens - 1u);
    return input_block((row * params.n_blocks + block) * 8u);
}

fn tile_block(first_token: u32, block: u32) -> Inputs {
    let b0 = token_block(first_token, block);
    let b1 = token_block(first_token + 1u, block);
    let b2 = token_block(first_token + 2u, block);
    let b3 = token_block(first_token + 3u, block);
    return Inputs(b0, b1, b2, b3);
}

// The products of one block of a row with the tokens'.
fn tile_dot(row: u32, block: u32, x: Inputs) -> vec4<f32> {
    let w = load_block(row, block, params.n_blocks);
    return vec4<f32>(block_dot(w, x.b0), block_dot(w, x.b1), block_dot(w, x.b2), block_dot(w, x.b3));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first_row = (workgroup.x * WORKGROUP + thread) * ROWS;
    // Known at run time only, so that drivers do not unroll the loops, which takes long to compile.
    let n_rows = min(ROWS, params.n_rows - min(first_row, params.n_rows));
    let first_token = workgroup.y * TOKENS;

    var sums: array<vec4<f32>, ROWS>;    // 4 tokens in a vector
#ifdef SWIGLU
    var up_sums: array<vec4<f32>, ROWS>;
#endif
    for (var block = 0u; block < params.n_blocks; block++) {
        let inputs = tile_block(first_token, block);
        for (var i = 0u; i < n_rows; i++) {
            let row = first_row + i;
            sums[i] += tile_dot(row, block, inputs);
#ifdef SWIGLU
            up_sums[i] += tile_dot(row + params.pair, block, inputs);
#endif
        }
    }

    for (var i = 0u; i < n_rows; i++) {
        let column = params.first_out + first_row + i;
#ifdef SWIGLU
        let up = up_sums[i];
#else
        let up = vec4<f32>();
#endif
        put(sums[i], up, column, first_token, 1u);
    }
}
