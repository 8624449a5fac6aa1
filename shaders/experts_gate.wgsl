// What becomes of the products of an expert with a gate and its up: g · sigmoid(1.702 g) · (u + 1), limited.
//
// `params`, and with BIAS `bias`, are declared by the importing shader.

fn gated(gate_sum: f32, up_sum: f32, expert: u32, column: u32) -> f32 {
    var gate = gate_sum;
    var up = up_sum;
#ifdef BIAS
    let at = expert * 2u * params.n_out + column;
    gate += bias[at];
    up += bias[at + params.n_out];
#endif
    gate = min(gate, params.limit);
    up = clamp(up, -params.limit, params.limit);
    return gate / (1.0 + exp(-1.702 * gate)) * (up + 1.0);
}
