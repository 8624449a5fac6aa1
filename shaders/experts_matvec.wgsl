// One row of input times the matrices of its token's experts.
//
// With SWIGLU the input is one row for all experts and matrices have gates, then ups:
// out[s, r] = g · sigmoid(1.702 g) · (u + 1), limited, for the expert in each slot s of N_USED.
// Grid: (slots, workgroups of ROWS · WORKGROUP / LANES outputs): slots come first, since a page may have the
// experts of one and not of another, and software adapters give each core a part of the grid.
// Without it, each slot has its own row: out[r] += Σ weight[s] · (x[s] · w[expert of s, r] + bias).
// Grid: (1, workgroups of as many outputs).
// Experts of other pages are left to those pages' dispatches. LANES threads share ROWS rows and stride
// over their blocks; each weight is read once. With NORM the sum of squares is taken on the way and the
// factor applied to the product. With ROUTE the experts are those of the logits, and are written down
// for the second product. With STAGED the workgroup reads
// the input once, into workgroup memory, and threads stride over units. With INTERLEAVED what passes
// from the first kind of product to the second has the first vectors of all blocks, then their second
// ones, and so on, so that reads of neighbours are one.
// With QUADS threads take four blocks of each row at a time (block.wgsl).
// Limits: columns are a multiple of 32; LANES divides WORKGROUP.

#import "block.wgsl"
#import "lanes.wgsl"
#import "input.wgsl"
#ifdef SWIGLU
#import "experts_gate.wgsl"
#endif
#ifdef ROUTE
#import "choose.wgsl"
#endif
#ifdef STAGED
#import "unit.wgsl"
#import "stage.wgsl"
#endif

struct Params {
    n_out: u32,          // outputs of an expert
    n_blocks: u32,       // blocks of 32 columns
    first_expert: u32,   // of this page
    n_experts: u32,      // of this page
    limit: f32,          // of gates and ups
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;      // [n_experts, rows, row words]
@group(0) @binding(3) var<storage, read> scales: array<u32>;            // [n_experts, rows, row words]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;           // [slots or 1, n_blocks · 8]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;         // [slots or 1, n_out]
#ifdef ROUTE
@group(0) @binding(1) var<storage, read> logits: array<f32>;            // [N_EXPERTS]
@group(0) @binding(8) var<storage, read_write> routing: array<f32>;     // [2 · N_USED]
#else
@group(0) @binding(8) var<storage, read> routing: array<f32>;           // [2 · N_USED]
#endif
#ifdef BIAS
@group(0) @binding(6) var<storage, read> bias: array<f32>;              // [all experts, rows]
#endif
#ifdef NORM
@group(0) @binding(7) var<storage, read> gain: array<vec4<f32>>;        // [n_blocks · 8]
#endif

#ifdef INTERLEAVED
#ifdef SWIGLU
// Where an output stands.
fn place(column: u32) -> u32 {
    return (column % 32u / 4u * (params.n_out / 32u) + column / 32u) * 4u + column % 4u;
}
#else
fn interleaved_block(start: u32, block: u32) -> Block {
    let n = params.n_blocks;
    let at = start + block;
    return Block(x[at], x[at + n], x[at + 2u * n], x[at + 3u * n],
        x[at + 4u * n], x[at + 5u * n], x[at + 6u * n], x[at + 7u * n]);
}
#endif
#else
#ifdef SWIGLU
fn place(column: u32) -> u32 {
    return column;
}
#endif
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
#ifdef CODES_IN_SUBGROUP
    hold_magnitude(thread);
#endif
    let lane = lane_of(thread);
    let first_out = (workgroup.y * (WORKGROUP / LANES) + thread / LANES) * ROWS;

#ifdef SWIGLU
#ifdef ROUTE
    choose(0u, thread);
    let expert = chosen[workgroup.x];
    if (workgroup.x == 0u && workgroup.y == 0u) {
        for (var slot = thread; slot < N_USED; slot += WORKGROUP) {
            routing[slot] = f32(chosen[slot]);
            routing[slot + N_USED] = chosen_weight(0u, slot);
        }
    }
#else
    let expert = u32(routing[workgroup.x]);
#endif
    let is_here = expert - params.first_expert < params.n_experts;
    let first_row = (expert - params.first_expert) * 2u * params.n_out;
    var gates: array<f32, ROWS>;
    var ups: array<f32, ROWS>;
#ifdef STAGED
    let n_units = params.n_blocks * UNITS_A_BLOCK;
    stage(0u, n_units, thread);
    let end = select(0u, n_units, is_here);
    for (var unit = lane; unit < end; unit += LANES) {
        let u = staged_unit(unit, n_units);
        let u_sum = unit_sum(u);
        for (var i = 0u; i < ROWS; i++) {
            let row = first_row + min(first_out + i, params.n_out - 1u);
            gates[i] += unit_dot(row, unit, params.n_blocks, u, u_sum);
            ups[i] += unit_dot(row + params.n_out, unit, params.n_blocks, u, u_sum);
        }
    }
#else
    if (is_here) {
        for (var block = lane * BLOCKS_A_TURN; block < params.n_blocks; block += LANES * BLOCKS_A_TURN) {
            let turn = input_turn(0u, block, thread);
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + min(first_out + i, params.n_out - 1u);
                gates[i] += turn_dot(row, block, params.n_blocks, turn);
                ups[i] += turn_dot(row + params.n_out, block, params.n_blocks, turn);
            }
        }
    }
#endif
    let factor = norm_factor(thread);
    for (var i = 0u; i < ROWS; i++) {
        let gate = sum_lanes(gates[i], thread) * factor;
        let up = sum_lanes(ups[i], thread) * factor;
        let column = first_out + i;
        if (is_here && lane == 0u && column < params.n_out) {
            out[workgroup.x * params.n_out + place(column)] = gated(gate, up, expert, column);
        }
    }
#else
    var sums: array<f32, ROWS>;
#ifdef INTERLEAVED
    // Blocks of all slots are one sequence, so that threads have an equal share of it.
    for (var i = lane; i < N_USED * params.n_blocks; i += LANES) {
        let slot = i / params.n_blocks;
        let block = i % params.n_blocks;
        let expert = u32(routing[slot]) - params.first_expert;
        if (expert < params.n_experts) {
            let weight = routing[N_USED + slot];
            let b = arranged(interleaved_block(slot * params.n_blocks * 8u, block));
            let b_sum = block_sum(b);
            for (var j = 0u; j < ROWS; j++) {
                let row = expert * params.n_out + min(first_out + j, params.n_out - 1u);
                sums[j] += weight * dot_with(row, block, params.n_blocks, b, b_sum);
            }
        }
    }
#endif
    for (var slot = 0u; slot < N_USED; slot++) {
        let expert = u32(routing[slot]);
        let is_here = expert - params.first_expert < params.n_experts;
        let weight = routing[N_USED + slot];
#ifdef INTERLEAVED
#else
        let first_row = (expert - params.first_expert) * params.n_out;
        let x_start = slot * params.n_blocks * 8u;
        let end = select(0u, params.n_blocks, is_here);
        for (var block = lane * BLOCKS_A_TURN; block < end; block += LANES * BLOCKS_A_TURN) {
            let turn = input_turn(x_start, block, thread);
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + min(first_out + i, params.n_out - 1u);
                sums[i] += weight * turn_dot(row, block, params.n_blocks, turn);
            }
        }
#endif
#ifdef BIAS
        if (is_here && lane == 0u) {
            for (var i = 0u; i < ROWS; i++) {
                let column = min(first_out + i, params.n_out - 1u);
                sums[i] += weight * bias[expert * params.n_out + column];
            }
        }
#endif
    }
    for (var i = 0u; i < ROWS; i++) {
        let y = sum_lanes(sums[i], thread);
        if (lane == 0u && first_out + i < params.n_out) {
            out[first_out + i] += y;
        }
    }
#endif
}
