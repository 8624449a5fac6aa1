// RMSNorm of each token: out = x · gain / √(mean(x²) + eps).
//
// Grid: (tokens). A workgroup of 64 threads strides over one row.

#import "lanes.wgsl"

struct Params {
    n_words: u32,   // vec4 words of a row
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // [n_tokens, n_words]
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;        // [n_words]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;   // [n_tokens, n_words]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = workgroup.x * params.n_words;
    var squares = 0.0;
    for (var i = thread; i < params.n_words; i += WORKGROUP) {
        squares += dot(x[start + i], x[start + i]);
    }
    let mean_square = sum_lanes(squares, thread) / f32(params.n_words * 4u);
    let factor = inverseSqrt(mean_square + params.eps);
    for (var i = thread; i < params.n_words; i += WORKGROUP) {
        out[start + i] = x[start + i] * factor * gain[i];
    }
}
