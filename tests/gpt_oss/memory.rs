//! Memory while an answer grows: keys and values have their room from the start, and nothing else is kept.

use std::fs;

use pesi::{
    engine::{DeviceKind, Engine},
    gpu::context::AdapterHints,
    sampler::SamplingParams,
    weights::Precision,
};

use super::model::{folder, open};

const N_TOKENS: usize = 2_000;

/// Bytes of memory that this process has in use, where the system tells.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

async fn decode(engine: &mut dyn Engine, n_tokens: usize) {
    let mut left = n_tokens;
    while left > 0 {
        let drawn = engine.decode(left.min(engine.max_batch())).await.unwrap();
        left -= drawn.len();
    }
}

#[test]
fn memory_stays_the_same_while_two_thousand_tokens_are_drawn() {
    for device in [DeviceKind::Cpu, DeviceKind::Gpu(AdapterHints::default())] {
        let (mut engine, _) = open(&folder("a1-basic"), &device, Precision::Exact, N_TOKENS + 200);
        pollster::block_on(async {
            let prompt: Vec<u32> = (0..20).collect();
            engine.warm_up().await.unwrap();
            engine.extend(&prompt, 0).await.unwrap();
            engine.start(&SamplingParams { seed: 1, ..Default::default() }, &prompt).unwrap();
            // Kernels are compiled at their first use, and batches grow.
            decode(engine.as_mut(), 100).await;
            let (held, before) = (engine.in_use(0), resident());
            decode(engine.as_mut(), N_TOKENS).await;
            assert_eq!(engine.in_use(0), held, "{device:?}");
            if let (Some(before), Some(after)) = (before, resident()) {
                // Keys and values are in use from when they are written.
                let most = before + engine.memory().caches + (4 << 20);
                assert!(after <= most, "{device:?}: {before} bytes became {after}");
            }
        });
    }
}
