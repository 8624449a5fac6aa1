//! Logits → token: the parameters of sampling and the randomness behind it.
//!
//! Order: penalties, biases, masks, temperature, top-k, top-p over what top-k left, min-p; then one draw. Ties at a
//! threshold are kept, so no cut depends on the order of equal logits. The draw is the Gumbel-max
//! trick: each candidate's logit plus independent noise from a hash of seed, step and token, and the
//! largest wins; so the GPU draws in parallel, and the same seed gives the same tokens.

use crate::error::{Error, Result};

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides logits; 0 takes the likeliest token (the lowest id among equals).
    pub temperature: f32,
    /// Candidates are the `top_k` likeliest tokens; 0 means all.
    pub top_k: u32,
    /// Candidates are the likeliest tokens that together reach this probability; 1 means all.
    pub top_p: f32,
    /// Candidates have at least this fraction of the likeliest token's probability; 0 means all.
    pub min_p: f32,
    /// Positive logits of tokens in the prompt or the answer are divided by this, negative ones
    /// multiplied (arXiv:1909.05858); 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each time it was generated.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of every token that was generated.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens, from -100 to 100; [`EXCLUDED`] takes a token out
    /// altogether. The last one counts where a token is named twice.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the likeliest tokens are reported with each drawn one, at most [`MAX_TOP`].
    pub top_logprobs: u32,
    /// The same seed and settings give the same tokens on the same device.
    pub seed: u64,
}

impl Default for SamplingParams {
    /// Greedy.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            top_logprobs: 0,
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// Checks every number's range, for a model with `n_vocab` tokens.
    ///
    /// # Errors
    /// `invalid_argument` naming the parameter, what was found and what is expected.
    pub fn validate(&self, n_vocab: usize) -> Result<()> {
        let check = |name: &'static str, value: f32, valid: bool, expected: &'static str| {
            if valid {
                return Ok(());
            }
            Err(Error::argument("sampling parameter out of range")
                .with("parameter", name)
                .with("expected", expected)
                .with("found", value.to_string()))
        };
        let (temperature, top_p, min_p) = (self.temperature, self.top_p, self.min_p);
        let (repetition, frequency, presence) =
            (self.repetition_penalty, self.frequency_penalty, self.presence_penalty);
        check("temperature", temperature, (0.0..=100.0).contains(&temperature), "0 to 100")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0, at most 1")?;
        check("min_p", min_p, (0.0..1.0).contains(&min_p), "0 to below 1")?;
        check(
            "repetition_penalty",
            repetition,
            repetition > 0.0 && repetition <= 100.0,
            "above 0, at most 100",
        )?;
        check(
            "frequency_penalty",
            frequency,
            (-100.0..=100.0).contains(&frequency),
            "-100 to 100",
        )?;
        check("presence_penalty", presence, (-100.0..=100.0).contains(&presence), "-100 to 100")?;
        if self.top_logprobs > MAX_TOP {
            return Err(Error::argument("sampling parameter out of range")
                .with("parameter", "top_logprobs")
                .with("limit", MAX_TOP)
                .with("found", self.top_logprobs));
        }
        for &(token, bias) in &self.logit_bias {
            if token as usize >= n_vocab {
                return Err(Error::argument("token id is not in the vocabulary")
                    .with("parameter", "logit_bias")
                    .with("found", token)
                    .with("limit", n_vocab));
            }
            check("logit_bias", bias, (EXCLUDED..=100.0).contains(&bias), "-100 to 100")?;
        }
        if self.logit_bias.len() >= n_vocab && self.biases(n_vocab).iter().all(is_excluded) {
            return Err(Error::argument("every token is excluded")
                .with("parameter", "logit_bias")
                .with("found", n_vocab));
        }
        Ok(())
    }

    /// What is added to the logit of each token; empty where nothing is.
    pub fn biases(&self, n_vocab: usize) -> Vec<f32> {
        if self.logit_bias.is_empty() {
            return Vec::new();
        }
        let mut biases = vec![0.0; n_vocab];
        for &(token, bias) in &self.logit_bias {
            biases[token as usize] = bias;
        }
        biases
    }

    /// Whether the likeliest token is taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// Whether candidates are cut at all.
    pub fn has_cut(&self) -> bool {
        !self.is_greedy() && (self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0)
    }
}

/// The bias that takes a token out: whatever its logit and the temperature, it is never drawn.
pub const EXCLUDED: f32 = -100.0;

/// The scaled logit of a token that is out: so low that no noise lifts it, and finite, since shaders
/// may take it for granted that numbers are.
pub const LOWEST: f32 = -3.0e38;

/// Whether a bias takes its token out.
pub fn is_excluded(bias: &f32) -> bool {
    *bias == EXCLUDED
}

/// Most tokens that are reported with a drawn one.
pub const MAX_TOP: u32 = 20;

/// A token and the natural logarithm of its probability in the model's own distribution, which is the
/// softmax of its logits: ahead of penalties, biases, temperature, cuts and masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Its id.
    pub token: u32,
    /// The logarithm.
    pub logprob: f32,
}

/// A drawn token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// Its log-probability, as [`TokenLogprob`] has it.
    pub logprob: f32,
    /// The likeliest tokens by falling probability, by rising id among equals: as many as
    /// [`SamplingParams::top_logprobs`] asks for, as far as the vocabulary goes.
    pub top: Vec<TokenLogprob>,
}

/// Set in a token's count when the prompt has the token; the other bits count how often it was
/// generated.
pub const IN_PROMPT: u32 = 1 << 31;

/// A logit after penalties. `count` is the token's entry, see [`IN_PROMPT`].
pub fn penalized(params: &SamplingParams, logit: f32, count: u32) -> f32 {
    if count == 0 {
        return logit;
    }
    let repeated = if logit > 0.0 {
        logit / params.repetition_penalty
    } else {
        logit * params.repetition_penalty
    };
    match count & !IN_PROMPT {
        0 => repeated,
        n => repeated - params.presence_penalty - params.frequency_penalty * n as f32,
    }
}

/// Mixes the bits of a word: each bit of the result depends on each bit of `x`.
///
/// Multipliers found by search for low bias: Wellons, "Prospecting for hash functions", 2018.
const fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

/// Noise of the standard Gumbel distribution for `token` at step `step` of a generation.
pub fn gumbel(seed: u64, step: u32, token: u32) -> f32 {
    let key = mix(mix(seed as u32) ^ (seed >> 32) as u32).wrapping_add(step);
    gumbel_of(mix(mix(key) ^ mix(token)))
}

/// The noise that a random word stands for: the higher, the larger.
fn gumbel_of(bits: u32) -> f32 {
    // One minus a number drawn evenly: 23 bits and a half are exact, so that neither is 0 or 1, where the
    // noise would be infinite.
    let rest = ((!bits >> 9) as f32 + 0.5) * (1.0 / (1 << 23) as f32);
    -(-(-rest).ln_1p()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_finite_and_grows_with_the_word_up_to_both_edges() {
        let edges =
            (0..4096).chain((1 << 31) - 2048..(1 << 31) + 2048).chain(u32::MAX - 4095..=u32::MAX);
        let noise: Vec<f32> = edges.map(gumbel_of).collect();
        assert!(noise.iter().all(|noise| noise.is_finite()));
        assert!(noise.is_sorted(), "a higher word has less noise");
        let log_rest = (0.5_f64 / f64::from(1 << 23)).ln();
        assert_eq!(noise[0], -(-log_rest).ln() as f32);
        assert!((f64::from(*noise.last().unwrap()) + log_rest).abs() < 1e-6);
        // Half of all words lie below the median, which is −ln ln 2.
        assert!((gumbel_of(1 << 31) + std::f32::consts::LN_2.ln()).abs() < 1e-6);
    }
}
