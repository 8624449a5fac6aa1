// First half of sampling: penalties, biases, masks and temperature, and what must be known of all logits.
//
// Grid: (shares of the vocabulary). Each workgroup of 256 threads takes successive tokens.

#import "sampling.wgsl"

@group(0) @binding(0) var<uniform> settings: Settings;
@group(0) @binding(1) var<storage, read> logits: array<f32>;               // [n_vocab]
@group(0) @binding(2) var<storage, read> counts: array<u32>;               // [n_vocab], see IN_PROMPT
@group(0) @binding(3) var<storage, read_write> scaled: array<f32>;         // [n_vocab]
@group(0) @binding(4) var<storage, read_write> partials: array<Partial>;   // [shares]
@group(0) @binding(5) var<storage, read> biases: array<f32>;               // [n_vocab]
@group(0) @binding(6) var<storage, read> mask: array<u32>;                 // a bit a token, the lowest first

var<workgroup> shared_partials: array<Partial, 256>;

fn penalized(logit: f32, count: u32) -> f32 {
    if (count == 0u) {
        return logit;
    }
    let repeated = select(
        logit * settings.repetition_penalty,
        logit / settings.repetition_penalty,
        logit > 0.0,
    );
    let n = count & ~IN_PROMPT;
    if (n == 0u) {
        return repeated;
    }
    return repeated - settings.presence_penalty - settings.frequency_penalty * f32(n);
}

fn scaled_logit(token: u32, logit: f32) -> f32 {
    if (settings.masked != 0u && ((mask[token / 32u] >> (token % 32u)) & 1u) == 0u) {
        return LOWEST;
    }
    var value = penalized(logit, counts[token]);
    if (settings.biased != 0u) {
        let bias = biases[token];
        if (bias == EXCLUDED) {
            return LOWEST;
        }
        value += bias;
    }
    return value * settings.inverse_temperature;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let share = (settings.n_vocab + n_workgroups.x - 1u) / n_workgroups.x;
    let end = min((workgroup.x + 1u) * share, settings.n_vocab);
    var p = Partial(LOWEST, 0.0, LOWEST, 0xffffffffu);
    for (var token = workgroup.x * share + thread; token < end; token += 256u) {
        let logit = logits[token];
        if (logit > p.largest) {
            p.sum = p.sum * exp(p.largest - logit) + 1.0;
            p.largest = logit;
        } else {
            p.sum += exp(logit - p.largest);
        }
        let value = scaled_logit(token, logit);
        scaled[token] = value;
        if (value > p.best || p.best_token == 0xffffffffu) {
            p.best = value;
            p.best_token = token;
        }
    }
    shared_partials[thread] = p;
    for (var offset = 128u; offset > 0u; offset /= 2u) {
        workgroupBarrier();
        if (thread < offset) {
            shared_partials[thread] =
                joined(shared_partials[thread], shared_partials[thread + offset]);
        }
    }
    if (thread == 0u) {
        partials[workgroup.x] = shared_partials[0];
    }
}
