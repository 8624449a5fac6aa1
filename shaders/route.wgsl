// The experts of each token and their weights, see choose.wgsl.
//
// Grid: (tokens).
// Limits: N_USED choices fit workgroup memory.

#import "state.wgsl"
#import "choose.wgsl"

@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> logits: array<f32>;            // [n_tokens, N_EXPERTS]
@group(0) @binding(3) var<storage, read_write> routing: array<f32>;     // [n_tokens, 2 · N_USED]

const WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // Outside of the chunk there is nothing to write, but barriers want all threads.
    let token = min(workgroup.x, state.n_tokens - 1u);
    let first = token * N_EXPERTS;
    choose(first, thread);
    for (var slot = thread; slot < N_USED; slot += WORKGROUP) {
        let at = token * 2u * N_USED + slot;
        routing[at] = f32(chosen[slot]);
        routing[at + N_USED] = chosen_weight(first, slot);
    }
}
