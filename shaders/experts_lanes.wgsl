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

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = load_tile(workgroup.y, thread);
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
    let starts = Starts(
#repeat q QUADS
#repeat t 4
        input_start(tile, 4u * $qu + $tu),
#end
#end
    );
    multiply(starts, first_row, n_rows, params.n_out, thread);

    for (var i = 0u; i < n_rows; i++) {
        let ups = ups_of(i);
#repeat q QUADS
        let n_$q = min(max(tile.n_choices, 4u * $qu) - 4u * $qu, 4u);
        for (var t = 0u; t < n_$q; t++) {
            let choice = order[tile.first + 4u * $qu + t];
            put(sums[i].q$q[t], ups.q$q[t], tile.expert, choice, first_out + i);
        }
#end
    }
}
