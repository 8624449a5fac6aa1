//! Several threads of the CPU against one: the same numbers to the last bit, whatever is asked of them.

use std::rc::Rc;

use pesi::{
    cpu::Threads,
    engine::{DeviceKind, Engine, Outputs},
    sampler::SamplingParams,
    weights::Precision,
};

use super::model::{engine, folder};

fn threads(n_threads: usize) -> DeviceKind {
    DeviceKind::Threads(Rc::new(Threads::new(n_threads)))
}

/// Everything that an engine computes for some tokens, with other ones in between.
async fn numbers(engine: &mut dyn Engine) -> Vec<f32> {
    let prompt: Vec<u32> = (0..90).map(|i| i * 37 % 128).collect();
    let chunk = |range: std::ops::Range<usize>| &prompt[range];
    let mut numbers = engine.hidden_states(chunk(0..32), 0).await.unwrap();
    engine.extend(chunk(32..60), 32, Outputs::None).await.unwrap();
    engine.extend(chunk(60..68), 60, Outputs::All).await.unwrap();
    numbers.extend(engine.logits().await.unwrap());

    let parked = engine.park(68, 68).await.unwrap().unwrap();
    engine.extend(chunk(0..5), 0, Outputs::All).await.unwrap();
    numbers.extend(engine.logits().await.unwrap());
    engine.unpark(&parked).unwrap();
    drop(parked);
    engine.extend(chunk(68..70), 68, Outputs::Last).await.unwrap();
    engine
        .start(&SamplingParams { temperature: 0.0, ..Default::default() }, &prompt[..70])
        .unwrap();
    for _ in 0..3 {
        let drawn = engine.decode(4).await.unwrap();
        let guessed = engine.decode_guessed(&prompt[..5]).await.unwrap();
        numbers.extend(drawn.iter().chain(&guessed).map(|sampled| sampled.token as f32));
    }
    numbers
}

#[test]
fn threads_compute_what_one_computes() {
    for name in ["a1-basic", "a2-ratios", "gguf/a2-ratios.q8.gguf"] {
        let [alone, together] = [DeviceKind::Cpu, threads(2)].map(|device| {
            let mut engine = engine(&folder(name), &device, Precision::Exact);
            (engine.device_name(), pollster::block_on(numbers(engine.as_mut())))
        });
        assert_eq!([alone.0.as_str(), together.0.as_str()], ["CPU", "CPU, 2 threads"]);
        assert!(alone.1 == together.1, "{name}");
    }
}

#[test]
fn a_model_has_no_more_threads_than_heads_with_keys() {
    for (n_threads, name) in [(0, "CPU"), (1, "CPU"), (64, "CPU, 2 threads")] {
        let engine = engine(&folder("a1-basic"), &threads(n_threads), Precision::Exact);
        assert_eq!(engine.device_name(), name);
    }
}

#[test]
fn what_threads_hold_is_little_more_than_what_one_holds() {
    let [alone, together] = [DeviceKind::Cpu, threads(2)]
        .map(|device| engine(&folder("a2-ratios"), &device, Precision::Exact).memory());
    assert_eq!(alone.caches, together.caches);
    // Both have the router's and norms' weights.
    assert!((alone.weights..alone.weights * 21 / 20).contains(&together.weights));
    assert!(together.scratch < 3 * alone.scratch);
}
