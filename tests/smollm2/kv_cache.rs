//! Keys and values as 8-bit integers against floats.

use pesi::ops::CacheNumbers;
use safetensors::SafeTensors;

use super::{
    divergence::mean_divergence,
    golden::{GOLDEN, Golden},
    model::{TestHost, describe, devices, put},
};

/// Mean Kullback-Leibler divergence of next-token distributions, in nats.
const MAX_DIVERGENCE: f64 = 5e-3;

/// Normalised mean squared error of logits.
const MAX_NMSE: f64 = 1e-3;

const CONTEXT: usize = 128;

#[test]
fn integers_in_the_cache_keep_the_distributions() {
    let tensors = SafeTensors::deserialize(GOLDEN).unwrap();
    for device in devices() {
        let [mut full, mut int8] = [CacheNumbers::Full, CacheNumbers::Int8].map(|numbers| {
            pollster::block_on(async {
                let (opened, plan) = describe().await;
                put(opened, &plan.with_cache_numbers(numbers), &device, CONTEXT).await
            })
        });
        for prompt in ["english", "code", "italian"] {
            let tokens: Vec<u32> = Golden { tensors: &tensors, prompt }.words("ids");
            let host = TestHost::new();
            let [full, int8] = [&mut full, &mut int8].map(|session| {
                pollster::block_on(session.logits(&tokens, &host, &|| false)).unwrap()
            });
            let square = |x: f32| f64::from(x).powi(2);
            let error: f64 = full.iter().zip(&int8).map(|(a, b)| square(a - b)).sum();
            let nmse = error / full.iter().copied().map(square).sum::<f64>();
            let n_vocab = full.len() / tokens.len();
            let mean = mean_divergence(&full, &int8, n_vocab);
            let what = format!("{device:?}, {prompt}, {} tokens", tokens.len());
            println!("{what}: NMSE {nmse:.2e}, mean divergence {mean:.2e}");
            assert!(nmse > 0.0 && nmse <= MAX_NMSE, "{what}: {nmse:.2e}");
            assert!(mean <= MAX_DIVERGENCE, "{what}: {mean:.2e}");
        }
    }
}
