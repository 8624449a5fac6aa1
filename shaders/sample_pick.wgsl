// Second half of sampling: cuts, the draw, and the step to the next token.
//
// Grid: one workgroup of 256 threads. A cut looks for the lowest scaled logit that stays: logits become
// keys that sort like them, and a histogram over 8 bits of the key at a time narrows down the key at
// which the count (top-k) or the probability (top-p, in units of 2⁻³¹) is reached. Ties stay. Among the
// candidates the largest sum of scaled logit and Gumbel noise wins. The token goes where the next
// step's embedding reads it.

#import "state.wgsl"
#import "sampling.wgsl"

struct Drawn {
    token: u32,
    logprob: f32,
}

@group(0) @binding(0) var<uniform> settings: Settings;
@group(0) @binding(1) var<storage, read_write> state: State;
@group(0) @binding(2) var<storage, read> logits: array<f32>;             // [n_vocab]
@group(0) @binding(3) var<storage, read_write> counts: array<u32>;       // [n_vocab]
@group(0) @binding(4) var<storage, read> scaled: array<f32>;             // [n_vocab]
@group(0) @binding(5) var<storage, read> partials: array<Partial>;       // [shares]
@group(0) @binding(6) var<storage, read_write> tokens: array<u32>;       // [n_tokens]
@group(0) @binding(7) var<storage, read_write> drawn: array<Drawn>;      // [slots]

var<workgroup> shared_partials: array<Partial, 256>;
var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> sums: array<f32, 256>;
var<workgroup> found: vec2<u32>;

// A number that is larger for a larger float.
fn key_of(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn mix(value: u32) -> u32 {
    var x = value;
    x ^= x >> 16u;
    x *= 0x7feb352du;
    x ^= x >> 15u;
    x *= 0x846ca68bu;
    return x ^ (x >> 16u);
}

fn gumbel(key: u32, token: u32) -> f32 {
    // One minus a number drawn evenly, exact and neither 0 nor 1: a multiple of 2⁻²⁴.
    let rest = (f32(~mix(key ^ mix(token)) >> 9u) + 0.5) * 1.1920928955078125e-7;
    // The logarithm of a number near 1 may be off by 2⁻²¹, more than all that it is: a series is not.
    let series = rest * (1.0 + rest * (0.5 + rest / 3.0));
    return -log(select(-log(1.0 - rest), series, rest < 0.015625));
}

// The largest key at which the weights of all tokens with at least that key reach `target_weight`.
// Tokens below `lowest` weigh nothing; others weigh 1, or their probability where `by_mass` is set.
fn key_at(target_weight: u32, by_mass: bool, lowest: u32, best: f32, unit: f32, thread: u32) -> u32 {
    var prefix = 0u;
    var above = 0u;      // weight of keys above all that share the prefix
    for (var shift = 24u; ; shift -= 8u) {
        atomicStore(&histogram[thread], 0u);
        workgroupBarrier();
        for (var token = thread; token < settings.n_vocab; token += 256u) {
            let key = key_of(scaled[token]);
            // Shifting by 32 is not defined: the first round has no prefix.
            let in_prefix = shift == 24u || (key >> ((shift + 8u) % 32u)) == (prefix >> ((shift + 8u) % 32u));
            if (key >= lowest && in_prefix) {
                let weight = select(1u, u32(exp(scaled[token] - best) * unit + 0.5), by_mass);
                atomicAdd(&histogram[(key >> shift) & 255u], weight);
            }
        }
        workgroupBarrier();
        if (thread == 0u) {
            var bin = 255u;
            var reached = above;
            loop {
                let next = reached + atomicLoad(&histogram[bin]);
                if (next >= target_weight || bin == 0u) {
                    break;
                }
                reached = next;
                bin -= 1u;
            }
            found = vec2<u32>(prefix | (bin << shift), reached);
        }
        let narrowed = workgroupUniformLoad(&found);
        prefix = narrowed.x;
        above = narrowed.y;
        if (shift == 0u) {
            break;
        }
    }
    return prefix;
}

// Sum of exp(scaled − best) over tokens with at least the key `lowest`.
fn mass(lowest: u32, best: f32, thread: u32) -> f32 {
    var sum = 0.0;
    for (var token = thread; token < settings.n_vocab; token += 256u) {
        if (key_of(scaled[token]) >= lowest) {
            sum += exp(scaled[token] - best);
        }
    }
    sums[thread] = sum;
    for (var offset = 128u; offset > 0u; offset /= 2u) {
        workgroupBarrier();
        if (thread < offset) {
            sums[thread] += sums[thread + offset];
        }
    }
    return workgroupUniformLoad(&sums[0]);
}

fn join_shared(thread: u32) -> Partial {
    for (var offset = 128u; offset > 0u; offset /= 2u) {
        workgroupBarrier();
        if (thread < offset) {
            shared_partials[thread] =
                joined(shared_partials[thread], shared_partials[thread + offset]);
        }
    }
    return workgroupUniformLoad(&shared_partials[0]);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var p = Partial(LOWEST, 0.0, LOWEST, 0xffffffffu);
    for (var i = thread; i < arrayLength(&partials); i += 256u) {
        p = joined(p, partials[i]);
    }
    shared_partials[thread] = p;
    let all = join_shared(thread);
    var token = all.best_token;

    if (settings.greedy == 0u) {
        var lowest = 0u;
        if (settings.top_k > 0u && settings.top_k < settings.n_vocab) {
            lowest = key_at(settings.top_k, false, 0u, 0.0, 0.0, thread);
        }
        if (settings.top_p < 1.0) {
            let unit = 2147483648.0 / mass(lowest, all.best, thread);
            let target_mass = u32(settings.top_p * 2147483648.0);
            lowest = max(lowest, key_at(target_mass, true, lowest, all.best, unit, thread));
        }
        lowest = max(lowest, key_of(all.best + settings.log_min_p));

        let key = mix(mix(settings.seed_low) ^ settings.seed_high) + state.step;
        var draw = Partial(LOWEST, 0.0, LOWEST, 0xffffffffu);
        for (var candidate = thread; candidate < settings.n_vocab; candidate += 256u) {
            if (key_of(scaled[candidate]) >= lowest) {
                let value = scaled[candidate] + gumbel(mix(key), candidate);
                if (value > draw.best) {
                    draw.best = value;
                    draw.best_token = candidate;
                }
            }
        }
        workgroupBarrier();
        shared_partials[thread] = draw;
        token = join_shared(thread).best_token;
    }

    if (thread == 0u) {
        token = min(token, settings.n_vocab - 1u);
        counts[token] += 1u;
        drawn[state.slot] = Drawn(token, logits[token] - all.largest - log(all.sum));
        tokens[0] = token;
        state.position += state.n_tokens;
        state.n_tokens = 1u;
        state.step += 1u;
        state.slot += 1u;
    }
}
