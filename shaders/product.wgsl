// What products with matrices share: parameters and bindings.
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
