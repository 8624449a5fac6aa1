// Rows of the embedding table: out[t] = table[tokens[t]].
//
// Grid: (blocks of 32 columns / 64, tokens). Each thread decodes one block. A page holds some of the
// table's rows; tokens of other pages are left to those pages' dispatches.

#import "state.wgsl"
#import "block.wgsl"

struct Params {
    n_rows: u32,      // rows of this page
    n_blocks: u32,    // blocks of 32 columns
    first_row: u32,   // token id of this page's first row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;      // [n_rows, row words]
@group(0) @binding(3) var<storage, read> scales: array<u32>;            // [n_rows, row words]
@group(0) @binding(4) var<storage, read> tokens: array<u32>;            // [n_tokens]
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;   // [n_tokens, n_blocks · 8]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let block = id.x;
    let token_idx = id.y;
    if (block >= params.n_blocks || token_idx >= state.n_tokens) {
        return;
    }
    let token = tokens[token_idx];
    if (token < params.first_row || token - params.first_row >= params.n_rows) {
        return;
    }
    let b = load_block(token - params.first_row, block, params.n_blocks);
    let at = (token_idx * params.n_blocks + block) * 8u;
    out[at] = b.v0;
    out[at + 1u] = b.v1;
    out[at + 2u] = b.v2;
    out[at + 3u] = b.v3;
    out[at + 4u] = b.v4;
    out[at + 5u] = b.v5;
    out[at + 6u] = b.v6;
    out[at + 7u] = b.v7;
}
