// Adds the products of each token's experts to the residual stream: out[t] += Σ products[t, s].
//
// Grid: (words of a row / 64, tokens).

#import "state.wgsl"

struct Params {
    n_words: u32,   // vec4 words of a row
    n_used: u32,    // experts of a token
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> products: array<vec4<f32>>;       // [n_tokens, n_used, n_words]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;      // [n_tokens, n_words]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.n_words || id.y >= state.n_tokens) {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var slot = 0u; slot < params.n_used; slot++) {
        sum += products[(id.y * params.n_used + slot) * params.n_words + id.x];
    }
    out[id.y * params.n_words + id.x] += sum;
}
