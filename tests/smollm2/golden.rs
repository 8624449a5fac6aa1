//! Logits and greedy tokens of three prompts, as the float32 reference has them.

use pesi::{
    engine::DeviceKind,
    session::{Request, Session, TokenEvent},
};
use safetensors::SafeTensors;

use super::model::{TestHost, devices, open};

/// Normalised mean square error that a position's logits may have.
const MAX_NMSE: f64 = 1e-4;

/// Gap between the two likeliest tokens below which rounding may swap them.
const MIN_GAP: f32 = 0.05;

pub const GOLDEN: &[u8] = include_bytes!("../golden/smollm2/golden_compact.safetensors");

pub struct Golden<'a> {
    pub tensors: &'a SafeTensors<'a>,
    pub prompt: &'static str,
}

impl Golden<'_> {
    pub fn words<T: bytemuck::AnyBitPattern>(&self, name: &str) -> Vec<T> {
        let tensor = self.tensors.tensor(&format!("{}.{name}", self.prompt)).unwrap();
        tensor.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()
    }
}

/// Most greedy tokens of a prompt, where the reference does not decide fewer: on the GPU all of one
/// prompt and some of the others, for a software adapter takes long.
const MOST_GREEDY: [(&str, usize, usize); 3] =
    [("english", 37, 37), ("code", 64, 16), ("italian", 42, 16)];

#[test]
fn logits_and_greedy_tokens_match_the_reference() {
    let tensors = SafeTensors::deserialize(GOLDEN).unwrap();
    for device in devices() {
        let mut session = open(&device, 128);
        for (prompt, on_cpu, on_gpu) in MOST_GREEDY {
            let golden = Golden { tensors: &tensors, prompt };
            let what = format!("{device:?}, {prompt}");
            check_logits(&mut session, &golden, &what);
            let most = if matches!(device, DeviceKind::Cpu) { on_cpu } else { on_gpu };
            check_greedy(&mut session, &golden, most, &what);
        }
    }
}

fn check_logits(session: &mut Session, golden: &Golden<'_>, what: &str) {
    let tokens: Vec<u32> = golden.words("ids");
    let host = TestHost::new();
    let logits = pollster::block_on(session.logits(&tokens, &host, &|| false)).unwrap();
    let n_vocab = session.config().n_vocab;
    assert_eq!(logits.len(), tokens.len() * n_vocab);

    let columns: Vec<u32> = golden.words("cols");
    let at_columns: Vec<f32> = golden.words("logits_at_cols");
    let top_ids: Vec<u32> = golden.words("top16_ids");
    let top_logits: Vec<f32> = golden.words("top16_logits");
    let log_sums: Vec<f32> = golden.words("logsumexp");
    let mut worst = 0.0_f64;
    for (position, row) in logits.chunks_exact(n_vocab).enumerate() {
        let columns = columns.iter().zip(&at_columns[position * columns.len()..]);
        let top = top_ids[position * 16..][..16].iter().zip(&top_logits[position * 16..]);
        let (error, energy) = columns.chain(top).fold((0.0, 0.0), |(error, energy), (&id, &b)| {
            let (a, b) = (f64::from(row[id as usize]), f64::from(b));
            (error + (a - b).powi(2), energy + b.powi(2))
        });
        worst = worst.max(error / energy);
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|logit| f64::from(logit - largest).exp()).sum();
        let difference = sum.ln() + f64::from(largest) - f64::from(log_sums[position]);
        assert!(difference.abs() < 0.05, "{what}: log-sum at {position} off by {difference}");
    }
    println!("{what}: worst NMSE {worst:.2e}");
    assert!(worst <= MAX_NMSE, "{what}: NMSE {worst:.2e}");
}

fn check_greedy(session: &mut Session, golden: &Golden<'_>, most: usize, what: &str) {
    let expected: Vec<u32> = golden.words("greedy");
    let gaps: Vec<f32> = golden.words("greedy_gap");
    let n = gaps.iter().position(|&gap| gap < MIN_GAP).unwrap_or(64).min(most);
    let request = Request {
        tokens: golden.words("ids"),
        max_tokens: Some(n),
        ignore_eos: true,
        ..Default::default()
    };
    let mut found = Vec::new();
    let host = TestHost::new();
    let mut take = |events: &[TokenEvent]| {
        found.extend(events.iter().map(|event| event.token));
        Ok(())
    };
    pollster::block_on(session.generate(&request, &host, &|| false, &mut take)).unwrap();
    assert!(n >= 10, "{what}: only {n} tokens are decided");
    assert_eq!(found, expected[..n], "{what}");
}
