//! Sampling on the CPU: twin of `shaders/sample_scan.wgsl` and `shaders/sample_pick.wgsl`.

use crate::{
    error::Result,
    sampler::{IN_PROMPT, Sampled, SamplingParams, gumbel, penalized},
};

/// Draws the tokens of one generation.
pub struct Sampler {
    params: SamplingParams,
    /// One entry a token, see [`IN_PROMPT`].
    counts: Vec<u32>,
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
        params.validate()?;
        let mut counts = vec![0; n_vocab];
        for &token in prompt {
            counts[token as usize] = IN_PROMPT;
        }
        Ok(Self { params: params.clone(), counts, step: 0, candidates: Vec::new() })
    }

    /// Draws the next token from `logits`, which are overwritten.
    pub fn sample(&mut self, logits: &mut [f32]) -> Sampled {
        let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let log_sum =
            logits.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln() + largest;
        let params = &self.params;
        let adjusted =
            |token: usize, logit: f32, counts: &[u32]| penalized(params, logit, counts[token]);
        let token = if params.is_greedy() {
            argmax(logits.iter().enumerate().map(|(i, &logit)| adjusted(i, logit, &self.counts)))
        } else {
            let raw = logits.to_vec();
            for (i, logit) in logits.iter_mut().enumerate() {
                *logit = adjusted(i, raw[i], &self.counts) / params.temperature;
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
        Sampled { token: token as u32, logprob: logits[token] - log_sum }
    }
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
