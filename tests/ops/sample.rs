//! Sampling: the GPU draws what the CPU draws.

use pesi::{
    cpu::Sampler,
    gpu::{ops::sample::Sampling, record::Extent},
    sampler::SamplingParams,
};

use super::{data::Random, device::devices};

fn settings() -> Vec<SamplingParams> {
    let greedy = SamplingParams::default();
    let warm = SamplingParams { temperature: 0.8, seed: 0x1234_5678_9abc, ..greedy.clone() };
    vec![
        greedy.clone(),
        SamplingParams {
            repetition_penalty: 1.3,
            frequency_penalty: 0.4,
            presence_penalty: 0.6,
            ..greedy
        },
        warm.clone(),
        SamplingParams { top_k: 1, ..warm.clone() },
        SamplingParams { top_k: 7, ..warm.clone() },
        SamplingParams { top_p: 0.6, ..warm.clone() },
        SamplingParams { min_p: 0.2, ..warm.clone() },
        SamplingParams { top_k: 40, top_p: 0.9, min_p: 0.05, ..warm.clone() },
        SamplingParams { temperature: 2.5, top_p: 0.999, repetition_penalty: 0.7, ..warm },
    ]
}

#[test]
fn gpu_and_cpu_draw_the_same_tokens() {
    const N_STEPS: usize = 12;
    for device in devices() {
        let mut random = Random::new(8);
        for n_vocab in [1, 2, 255, 256, 257, 5000] {
            let prompt = [0, (n_vocab / 2) as u32, (n_vocab - 1) as u32];
            for params in settings() {
                let logits: Vec<f32> = (0..n_vocab).map(|_| random.signed() * 6.0).collect();
                let mut sampler = Sampler::new(&params, n_vocab, &prompt).unwrap();
                let expected: Vec<_> =
                    (0..N_STEPS).map(|_| sampler.sample(&mut logits.clone())).collect();

                let target = device.target();
                let context = &device.context;
                let sampling = Sampling::new(context, &target, n_vocab, N_STEPS as u32).unwrap();
                sampling.start(context, &params, &prompt);
                let state = device.state(41, 3);
                let tokens = device.words(&[0; 4]);
                let buffer = device.storage(&logits);
                device.run(Extent { n_tokens: 1, n_keys: 0 }, |recorder| {
                    for _ in 0..N_STEPS {
                        sampling.record(recorder, &target, &state, &buffer, &tokens);
                    }
                });
                let what = format!("{}: {n_vocab} tokens, {params:?}", device.name);
                let drawn = device.read(&sampling.drawn, N_STEPS * 2);
                for (step, (found, expected)) in drawn.chunks_exact(2).zip(&expected).enumerate() {
                    assert_eq!(found[0].to_bits(), expected.token, "{what}: step {step}");
                    let error = (found[1] - expected.logprob).abs();
                    assert!(error < 1e-3, "{what}: log-probability off by {error}");
                }
                let state = device.read(&state, 4);
                let state: Vec<u32> = state.iter().map(|word| word.to_bits()).collect();
                let position = 41 + 3 + N_STEPS as u32 - 1;
                assert_eq!(state, [position, 1, N_STEPS as u32, N_STEPS as u32], "{what}: state");
                let last = expected[N_STEPS - 1].token;
                assert_eq!(device.read(&tokens, 1)[0].to_bits(), last, "{what}: fed token");
            }
        }
    }
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = [0.5_f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let n_draws = 20_000;
    let params = SamplingParams { temperature: 1.0, seed: 7, ..Default::default() };
    let mut sampler = Sampler::new(&params, 4, &[]).unwrap();
    let mut counts = [0.0; 4];
    for _ in 0..n_draws {
        counts[sampler.sample(&mut logits.clone()).token as usize] += 1.0 / f64::from(n_draws);
    }
    for (found, expected) in counts.iter().zip([0.5, 0.3, 0.15, 0.05]) {
        assert!((found - expected).abs() < 0.012, "{found} of draws, expected {expected}");
    }
}
