//! Logits, greedy tokens and hidden states of five prompts, up to several windows long.

use std::path::{Path, PathBuf};

use pesi::{
    engine::{DeviceKind, Engine},
    session::{Request, Session},
    weights::Precision,
};

use super::model::{CONTEXT, Golden, NoHost, devices, engine, folder, nmse, session};

/// Normalised mean squared error that logits and hidden states may have.
pub const MAX_NMSE: f64 = 1e-4;

/// Gap between the two likeliest tokens below which rounding may swap them.
const MIN_GAP: f32 = 0.05;

const PROMPTS: usize = 5;

/// Greedy tokens where a software adapter computes as real ones do, which takes it long.
const FEW_TOKENS: usize = 8;

/// Each model with its goldens: weights are the same in safetensors and in 16-bit GGUF.
fn models() -> Vec<(PathBuf, Golden)> {
    let golden = |path: &str| Golden::read(&folder(path));
    ["a1-basic", "a2-ratios"]
        .into_iter()
        .flat_map(|name| {
            let safetensors = || golden(&format!("{name}/golden.safetensors"));
            [
                (folder(name), safetensors()),
                (folder(&format!("gguf/{name}.bf16.gguf")), safetensors()),
                (
                    folder(&format!("gguf/{name}.q8.gguf")),
                    golden(&format!("gguf/{name}.q8.golden.safetensors")),
                ),
            ]
        })
        .collect()
}

/// Where a model is tried: everywhere as it is published, else on the CPU and in one form of the GPU.
fn devices_for(path: &Path) -> Vec<DeviceKind> {
    let n_devices = if path.is_dir() { usize::MAX } else { 2 };
    devices().into_iter().take(n_devices).collect()
}

/// Whether the device computes in the sizes of real adapters.
fn is_sized_for_hardware(device: &DeviceKind) -> bool {
    matches!(device, DeviceKind::Gpu(hints) if hints.software == Some(false))
}

/// The logits after each of `tokens`.
pub fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    pollster::block_on(session.logits(tokens, &NoHost, &|| false)).unwrap()
}

#[test]
fn logits_and_greedy_tokens_match_the_reference() {
    for (path, golden) in models() {
        for device in devices_for(&path) {
            let mut session = session(&path, &device, Precision::Exact, CONTEXT);
            let most = if is_sized_for_hardware(&device) { FEW_TOKENS } else { usize::MAX };
            for prompt in 0..PROMPTS {
                let what = format!("{path:?}, {device:?}");
                check_logits(&mut session, &golden, prompt, &what);
                check_greedy(&mut session, &golden, prompt, most, &what);
            }
        }
    }
}

fn check_logits(session: &mut Session, golden: &Golden, prompt: usize, what: &str) {
    let tokens = golden.ids(&format!("p{prompt}.ids"));
    let n_vocab = session.config().n_vocab;
    let found = logits(session, &tokens);
    let full = format!("p{prompt}.logits");
    let error = if golden.has(&full) {
        nmse(&found, &golden.floats(&full))
    } else {
        let last = golden.floats(&format!("p{prompt}.logits_last"));
        nmse(&found[(tokens.len() - 1) * n_vocab..], &last)
    };
    println!("{what}, prompt {prompt}: NMSE {error:.2e}");
    assert!(error <= MAX_NMSE, "{what}, prompt {prompt}: NMSE {error:.2e}");
}

/// Greedy tokens are the reference's as far as these are decided, up to `most`.
pub fn check_greedy(
    session: &mut Session,
    golden: &Golden,
    prompt: usize,
    most: usize,
    what: &str,
) {
    let expected = golden.ids(&format!("p{prompt}.greedy"));
    let gaps = golden.floats(&format!("p{prompt}.greedy_gap"));
    let n = gaps.iter().position(|&gap| gap < MIN_GAP).unwrap_or(expected.len()).min(most);
    let found = generate(session, golden.ids(&format!("p{prompt}.ids")), n, false);
    assert_eq!(found, expected[..n], "{what}, prompt {prompt}");
}

/// `n` greedy tokens after `tokens`, with or without what the session has computed before.
pub fn generate(session: &mut Session, tokens: Vec<u32>, n: usize, reuse_prefix: bool) -> Vec<u32> {
    let request = Request {
        tokens,
        max_tokens: Some(n),
        ignore_eos: true,
        reuse_prefix,
        ..Default::default()
    };
    let mut found = Vec::new();
    let mut take = |events: &[pesi::session::TokenEvent]| {
        found.extend(events.iter().map(|event| event.token));
        Ok(())
    };
    pollster::block_on(session.generate(&request, &NoHost, &|| false, &mut take)).unwrap();
    found
}

/// In one chunk where the device takes it, in odd chunks that meet windows at every offset, and, but for
/// the sizes of real adapters, token by token.
#[test]
fn hidden_states_match_the_reference_however_the_prompt_is_cut() {
    for name in ["a1-basic", "a2-ratios"] {
        let golden = Golden::read(&folder(&format!("{name}/golden.safetensors")));
        for path in [folder(name), folder(&format!("gguf/{name}.bf16.gguf"))] {
            for device in devices_for(&path) {
                let mut engine = engine(&path, &device, Precision::Exact);
                let n_ways = if is_sized_for_hardware(&device) { 2 } else { 3 };
                for chunk in [70, 7, 1].into_iter().take(n_ways) {
                    let what = format!("{path:?}, {device:?}, chunks of {chunk}");
                    check_hidden_states(engine.as_mut(), &golden, chunk, &what);
                }
            }
        }
    }
}

fn check_hidden_states(engine: &mut dyn Engine, golden: &Golden, chunk: usize, what: &str) {
    let tokens = golden.ids("p0.ids");
    let width = golden.shape("p0.hidden.0")[1];
    let chunk = chunk.min(engine.max_chunk());
    let mut states: Vec<Vec<f32>> = Vec::new();
    for (i, tokens) in tokens.chunks(chunk).enumerate() {
        let found = pollster::block_on(engine.hidden_states(tokens, i * chunk)).unwrap();
        let rows = found.chunks_exact(tokens.len() * width);
        states.resize(rows.len(), Vec::new());
        states.iter_mut().zip(rows).for_each(|(state, rows)| state.extend_from_slice(rows));
    }
    for (layer, found) in states.iter().enumerate() {
        let error = nmse(found, &golden.floats(&format!("p0.hidden.{layer}")));
        assert!(error <= MAX_NMSE, "{what}, after layer {layer}: NMSE {error:.2e}");
    }
    assert!(!golden.has(&format!("p0.hidden.{}", states.len())), "all layers are compared");
}
