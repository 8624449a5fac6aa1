// What products of many rows with experts share: parameters, bindings, tiles, and what becomes of their sums.
//
// With SWIGLU the input of a choice is its token's, and matrices have gates, then ups; without it each choice has a row
// of its own.

#ifdef SWIGLU
#import "experts_gate.wgsl"
#endif

struct Params {
    n_out: u32,          // outputs of an expert
    n_blocks: u32,       // blocks of 32 columns
    first_expert: u32,   // of this page
    n_experts: u32,      // of this page
    limit: f32,          // of gates and ups
}

struct ExpertTile {
    expert: u32,
    first: u32,
    n_choices: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tiles: array<ExpertTile>;      // [n_tiles]
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;      // [n_experts, rows, row words]
@group(0) @binding(3) var<storage, read> scales: array<u32>;            // [n_experts, rows, row words]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;           // [n_tokens or choices, n_blocks · 8]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;         // [choices, n_out]
#ifdef BIAS
@group(0) @binding(6) var<storage, read> bias: array<f32>;              // [all experts, rows]
#endif
@group(0) @binding(7) var<storage, read> order: array<u32>;             // [choices]
@group(0) @binding(8) var<storage, read> routing: array<f32>;           // [n_tokens, 2 · N_USED]

var<workgroup> shared_tile: ExpertTile;

// A tile, for all threads of the workgroup, which call together.
fn load_tile(index: u32, thread: u32) -> ExpertTile {
    if (thread == 0u) {
        shared_tile = tiles[index];
    }
    return workgroupUniformLoad(&shared_tile);
}

// Where in `x` the input of a tile's choice `i` starts; of the last one beyond its end.
fn input_start(tile: ExpertTile, i: u32) -> u32 {
    let choice = order[tile.first + min(i, tile.n_choices - 1u)];
#ifdef SWIGLU
    let row = choice / N_USED;
#else
    let row = choice;
#endif
    return row * params.n_blocks * 8u;
}

// Writes output `column` of a choice. `up_sum` counts with SWIGLU.
fn put(sum: f32, up_sum: f32, expert: u32, choice: u32, column: u32) {
#ifdef SWIGLU
    let y = gated(sum, up_sum, expert, column);
#else
    var y = sum;
#ifdef BIAS
    y += bias[expert * params.n_out + column];
#endif
    y *= routing[(choice / N_USED * 2u + 1u) * N_USED + choice % N_USED];
#endif
    out[choice * params.n_out + column] = y;
}
