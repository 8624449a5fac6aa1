//! Sampling on the CPU: twin of `shaders/sample_scan.wgsl`, `sample_top.wgsl` and `sample_pick.wgsl`.

use wide::f32x4;

use super::lanes;
use crate::{
    error::Result,
    sampler::{
        IN_PROMPT, LOWEST, Sampled, SamplingParams, TokenLogprob, gumbel, is_excluded, penalized,
    },
};

/// Draws the tokens of one generation.
pub struct Sampler {
    params: SamplingParams,
    /// One entry a token, see [`IN_PROMPT`].
    counts: Vec<u32>,
    /// What is added to each logit; empty where nothing is.
    biases: Vec<f32>,
    step: u32,
    /// Scaled logits of the candidates, falling.
    candidates: Vec<f32>,
}

impl Sampler {
    /// A sampler for a generation that follows `prompt`.
    ///
    /// # Errors
    /// Those of [`SamplingParams::validate`].
    pub fn new(params: &SamplingParams, n_vocab: usize, prompt: &[u32]) -> Result<Self> {
        params.validate(n_vocab)?;
        let mut counts = vec![0; n_vocab];
        for &token in prompt {
            counts[token as usize] = IN_PROMPT;
        }
        Ok(Self {
            params: params.clone(),
            counts,
            biases: params.biases(n_vocab),
            step: 0,
            candidates: Vec::new(),
        })
    }

    /// Goes on after the tokens that the generation has drawn before.
    #[must_use]
    pub fn after(mut self, generated: &[u32]) -> Self {
        for &token in generated {
            self.counts[token as usize] += 1;
        }
        self.step += generated.len() as u32;
        self
    }

    /// Draws the next token from `logits`, which are overwritten in the meantime: one whose bit is set
    /// in `mask`, if there is one.
    pub fn sample(&mut self, logits: &mut [f32], mask: Option<&[u32]>) -> Sampled {
        let largest = lanes::largest(logits, f32::NEG_INFINITY);
        let sum = lanes::sum(logits, |logits| lanes::exp(logits - f32x4::splat(largest)));
        let log_sum = sum.ln() + largest;
        let params = &self.params;
        let token = if params.is_greedy() {
            argmax(
                logits
                    .iter()
                    .enumerate()
                    .map(|(token, &logit)| self.scaled(token, logit, 1.0, mask)),
            )
        } else {
            let raw = logits.to_vec();
            for (token, logit) in logits.iter_mut().enumerate() {
                *logit = self.scaled(token, raw[token], params.temperature, mask);
            }
            let threshold = threshold(params, logits, &mut self.candidates);
            let token = argmax(logits.iter().enumerate().map(|(i, &scaled)| {
                if scaled >= threshold {
                    scaled + gumbel(params.seed, self.step, i as u32)
                } else {
                    f32::NEG_INFINITY
                }
            }));
            logits.copy_from_slice(&raw);
            token
        };
        self.step += 1;
        self.counts[token] += 1;
        let top = likeliest(logits, self.params.top_logprobs as usize);
        let with_logprob =
            |token: u32| TokenLogprob { token, logprob: logits[token as usize] - log_sum };
        Sampled {
            token: token as u32,
            logprob: logits[token] - log_sum,
            top: top.into_iter().map(with_logprob).collect(),
        }
    }
}

impl Sampler {
    /// A token's logit after penalties, bias, mask and temperature.
    fn scaled(&self, token: usize, logit: f32, temperature: f32, mask: Option<&[u32]>) -> f32 {
        let is_out = |mask: &[u32]| mask[token / 32] >> (token % 32) & 1 == 0;
        let bias = self.biases.get(token).copied().unwrap_or_default();
        if is_excluded(&bias) || mask.is_some_and(is_out) {
            return LOWEST;
        }
        (penalized(&self.params, logit, self.counts[token]) + bias) / temperature
    }
}

/// The `n` first tokens in the order of falling logits, of rising tokens among equals.
fn likeliest(logits: &[f32], n: usize) -> Vec<u32> {
    let mut top: Vec<u32> = Vec::with_capacity(n + 1);
    for (token, &logit) in (0..).zip(logits) {
        let is_full = top.len() == n;
        if is_full && top.last().is_none_or(|&last| logit <= logits[last as usize]) {
            continue;
        }
        top.insert(top.partition_point(|&other| logits[other as usize] >= logit), token);
        top.truncate(n);
    }
    top
}

/// Index of the largest value; the first among equals.
fn argmax(values: impl Iterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

/// The smallest scaled logit that stays a candidate.
fn threshold(params: &SamplingParams, scaled: &[f32], sorted: &mut Vec<f32>) -> f32 {
    if !params.has_cut() {
        return f32::NEG_INFINITY;
    }
    sorted.clear();
    sorted.extend_from_slice(scaled);
    let mut threshold = f32::NEG_INFINITY;
    if params.top_k > 0 && (params.top_k as usize) < sorted.len() {
        let (_, kth, _) =
            sorted.select_nth_unstable_by(params.top_k as usize - 1, |a, b| b.total_cmp(a));
        threshold = *kth;
        sorted.retain(|&value| value >= threshold);
    }
    let largest = sorted.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    if params.top_p < 1.0 {
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let total: f32 = sorted.iter().map(|value| (value - largest).exp()).sum();
        let mut mass = 0.0;
        for &value in &*sorted {
            mass += (value - largest).exp();
            if mass >= params.top_p * total {
                threshold = value;
                break;
            }
        }
    }
    if params.min_p > 0.0 {
        threshold = threshold.max(largest + params.min_p.ln());
    }
    threshold
}
