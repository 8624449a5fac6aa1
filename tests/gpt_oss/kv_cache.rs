//! Keys and values as 8-bit integers against floats.

use pesi::{engine::DeviceKind, ops::CacheNumbers, session::Session, weights::Precision};

use super::{
    divergence::mean_divergence,
    golden::logits,
    model::{CONTEXT, Golden, describe, devices, folder, nmse, put_plan, session_with_caches},
};

/// Mean Kullback-Leibler divergence of next-token distributions, in nats.
const MAX_DIVERGENCE: f64 = 0.1;

/// Median of the positions' normalised mean squared errors of logits. Where an expert is chosen for another the error
/// is far larger, and weights that are random leave the choice close.
const MAX_NMSE: f64 = 0.01;

/// The same between devices, which round to the same integers but for those between two.
const MAX_DIFFERENCE: f64 = 1e-5;

fn session(name: &str, device: &DeviceKind, numbers: CacheNumbers) -> Session {
    session_with_caches(&folder(name), device, numbers, CONTEXT)
}

fn median_error(found: &[f32], expected: &[f32], n_vocab: usize) -> f64 {
    let rows = found.chunks_exact(n_vocab).zip(expected.chunks_exact(n_vocab));
    let mut errors: Vec<f64> = rows.map(|(found, expected)| nmse(found, expected)).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

#[test]
fn integers_in_the_cache_keep_the_distributions() {
    for name in ["a1-basic", "a2-ratios"] {
        let golden = Golden::read(&folder(&format!("{name}/golden.safetensors")));
        let tokens: Vec<u32> =
            (0..5).flat_map(|prompt| golden.ids(&format!("p{prompt}.ids"))).take(CONTEXT).collect();
        let mut full = session(name, &DeviceKind::Cpu, CacheNumbers::Full);
        let n_vocab = full.config().n_vocab;
        let expected = logits(&mut full, &tokens);
        let mut on_cpu = Vec::new();
        for device in devices().into_iter().take(3) {
            let mut int8 = session(name, &device, CacheNumbers::Int8);
            let found = logits(&mut int8, &tokens);
            let error = median_error(&found, &expected, n_vocab);
            let mean = mean_divergence(&expected, &found, n_vocab);
            let what = format!("{name}, {device:?}");
            println!("{what}: median NMSE {error:.2e}, mean divergence {mean:.2e}");
            assert!(error > 0.0 && error <= MAX_NMSE, "{what}: {error:.2e}");
            assert!(mean <= MAX_DIVERGENCE, "{what}: {mean:.2e}");
            if on_cpu.is_empty() {
                on_cpu = found;
            } else {
                let difference = median_error(&found, &on_cpu, n_vocab);
                println!("{what}: {difference:.2e} from the CPU");
                assert!(difference <= MAX_DIFFERENCE, "{what}: {difference:.2e} from the CPU");
            }
        }
    }
}

#[test]
fn integers_take_half_the_memory_of_halves_and_a_quarter_of_floats() {
    let caches = |device: &DeviceKind, precision, numbers| {
        pollster::block_on(async {
            let opened = describe(&folder("a1-basic")).await.unwrap();
            let plan = opened.description.plan(precision).unwrap().with_cache_numbers(numbers);
            let (engine, _) = put_plan(opened, &plan, device, CONTEXT).await;
            engine.memory().caches
        })
    };
    for (device, precision, bits) in [
        (DeviceKind::Cpu, Precision::Compact, 32),
        (devices().remove(1), Precision::Compact, 16),
        (devices().remove(1), Precision::Exact, 32),
    ] {
        let [full, int8] = [CacheNumbers::Full, CacheNumbers::Int8]
            .map(|numbers| caches(&device, precision, numbers));
        let found = int8 as f64 * f64::from(bits) / full as f64;
        assert_eq!(found, 8.5, "{device:?}, {precision:?}");
    }
}
