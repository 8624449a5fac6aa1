//! Reported log-probabilities are those of the reference's logits, whatever the sampling does to them.

use std::collections::HashSet;

use pesi::{
    engine::DeviceKind,
    sampler::{EXCLUDED, MAX_TOP, SamplingParams},
    session::{Request, TokenEvent},
    weights::Precision,
};

use super::model::{CONTEXT, Golden, NoHost, devices, folder, session};

/// How far from the reference a log-probability may be on a device: the CPU rounds activations to 16
/// bits, and its logits are up to a thousandth off.
fn tolerance(device: &DeviceKind) -> f32 {
    match device {
        DeviceKind::Cpu => 2e-3,
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
            let request = Request {
                tokens: ids[..n_prompt].to_vec(),
                max_tokens: Some(1),
                sampling: SamplingParams {
                    temperature: 1.3,
                    top_k: 200,
                    repetition_penalty: 1.2,
                    logit_bias: vec![(order[0], EXCLUDED), (order[1], 2.0)],
                    top_logprobs: MAX_TOP,
                    ..Default::default()
                },
                stop: Vec::new(),
                ignore_eos: true,
                reuse_prefix: true,
                chat: false,
                demands: Default::default(),
            };
            let mut drawn = Vec::new();
            let mut take = |events: &[TokenEvent]| {
                drawn.extend_from_slice(events);
                Ok(())
            };
            let run = session.generate(&request, &NoHost, &|| false, &mut take);
            pollster::block_on(run).unwrap();
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
