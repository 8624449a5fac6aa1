// What products of many rows share: parameters, bindings, and what becomes of their sums.
//
// The importing shader imports `state.wgsl`.

struct Params {
    n_rows: u32,      // outputs of this page
    n_blocks: u32,    // blocks of 32 columns
    first_out: u32,   // index of this page's first output
    pair: u32,        // rows from a gate to its up
    n_out: u32,       // outputs of the whole matrix
    eps: f32,         // of RMSNorm
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
#ifdef NORM
@group(0) @binding(7) var<storage, read> gain: array<vec4<f32>>;        // [n_blocks · 8]
#endif

// Writes the outputs `column` of four tokens, `step` apart from `first_token`. `up_sums` count with SWIGLU.
fn put(sums: vec4<f32>, up_sums: vec4<f32>, column: u32, first_token: u32, step: u32) {
    var y = sums;
#ifdef BIAS
    y += bias[column];
#endif
#ifdef SWIGLU
    var up = up_sums;
#ifdef BIAS
    up += bias[params.n_out + column];
#endif
    y = y / (1.0 + exp(-y)) * up;
#endif
    for (var j = 0u; j < 4u; j++) {
        let token = first_token + j * step;
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
