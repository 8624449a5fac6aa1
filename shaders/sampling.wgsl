// What both sampling shaders share: settings, and the partial results between them.

struct Settings {
    inverse_temperature: f32,
    top_p: f32,
    log_min_p: f32,             // −∞ as a very small number when unused
    repetition_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    top_k: u32,                 // 0 when unused
    greedy: u32,
    seed_low: u32,
    seed_high: u32,
    n_vocab: u32,
    biased: u32,                // whether any token has a bias
    n_top: u32,                 // likeliest tokens to report, at most MAX_TOP
    masked: u32,                // whether the mask says which tokens may be drawn
}

// Of one workgroup's share of the vocabulary.
struct Partial {
    largest: f32,          // raw logit
    sum: f32,              // of exp(raw − largest)
    best: f32,             // scaled logit
    best_token: u32,       // the first that has it
}

const LOWEST: f32 = -3.0e38;
const EXCLUDED: f32 = -100.0;      // the bias that takes a token out
const MAX_TOP: u32 = 20u;
const IN_PROMPT: u32 = 0x80000000u;

fn joined(a: Partial, b: Partial) -> Partial {
    let largest = max(a.largest, b.largest);
    let sum = a.sum * exp(a.largest - largest) + b.sum * exp(b.largest - largest);
    if (b.best > a.best || (b.best == a.best && b.best_token < a.best_token)) {
        return Partial(largest, sum, b.best, b.best_token);
    }
    return Partial(largest, sum, a.best, a.best_token);
}
