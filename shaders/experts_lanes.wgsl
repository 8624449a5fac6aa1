// Many rows of input times the matrices of their tokens' experts, tile by tile of one expert's choices: as
// experts_matmul.wgsl, for adapters whose threads are lanes of a CPU's vectors, and as matmul_lanes.wgsl.
//
// Grid: (workgroups of ROWS · WORKGROUP outputs, tiles of 4 · QUADS choices), as experts_group counted. Experts of other
// pages are left to those pages' dispatches. Each thread has ROWS outputs (with SWIGLU gates and their ups) and sums for
// all choices of the tile.
// Limits: columns are a multiple of 32.

#import "block.wgsl"
#import "input.wgsl"
#import "experts_tile.wgsl"
#import "lane_tile.wgsl"

var<workgroup> shared_tile: ExpertTile;

// Where the input of a choice of the tile starts.
fn input_start(tile: ExpertTile, i: u32) -> u32 {
    let choice = order[tile.first + min(i, tile.n_choices - 1u)];
    return row_of(choice) * params.n_blocks * 8u;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (thread == 0u) {
        shared_tile = tiles[workgroup.y];
    }
    let tile = workgroupUniformLoad(&shared_tile);
    let expert = tile.expert - params.first_expert;
    if (expert >= params.n_experts) {
        return;
    }
    let first_out = (workgroup.x * WORKGROUP + thread) * ROWS;
    // Known at run time only, so that drivers do not unroll the loops, which takes long to compile.
    let n_rows = min(ROWS, params.n_out - min(first_out, params.n_out));
#ifdef SWIGLU
    let first_row = expert * 2u * params.n_out + first_out;
#else
    let first_row = expert * params.n_out + first_out;
#endif
#repeat q QUADS
#repeat t 4
    let start_$q_$t = input_start(tile, 4u * $qu + $tu);
#end
#end

    var sums: array<Tile, ROWS>;
#ifdef SWIGLU
    var up_sums: array<Tile, ROWS>;
#endif
    for (var block = 0u; block < params.n_blocks; block++) {
        let inputs = Inputs(
#repeat q QUADS
#repeat t 4
            input_block(start_$q_$t, block, thread),
#end
#end
        );
        for (var i = 0u; i < n_rows; i++) {
            let row = first_row + i;
            sums[i] = add_products(sums[i], row, block, inputs);
#ifdef SWIGLU
            up_sums[i] = add_products(up_sums[i], row + params.n_out, block, inputs);
#endif
        }
    }

    for (var i = 0u; i < n_rows; i++) {
#ifdef SWIGLU
        let ups = up_sums[i];
#else
        let ups = Tile();
#endif
#repeat q QUADS
        let n_$q = min(max(tile.n_choices, 4u * $qu) - 4u * $qu, 4u);
        for (var t = 0u; t < n_$q; t++) {
            let choice = order[tile.first + 4u * $qu + t];
            put(sums[i].q$q[t], ups.q$q[t], tile.expert, choice, first_out + i);
        }
#end
    }
}
