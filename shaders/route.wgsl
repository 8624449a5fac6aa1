// The experts of each token: those of the N_USED largest logits, weighted by a softmax over these.
//
// Grid: (tokens). A workgroup of 64 threads looks for the largest logit that is not chosen yet, N_USED
// times; the lowest index among equals is taken.
// Limits: 64 and N_USED choices fit workgroup memory.

#import "state.wgsl"

struct Params {
    n_experts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> logits: array<f32>;            // [n_tokens, n_experts]
@group(0) @binding(3) var<storage, read_write> routing: array<f32>;     // [n_tokens, 2 · N_USED]

struct Choice {
    logit: f32,
    expert: u32,
}

const NONE: Choice = Choice(-3.4e38, 0xffffffffu);

var<workgroup> candidates: array<Choice, 64>;
var<workgroup> chosen: array<Choice, N_USED>;

fn better(a: Choice, b: Choice) -> Choice {
    if (b.logit > a.logit || (b.logit == a.logit && b.expert < a.expert)) {
        return b;
    }
    return a;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // Outside of the chunk there is nothing to write, but barriers want all threads.
    let token = min(workgroup.x, state.n_tokens - 1u);
    for (var slot = 0u; slot < N_USED; slot++) {
        var best = NONE;
        for (var expert = thread; expert < params.n_experts; expert += 64u) {
            var is_left = true;
            for (var i = 0u; i < slot; i++) {
                is_left = is_left && chosen[i].expert != expert;
            }
            if (is_left) {
                best = better(best, Choice(logits[token * params.n_experts + expert], expert));
            }
        }
        candidates[thread] = best;
        for (var offset = 32u; offset > 0u; offset /= 2u) {
            workgroupBarrier();
            if (thread < offset) {
                candidates[thread] = better(candidates[thread], candidates[thread + offset]);
            }
        }
        if (thread == 0u) {
            // Numbers that are none leave the search empty-handed; any expert is as good then.
            chosen[slot] = Choice(candidates[0].logit, min(candidates[0].expert, params.n_experts - 1u));
        }
        workgroupBarrier();
    }
    let largest = chosen[0].logit;
    var sum = 0.0;
    for (var i = 0u; i < N_USED; i++) {
        sum += exp(chosen[i].logit - largest);
    }
    for (var slot = thread; slot < N_USED; slot += 64u) {
        let at = token * 2u * N_USED + slot;
        routing[at] = f32(chosen[slot].expert);
        routing[at + N_USED] = exp(chosen[slot].logit - largest) / sum;
    }
}
