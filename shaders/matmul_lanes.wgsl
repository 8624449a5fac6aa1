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

struct Params {
    n_rows: u32,      // outputs of this page
    n_blocks: u32,    // blocks of 32 columns
    first_out: u32,   // index of this page's first output
    pair: u32,        // rows from a gate to its up
    n_out: u32,       // outputs of the whole matrix
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;      // [n_rows, row words]
@group(0) @binding(3) var<storage, read> scales: array<u32>;            // [n_rows, row words]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;           // [n_tokens, n_blocks · 8]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;         // [n_tokens, n_out]
#ifdef BIAS
@group(0) @binding(6) var<storage, read> bias: array<f32>;              // [n_out], gates then ups
#endif

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
        var y = sums[i];
#ifdef BIAS
        y += bias[column];
#endif
#ifdef SWIGLU
        var up = up_sums[i];
#ifdef BIAS
        up += bias[params.n_out + column];
#endif
        y = y / (1.0 + exp(-y)) * up;
#endif
        for (var j = 0u; j < TOKENS; j++) {
            let token = first_token + j;
            if (token < state.n_tokens) {
                let at = token * params.n_out + column;
#ifdef ADD
                out[at] += y[j];
#else
                out[at] = y[j];
#endif
            }
        }
    }
}
