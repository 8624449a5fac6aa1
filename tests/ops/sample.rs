//! Sampling: the GPU draws what the CPU draws.

use pesi::{
    cpu::Sampler,
    gpu::{ops::sample::Sampling, record::Extent},
    sampler::{EXCLUDED, MAX_TOP, SamplingParams, gumbel},
};

use super::{
    data::Random,
    device::{devices, devices_in_f32},
};

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
        SamplingParams { logit_bias: vec![(0, 2.5), (1, EXCLUDED), (1, -3.0)], ..warm.clone() },
        SamplingParams { logit_bias: vec![(0, 3.0), (1, EXCLUDED)], top_k: 7, ..warm.clone() },
        SamplingParams { top_logprobs: 1, ..warm.clone() },
        SamplingParams { logit_bias: vec![(0, 100.0)], top_logprobs: MAX_TOP, ..warm.clone() },
        SamplingParams { temperature: 2.5, top_p: 0.999, repetition_penalty: 0.7, ..warm },
    ]
}

/// Masks of about a third of the tokens, or none.
fn masks(n_vocab: usize, random: &mut Random) -> [Option<Vec<u32>>; 2] {
    let mut mask = vec![0; n_vocab.div_ceil(32)];
    for token in (0..n_vocab).filter(|_| random.bits().is_multiple_of(3)) {
        mask[token / 32] |= 1 << (token % 32);
    }
    // One that no bias takes out.
    mask[0] |= 1;
    [None, Some(mask)]
}

#[test]
fn gpu_and_cpu_draw_the_same_tokens() {
    const N_STEPS: usize = 5;
    for device in devices_in_f32() {
        let mut random = Random::new(8);
        for n_vocab in [1, 2, 255, 256, 257, 5000] {
            let prompt = [0, (n_vocab / 2) as u32, (n_vocab - 1) as u32];
            for (params, mask) in settings()
                .into_iter()
                .flat_map(|params| masks(n_vocab, &mut random).map(|mask| (params.clone(), mask)))
                .collect::<Vec<_>>()
            {
                if params.validate(n_vocab).is_err() {
                    assert_eq!(n_vocab, 1, "{params:?}");
                    continue;
                }
                // In steps, so that some are equal.
                let logits: Vec<f32> =
                    (0..n_vocab).map(|_| (random.signed() * 6e3).round() / 1e3).collect();
                let mut sampler = Sampler::new(&params, n_vocab, &prompt).unwrap();
                let expected: Vec<_> = (0..N_STEPS)
                    .map(|_| sampler.sample(&mut logits.clone(), mask.as_deref()))
                    .collect();

                let target = device.target();
                let context = &device.context;
                let sampling = Sampling::new(context, &target, n_vocab, N_STEPS as u32).unwrap();
                sampling.start(context, &params, &prompt, &[]);
                sampling.set_mask(context, mask.as_deref());
                let state = device.state(41, 3);
                let tokens = device.words(&[0; 4]);
                let buffer = device.storage(&logits);
                device.run(Extent { n_tokens: 1, n_keys: 0 }, |recorder| {
                    for _ in 0..N_STEPS {
                        sampling.record(recorder, &target, &state, &buffer, &tokens, true);
                    }
                });
                let is_masked = mask.is_some();
                let what =
                    format!("{}: {n_vocab} tokens, masked {is_masked}, {params:?}", device.name);
                let drawn = device.read(&sampling.drawn, N_STEPS * 2);
                for (step, (found, expected)) in drawn.chunks_exact(2).zip(&expected).enumerate() {
                    assert_eq!(found[0].to_bits(), expected.token, "{what}: step {step}");
                    let error = (found[1] - expected.logprob).abs();
                    assert!(error < 1e-3, "{what}: log-probability off by {error}");
                }
                let bytes = device.read(&sampling.top, N_STEPS * MAX_TOP as usize * 2);
                for (step, expected) in expected.iter().enumerate() {
                    let n_top = (params.top_logprobs as usize).min(n_vocab);
                    assert_eq!(expected.top.len(), n_top, "{what}");
                    let found = bytes[step * MAX_TOP as usize * 2..].chunks_exact(2);
                    for (rank, (found, expected)) in found.zip(&expected.top).enumerate() {
                        let place = format!("{what}: step {step}, rank {rank}");
                        assert_eq!(found[1].to_bits(), expected.token, "{place}");
                        let error = (found[0] - expected.logprob).abs();
                        assert!(error < 1e-4, "{place}: log-probability off by {error}");
                    }
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
fn biases_of_the_generation_before_are_forgotten() {
    let device = devices().remove(0);
    let target = device.target();
    let sampling = Sampling::new(&device.context, &target, 4, 1).unwrap();
    let logits = device.storage(&[1.0, 2.0, 3.0, 4.0]);
    let draw = |params: &SamplingParams| {
        sampling.start(&device.context, params, &[], &[]);
        let (state, tokens) = (device.state(0, 1), device.words(&[0; 4]));
        device.run(Extent { n_tokens: 1, n_keys: 0 }, |recorder| {
            sampling.record(recorder, &target, &state, &logits, &tokens, false);
        });
        device.read(&tokens, 1)[0].to_bits()
    };
    let biased = |logit_bias| SamplingParams { logit_bias, ..Default::default() };
    assert_eq!(draw(&biased(vec![(3, EXCLUDED), (0, 5.0)])), 0);
    assert_eq!(draw(&biased(vec![(3, EXCLUDED)])), 2);
    assert_eq!(draw(&biased(vec![(2, EXCLUDED)])), 3);
    assert_eq!(draw(&biased(vec![])), 3);
}

/// The word that `mix` in `src/sampler.rs` makes `mixed` of.
fn unmixed(mixed: u32) -> u32 {
    // Newton's iteration doubles the bits of an inverse that are right; of an odd number, three are.
    let inverse =
        |odd: u32| (0..4).fold(odd, |x, _| x.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(x))));
    let mut x = mixed ^ mixed >> 16;
    x = x.wrapping_mul(inverse(0x846c_a68b));
    x = x ^ x >> 15 ^ x >> 30;
    x = x.wrapping_mul(inverse(0x7feb_352d));
    x ^ x >> 16
}

/// A seed whose noise for `token` at the first step comes from the random word `bits`.
fn seed_of(bits: u32, token: u32) -> u64 {
    let mixed = |x: u32| {
        let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
        let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^ x >> 16
    };
    unmixed(unmixed(unmixed(unmixed(bits) ^ mixed(token)))).into()
}

/// At each word the noise on the GPU is that on the CPU: a token is drawn where that lifts it above the
/// only other one, and is not where it falls short.
#[test]
fn noise_of_words_at_the_edges_is_that_of_the_cpu_and_finite() {
    const TOKEN: u32 = 1;
    const TOLERANCE: f32 = 1e-4;
    let near =
        |word: u32| [-513_i32, -512, -1, 0, 1, 511, 512].map(|d| word.wrapping_add_signed(d));
    // The edges, the middle, and where the shader changes from a logarithm to a series.
    let words: Vec<u32> = [0, 1 << 31, !(1 << 26), !(1 << 22)].into_iter().flat_map(near).collect();
    assert!(words.contains(&u32::MAX));
    for device in devices().into_iter().step_by(4) {
        let (context, target) = (&device.context, device.target());
        let sampling = Sampling::new(context, &target, 2, 1).unwrap();
        for &word in &words {
            let seed = seed_of(word, TOKEN);
            let params = SamplingParams { temperature: 1.0, seed, ..Default::default() };
            let (noise, other) = (gumbel(seed, 0, TOKEN), gumbel(seed, 0, 0));
            assert!(noise.is_finite() && (-3.0..17.0).contains(&noise), "{word:#x}: {noise}");
            for (above, drawn) in [(TOLERANCE, TOKEN), (-TOLERANCE, 0)] {
                let logits = [0.0, other - noise + above];
                let (state, tokens) = (device.state(0, 1), device.words(&[0; 4]));
                let buffer = device.storage(&logits);
                sampling.start(context, &params, &[], &[]);
                device.run(Extent { n_tokens: 1, n_keys: 0 }, |recorder| {
                    sampling.record(recorder, &target, &state, &buffer, &tokens, false);
                });
                let on_gpu = device.read(&tokens, 1)[0].to_bits();
                let on_cpu =
                    Sampler::new(&params, 2, &[]).unwrap().sample(&mut logits.to_vec(), None);
                let what = format!("{}, word {word:#x}, noise {noise}", device.name);
                assert_eq!([on_gpu, on_cpu.token], [drawn; 2], "{what}");
            }
        }
        // Any number of the second token's noise is far below this.
        let seed = seed_of(u32::MAX, TOKEN);
        let params = SamplingParams { temperature: 1.0, seed, ..Default::default() };
        let mut sampler = Sampler::new(&params, 2, &[]).unwrap();
        assert_eq!(sampler.sample(&mut [0.0, -30.0], None).token, 0);
    }
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    let check = |params: SamplingParams| params.validate(10).unwrap_err().to_string();
    let biased =
        |token, bias| SamplingParams { logit_bias: vec![(token, bias)], ..Default::default() };
    assert_eq!(
        check(biased(10, 1.0)),
        "token id is not in the vocabulary (parameter: logit_bias, found: 10, limit: 10)"
    );
    for bias in [-100.5, 101.0, f32::NAN] {
        assert!(check(biased(1, bias)).contains("parameter: logit_bias"), "{bias}");
    }
    let all = SamplingParams {
        logit_bias: (0..10).map(|token| (token, EXCLUDED)).collect(),
        ..Default::default()
    };
    assert_eq!(check(all), "every token is excluded (parameter: logit_bias, found: 10)");
    let many = SamplingParams { top_logprobs: 21, ..Default::default() };
    assert_eq!(
        check(many),
        "sampling parameter out of range (parameter: top_logprobs, limit: 20, found: 21)"
    );
}
