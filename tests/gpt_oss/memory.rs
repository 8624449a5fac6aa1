//! Memory while an answer grows: keys and values have their room from the start, and nothing else is kept.

use std::{env, fs, process::Command};

use pesi::{
    engine::{DeviceKind, Engine, Outputs},
    gpu::context::AdapterHints,
    sampler::SamplingParams,
    weights::Precision,
};

use super::model::{folder, open};

const N_TOKENS: usize = 2_000;

/// Drawn before: as many as bring every kernel into use, of which splits of attention are the last.
const N_BEFORE: usize = 600;

/// Set where the test is the only one of its process, whose memory is then its own.
const ALONE: &str = "PESI_TEST_ALONE";

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
    if env::var_os(ALONE).is_none() {
        let name = "memory::memory_stays_the_same_while_two_thousand_tokens_are_drawn";
        let mut alone = Command::new(env::current_exe().unwrap());
        let outcome =
            alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&outcome.stdout);
        assert!(outcome.status.success() && text.contains("1 passed"), "{outcome:?}");
        return;
    }
    for device in [DeviceKind::Cpu, DeviceKind::Gpu(AdapterHints::default())] {
        let (mut engine, _) =
            open(&folder("a1-basic"), &device, Precision::Exact, N_BEFORE + N_TOKENS + 100);
        pollster::block_on(async {
            let prompt: Vec<u32> = (0..20).collect();
            engine.warm_up().await.unwrap();
            engine.extend(&prompt, 0, Outputs::All).await.unwrap();
            engine.start(&SamplingParams { seed: 1, ..Default::default() }, &prompt).unwrap();
            decode(engine.as_mut(), N_BEFORE).await;
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
