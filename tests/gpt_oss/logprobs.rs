//! Reported log-probabilities are those of the reference's logits, whatever the sampling does to them.

use std::collections::HashSet;

use pesi::{
    engine::DeviceKind,
    sampler::{EXCLUDED, MAX_TOP, SamplingParams},
    session::{Request, Session, TokenEvent},
    weights::Precision,
};

use super::model::{CONTEXT, Golden, NoHost, devices, folder, session};

/// How far from the reference a log-probability may be on a device: the CPU rounds activations to 16
/// bits, and its logits are up to a thousandth off.
fn tolerance(device: &DeviceKind) -> f32 {
    match device {
        DeviceKind::Cpu | DeviceKind::Threads(_) => 2e-3,
        DeviceKind::Gpu(_) => 1e-4,
    }
}

#[test]
fn log_probabilities_are_those_of_the_reference() {
    let golden = Golden::read(&folder("a1-basic/golden.safetensors"));
    let (ids, logits) = (golden.ids("p0.ids"), golden.floats("p0.logits"));
    let n_vocab = golden.shape("p0.logits")[1];
    for device in devices() {
        let mut worst = 0.0_f32;
        let mut session = session(&folder("a1-basic"), &device, Precision::Exact, CONTEXT);
        for n_prompt in [1, 2, 17, 40, 70] {
            let row = &logits[(n_prompt - 1) * n_vocab..][..n_vocab];
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            let logprob = |token: u32| row[token as usize] - sum.ln() as f32;
            let mut order: Vec<u32> = (0..n_vocab as u32).collect();
            order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
            let sampling = SamplingParams {
                temperature: 1.3,
                top_k: 200,
                repetition_penalty: 1.2,
                logit_bias: vec![(order[0], EXCLUDED), (order[1], 2.0)],
                top_logprobs: MAX_TOP,
                ..Default::default()
            };
            let drawn = draw(&mut session, &ids[..n_prompt], sampling, 1);
            let [event] = &drawn[..] else { panic!("one token was asked for: {drawn:?}") };
            worst = worst.max((event.logprob - logprob(event.token)).abs());
            assert_eq!(event.top_logprobs.len(), MAX_TOP as usize);
            let mut mass = [0.0, 0.0];
            for (found, &expected) in event.top_logprobs.iter().zip(&order) {
                // Which of two near equals comes first is a matter of rounding.
                let difference = found.logprob - logprob(expected);
                worst = worst.max(difference.abs());
                worst = worst.max((found.logprob - logprob(found.token)).abs());
                mass[0] += found.logprob.exp();
                mass[1] += logprob(expected).exp();
            }
            let distinct: HashSet<u32> = event.top_logprobs.iter().map(|top| top.token).collect();
            assert_eq!(distinct.len(), MAX_TOP as usize);
            worst = worst.max((mass[0] - mass[1]).abs());
            assert!(worst < tolerance(&device), "{device:?}, {n_prompt} tokens: off by {worst}");
        }
        println!("{device:?}: log-probabilities are at most {worst:.1e} from the reference");
    }
}

/// One token after `tokens`, drawn as `sampling` has it.
fn draw(
    session: &mut Session,
    tokens: &[u32],
    sampling: SamplingParams,
    n: usize,
) -> Vec<TokenEvent> {
    let request = Request {
        tokens: tokens.to_vec(),
        max_tokens: Some(n),
        sampling,
        ignore_eos: true,
        reuse_prefix: true,
        ..Default::default()
    };
    let mut drawn = Vec::new();
    let mut take = |events: &[TokenEvent]| {
        drawn.extend_from_slice(events);
        Ok(())
    };
    pollster::block_on(session.generate(&request, &NoHost, &|| false, &mut take)).unwrap();
    drawn
}

/// A text's log-probability is the sum of those of its tokens, each of which is demanded by a bias.
#[test]
fn log_probabilities_of_a_text_sum_to_that_of_the_reference() {
    let golden = Golden::read(&folder("a1-basic/golden.safetensors"));
    let (ids, logits) = (golden.ids("p0.ids"), golden.floats("p0.logits"));
    let n_vocab = golden.shape("p0.logits")[1];
    for device in devices() {
        let mut session = session(&folder("a1-basic"), &device, Precision::Exact, CONTEXT);
        let (mut found, mut expected) = (0.0, 0.0);
        for n in 1..ids.len() {
            let row = &logits[(n - 1) * n_vocab..][..n_vocab];
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            expected += f64::from(row[ids[n] as usize]) - sum.ln();
            let sampling =
                SamplingParams { logit_bias: vec![(ids[n], 100.0)], ..Default::default() };
            let [event] = &draw(&mut session, &ids[..n], sampling, 1)[..] else { panic!() };
            assert_eq!(event.token, ids[n]);
            found += f64::from(event.logprob);
        }
        let difference = (found - expected).abs();
        println!("{device:?}: {found}, {difference:.1e} from the reference");
        assert!(difference < 1e-3, "{device:?}: {found}, expected {expected}");
    }
}

#[test]
fn a_token_that_is_excluded_never_appears_in_a_thousand() {
    const N: usize = 100;
    let golden = Golden::read(&folder("a1-basic/golden.safetensors"));
    let prompt = &golden.ids("p0.ids")[..8];
    for device in devices().into_iter().take(2) {
        let mut session = session(&folder("a1-basic"), &device, Precision::Exact, CONTEXT);
        let warm = |seed| SamplingParams { temperature: 1.0, seed, ..Default::default() };
        let mut often: Vec<u32> = Vec::new();
        for seed in 0..2 {
            let drawn = draw(&mut session, prompt, warm(seed), N);
            often.extend(drawn.iter().map(|event| event.token));
        }
        assert_eq!(often.len(), 2 * N);
        let mut n_drawn = 0;
        for seed in 0..10 {
            let logit_bias = often.iter().map(|&token| (token, EXCLUDED)).collect();
            let sampling = SamplingParams { logit_bias, ..warm(seed) };
            for event in draw(&mut session, prompt, sampling, N) {
                assert!(!often.contains(&event.token), "{device:?}: {}", event.token);
                n_drawn += 1;
            }
        }
        assert_eq!(n_drawn, 1000);
    }
}
