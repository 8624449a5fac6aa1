// Rows of input times a matrix: out[t, r] = then(norm(x[t]) · w[r] + bias[r]), for adapters whose threads are
// lanes of a CPU's vectors.
//
// Grid: (workgroups of ROWS · WORKGROUP rows, tiles of 4 · QUADS tokens). Each thread has ROWS rows (with
// SWIGLU gates and their ups) and sums for all tokens of the tile. Loads cost most there, since each lane loads
// by itself: nothing passes through workgroup memory, and with BROADCAST all threads load inputs together.
// Limits: columns are a multiple of 32.

#import "state.wgsl"
#import "block.wgsl"
#import "lanes.wgsl"
#import "input.wgsl"
#import "product.wgsl"
#import "product_rows.wgsl"
#import "lane_tile.wgsl"

// Where a token's input starts.
fn input_start(token: u32) -> u32 {
    return min(token, state.n_tokens - 1u) * params.n_blocks * 8u;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first_row = (workgroup.x * WORKGROUP + thread) * ROWS;
    // Known at run time only, so that drivers do not unroll the loops, which takes long to compile.
    let n_rows = min(ROWS, params.n_rows - min(first_row, params.n_rows));
    let first_token = workgroup.y * 4u * QUADS;

    let starts = Starts(
#repeat q QUADS
#repeat t 4
        input_start(first_token + 4u * $qu + $tu),
#end
#end
    );
    multiply(starts, first_row, n_rows, params.pair, thread);

    let norms = factors(thread);
    for (var i = 0u; i < n_rows; i++) {
        let column = params.first_out + first_row + i;
        let ups = ups_of(i);
#repeat q QUADS
        put(sums[i].q$q * norms.q$q, ups.q$q * norms.q$q, column, first_token + 4u * $qu, 1u);
#end
    }
}
