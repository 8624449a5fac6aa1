// What becomes of the sums of products of many rows.
//
// The importing shader imports `state.wgsl` and `product.wgsl`.

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
