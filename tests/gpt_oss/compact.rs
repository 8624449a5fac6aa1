//! Dense weights in 8 bits against those in 16.

use pesi::{engine::DeviceKind, weights::Precision};

use super::{
    divergence::mean_divergence,
    golden::logits,
    model::{CONTEXT, Golden, folder, session},
};

/// Mean Kullback-Leibler divergence of next-token distributions, in nats.
const MAX_DIVERGENCE: f64 = 0.01;

#[test]
fn compact_weights_keep_the_distributions() {
    for name in ["a1-basic", "a2-ratios"] {
        let golden = Golden::read(&folder(&format!("{name}/golden.safetensors")));
        let tokens: Vec<u32> =
            (0..5).flat_map(|prompt| golden.ids(&format!("p{prompt}.ids"))).take(CONTEXT).collect();
        let [exact, compact] = [Precision::Exact, Precision::Compact].map(|precision| {
            let mut session = session(&folder(name), &DeviceKind::Cpu, precision, CONTEXT);
            logits(&mut session, &tokens)
        });
        let mean = mean_divergence(&exact, &compact, exact.len() / tokens.len());
        println!("{name}: mean divergence {mean:.2e} over {} positions", tokens.len());
        assert!(mean > 0.0 && mean <= MAX_DIVERGENCE, "{name}: {mean:.2e}");
    }
}
