// One row of input times a matrix: out[r] = then(norm(x) · w[r] + bias[r]).
//
// Grid: (workgroups of ROWS · WORKGROUP / LANES rows; folded into y above 65,535). LANES threads share
// ROWS rows and stride over their blocks; each weight is read once. With NORM the sum of squares is
// taken on the way and the factor applied to the product. The input is the chunk's last row. With STAGED
// the workgroup reads it once, into workgroup memory, and threads stride over units.
// Limits: columns are a multiple of 32; LANES divides WORKGROUP; STAGED_WORDS is a quarter of columns.

#import "state.wgsl"
#import "block.wgsl"
#import "lanes.wgsl"
#import "input.wgsl"
#import "product.wgsl"
#ifdef STAGED
#import "unit.wgsl"
#import "stage.wgsl"
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
#ifdef CODES_IN_SUBGROUP
    hold_magnitude(thread);
#endif
    let lane = lane_of(thread);
    let group = (workgroup.y * n_workgroups.x + workgroup.x) * (WORKGROUP / LANES) + thread / LANES;
    let first_row = group * ROWS;
    let x_start = (state.n_tokens - 1u) * params.n_blocks * 8u;

    var sums: array<f32, ROWS>;
#ifdef SWIGLU
    var up_sums: array<f32, ROWS>;
#endif
#ifdef STAGED
    let n_units = params.n_blocks * UNITS_A_BLOCK;
    stage(x_start, n_units, thread);
    for (var unit = lane; unit < n_units; unit += LANES) {
        let u = staged_unit(unit, n_units);
        let u_sum = unit_sum(u);
        for (var i = 0u; i < ROWS; i++) {
            let row = min(first_row + i, params.n_rows - 1u);
            sums[i] += unit_dot(row, unit, params.n_blocks, u, u_sum);
#ifdef SWIGLU
            up_sums[i] += unit_dot(row + params.pair, unit, params.n_blocks, u, u_sum);
#endif
        }
    }
#else
    for (var block = lane * BLOCKS_A_TURN; block < params.n_blocks; block += LANES * BLOCKS_A_TURN) {
        let turn = input_turn(x_start, block, thread);
        for (var i = 0u; i < ROWS; i++) {
            let row = min(first_row + i, params.n_rows - 1u);
            sums[i] += turn_dot(row, block, params.n_blocks, turn);
#ifdef SWIGLU
            up_sums[i] += turn_dot(row + params.pair, block, params.n_blocks, turn);
#endif
        }
    }
#endif

    let factor = norm_factor(thread);
    for (var i = 0u; i < ROWS; i++) {
        var y = sum_lanes(sums[i], thread) * factor;
        let row = first_row + i;
#ifdef SWIGLU
        var up = sum_lanes(up_sums[i], thread) * factor;
#endif
        if (lane == 0u && row < params.n_rows) {
            let at = params.first_out + row;
#ifdef BIAS
            y += bias[at];
#endif
#ifdef SWIGLU
#ifdef BIAS
            up += bias[params.n_out + at];
#endif
            out[at] = y / (1.0 + exp(-y)) * up;
#else
#ifdef ADD
            out[at] += y;
#else
            out[at] = y;
#endif
#endif
        }
    }
}
