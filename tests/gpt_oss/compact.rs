//! Dense weights in 8 bits against those in 16.

use pesi::{engine::DeviceKind, weights::Precision};

use super::{
    divergence::{distribution, divergence},
    model::{CONTEXT, Golden, NoHost, folder, session},
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
            let n_vocab = session.config().n_vocab;
            let run = session.logits(&tokens, &NoHost, &|| false);
            let logits = pollster::block_on(run).unwrap();
            logits.chunks_exact(n_vocab).map(distribution).collect::<Vec<_>>()
        });
        let divergences = exact.iter().zip(&compact).map(|(p, q)| divergence(p, q));
        let mean = divergences.sum::<f64>() / tokens.len() as f64;
        println!("{name}: mean divergence {mean:.2e} over {} positions", tokens.len());
        assert!(mean > 0.0 && mean <= MAX_DIVERGENCE, "{name}: {mean:.2e}");
    }
}
