// Rows of input times a matrix: out[t, r] = then(x[t] · w[r] + bias[r]), for adapters whose threads are
// lanes of a CPU's vectors.
//
// Grid: (workgroups of ROWS · WORKGROUP rows, tiles of 4 · QUADS tokens). Each thread has ROWS rows (with
// SWIGLU gates and their ups) and sums for all tokens of the tile. Loads cost most there, since each lane loads
// by itself: nothing passes through workgroup memory, and with BROADCAST all threads load inputs together.
// Limits: columns are a multiple of 32.

#import "state.wgsl"
#import "block.wgsl"
#import "input.wgsl"
#import "product.wgsl"
#import "lane_tile.wgsl"

// A token's block.
fn token_block(token: u32, block: u32, thread: u32) -> Block {
    let row = min(token, state.n_tokens - 1u);
    return input_block(row * params.n_blocks * 8u, block, thread);
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

    var sums: array<Tile, ROWS>;
#ifdef SWIGLU
    var up_sums: array<Tile, ROWS>;
#endif
    for (var block = 0u; block < params.n_blocks; block++) {
        let inputs = Inputs(
#repeat q QUADS
#repeat t 4
            token_block(first_token + 4u * $qu + $tu, block, thread),
#end
#end
        );
        for (var i = 0u; i < n_rows; i++) {
            let row = first_row + i;
            sums[i] = add_products(sums[i], row, block, inputs);
#ifdef SWIGLU
            up_sums[i] = add_products(up_sums[i], row + params.pair, block, inputs);
#endif
        }
    }

    for (var i = 0u; i < n_rows; i++) {
        let column = params.first_out + first_row + i;
#ifdef SWIGLU
        let ups = up_sums[i];
#else
        let ups = Tile();
#endif
#repeat q QUADS
        put(sums[i].q$q, ups.q$q, column, first_token + 4u * $qu, 1u);
#end
    }
}
