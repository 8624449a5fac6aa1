//! Draws on the GPU and on the CPU follow the distribution that the settings describe, by Pearson's test.
//!
//! A software adapter takes a tenth of a millisecond for a draw. `PESI_GPU_DRAWS=100000` has as many
//! drawn there as on the CPU.

use pesi::{
    cpu::{Sampler, reference::distribution},
    gpu::{
        ops::sample::Sampling,
        record::{Extent, Pipelines, Recorder},
    },
    sampler::{EXCLUDED, IN_PROMPT, SamplingParams},
};

use super::{
    data::Random,
    device::{Device, devices},
};

const N_DRAWS: usize = 100_000;

/// Draws for each of the settings on the GPU.
fn n_gpu_draws() -> usize {
    std::env::var("PESI_GPU_DRAWS").map_or(20_000, |number| number.parse().expect("a number"))
}

/// Tokens between readbacks.
const BATCH: usize = 500;

const N_VOCAB: usize = 60;

fn settings() -> Vec<SamplingParams> {
    let warm = SamplingParams { temperature: 1.0, seed: 2024, ..Default::default() };
    vec![
        warm.clone(),
        SamplingParams { temperature: 0.6, seed: 1, ..warm.clone() },
        SamplingParams { temperature: 1.7, seed: 2, ..warm.clone() },
        SamplingParams { top_k: 12, ..warm.clone() },
        SamplingParams { top_p: 0.8, ..warm.clone() },
        SamplingParams { min_p: 0.1, ..warm.clone() },
        SamplingParams { top_k: 30, top_p: 0.9, min_p: 0.02, temperature: 1.3, ..warm.clone() },
        SamplingParams { repetition_penalty: 1.4, ..warm.clone() },
        SamplingParams { logit_bias: vec![(0, 2.0), (7, -1.5), (9, EXCLUDED)], ..warm },
    ]
}

/// A device that scans logits in one workgroup, which these few fill: others take a software adapter
/// longer.
fn device() -> Device {
    let mut device = devices().remove(0);
    device.tuning.scan_shares = 1;
    device
}

fn logits() -> Vec<f32> {
    let mut random = Random::new(77);
    (0..N_VOCAB).map(|_| random.signed() * 3.0).collect()
}

/// Draws on the GPU: `n_generations`, each of `n_steps` tokens after `prompt`, with seeds in a row.
fn draw_on_gpu(
    device: &Device,
    params: &SamplingParams,
    logits: &[f32],
    prompt: &[u32],
    [n_generations, n_steps]: [usize; 2],
) -> Vec<Vec<u32>> {
    let (context, target) = (&device.context, device.target());
    let batch = n_steps.min(BATCH);
    let sampling = Sampling::new(context, &target, logits.len(), batch as u32).unwrap();
    let (state, tokens, logits) =
        (device.state(0, 1), device.words(&[0; 4]), device.storage(logits));
    let mut recorder = Recorder::default();
    for _ in 0..batch {
        sampling.record(&mut recorder, &target, &state, &logits, &tokens, false);
    }
    let recording = recorder.finish(context, &mut Pipelines::default());
    let generation = |index: usize| {
        let params = SamplingParams { seed: params.seed + index as u64, ..params.clone() };
        sampling.start(context, &params, prompt, &[]);
        let mut drawn = Vec::with_capacity(n_steps);
        while drawn.len() < n_steps {
            let words = [0, 1, drawn.len() as u32, 0];
            context.queue.write_buffer(&state.buffer, 0, bytemuck::cast_slice(&words));
            let mut encoder = context.device.create_command_encoder(&Default::default());
            let extent = Extent { n_tokens: 1, n_keys: 0 };
            recording.encode(&mut encoder.begin_compute_pass(&Default::default()), extent);
            context.queue.submit([encoder.finish()]);
            let words = device.read(&sampling.drawn, batch * 2);
            drawn.extend(words.iter().step_by(2).map(|word| word.to_bits()));
        }
        drawn
    };
    (0..n_generations).map(generation).collect()
}

/// Draws on the CPU, likewise.
fn draw_on_cpu(
    params: &SamplingParams,
    logits: &[f32],
    prompt: &[u32],
    [n_generations, n_steps]: [usize; 2],
) -> Vec<Vec<u32>> {
    let generation = |index: usize| {
        let params = SamplingParams { seed: params.seed + index as u64, ..params.clone() };
        let mut sampler = Sampler::new(&params, logits.len(), prompt).unwrap();
        let mut scratch = logits.to_vec();
        (0..n_steps).map(|_| sampler.sample(&mut scratch, None).token).collect()
    };
    (0..n_generations).map(generation).collect()
}

/// Asserts that draws of cells with `expected` probabilities can have come out as `counts`.
fn check_chi_squared(counts: &[u64], expected: &[f64], what: &str) {
    let n: u64 = counts.iter().sum();
    // Cells of which fewer than ten draws are expected count as one.
    let (mut rare, mut rare_expected, mut statistic, mut n_cells) = (0, 0.0, 0.0, 0);
    let mut add = |count: u64, expected: f64| {
        statistic += (count as f64 - expected).powi(2) / expected;
        n_cells += 1;
    };
    for (token, (&count, probability)) in counts.iter().zip(expected).enumerate() {
        assert!(count == 0 || *probability > 0.0, "{what}: {token} was drawn {count} times");
        let expected = probability * n as f64;
        if expected < 10.0 {
            (rare, rare_expected) = (rare + count, rare_expected + expected);
        } else {
            add(count, expected);
        }
    }
    if rare_expected >= 10.0 {
        add(rare, rare_expected);
    }
    // Wilson and Hilferty's approximation: the cube root is normal. One run in 30,000 is beyond 4.
    let freedom = f64::from(n_cells - 1);
    let variance = 2.0 / (9.0 * freedom);
    let deviations = ((statistic / freedom).cbrt() - (1.0 - variance)) / variance.sqrt();
    println!("{what}: chi-squared {statistic:.1} of {freedom} degrees, {deviations:.2} deviations");
    assert!(n_cells >= 5, "{what}: {n_cells} cells");
    assert!(deviations < 4.0, "{what}: {deviations:.2} deviations");
}

fn counts(draws: &[Vec<u32>]) -> Vec<u64> {
    let mut counts = vec![0; N_VOCAB];
    draws.iter().flatten().for_each(|&token| counts[token as usize] += 1);
    counts
}

#[test]
fn draws_follow_the_distribution() {
    let logits = logits();
    let device = device();
    // All tokens are in the prompt, so that a penalty on repetition does not change with the draws.
    let prompt: Vec<u32> = (0..N_VOCAB as u32).collect();
    for params in settings() {
        let expected = distribution(&params, &logits, &[IN_PROMPT; N_VOCAB]);
        let drawn = draw_on_gpu(&device, &params, &logits, &prompt, [1, n_gpu_draws()]);
        check_chi_squared(&counts(&drawn), &expected, &format!("GPU, {params:?}"));
        let drawn = draw_on_cpu(&params, &logits, &prompt, [1, N_DRAWS]);
        check_chi_squared(&counts(&drawn), &expected, &format!("CPU, {params:?}"));
    }
}

/// Penalties change the distribution with each draw. Whatever it is, a number drawn evenly from the
/// draw's part of the cumulative distribution is even between 0 and 1 (Rosenblatt's transformation).
#[test]
fn penalties_on_what_was_drawn_are_part_of_the_distribution() {
    const N_STEPS: usize = 50;
    const N_CELLS: usize = 40;
    let logits = logits();
    let device = device();
    let prompt = [3, 5, 8];
    let warm = SamplingParams { temperature: 0.9, seed: 5, ..Default::default() };
    for params in [
        SamplingParams { frequency_penalty: 0.7, ..warm.clone() },
        SamplingParams { presence_penalty: 1.5, ..warm.clone() },
        SamplingParams { repetition_penalty: 1.6, presence_penalty: 0.4, top_k: 30, ..warm },
    ] {
        let size = |n_draws: usize| [n_draws / N_STEPS, N_STEPS];
        let on_gpu = draw_on_gpu(&device, &params, &logits, &prompt, size(n_gpu_draws()));
        let on_cpu = draw_on_cpu(&params, &logits, &prompt, size(N_DRAWS));
        for (device, generations) in [("GPU", on_gpu), ("CPU", on_cpu)] {
            let mut random = Random::new(99);
            let mut cells = [0; N_CELLS];
            for generation in generations {
                let mut counts = [0; N_VOCAB];
                prompt.iter().for_each(|&token: &u32| counts[token as usize] = IN_PROMPT);
                for token in generation {
                    let token = token as usize;
                    let probabilities = distribution(&params, &logits, &counts);
                    assert!(probabilities[token] > 0.0, "{device}: {token} was drawn");
                    let below: f64 = probabilities[..token].iter().sum();
                    let within = f64::from(random.bits()) / f64::from(u32::MAX);
                    let even = below + within * probabilities[token];
                    cells[((even * N_CELLS as f64) as usize).min(N_CELLS - 1)] += 1;
                    counts[token] += 1;
                }
            }
            let even = [1.0 / N_CELLS as f64; N_CELLS];
            check_chi_squared(&cells, &even, &format!("{device}, {params:?}"));
        }
    }
}

#[test]
fn a_token_that_is_excluded_never_appears_and_seeds_repeat() {
    const N: usize = 1000;
    let logits = vec![0.0, 30.0, 1.0, -2.0];
    let device = device();
    // A temperature at which the bias as a number would not be enough.
    for temperature in [0.0, 1.0, 100.0] {
        let params = SamplingParams {
            temperature,
            logit_bias: vec![(1, EXCLUDED)],
            seed: 11,
            ..Default::default()
        };
        let drawn = draw_on_gpu(&device, &params, &logits, &[], [1, N]);
        assert_eq!(drawn[0].len(), N);
        assert!(!drawn[0].contains(&1), "temperature {temperature}");
        assert_eq!(drawn, draw_on_cpu(&params, &logits, &[], [1, N]), "temperature {temperature}");
        assert_eq!(drawn, draw_on_gpu(&device, &params, &logits, &[], [1, N]));
        let other = SamplingParams { seed: 12, ..params };
        let others = draw_on_gpu(&device, &other, &logits, &[], [1, N]);
        assert_eq!(drawn == others, temperature == 0.0);
    }
}
