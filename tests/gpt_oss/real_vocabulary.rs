//! A small model with the whole vocabulary of gpt-oss and its official tokenizer, which set-up unpacks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pesi::{engine::DeviceKind, weights::Precision};
use serde_json::Value;

use super::{
    golden::{MAX_NMSE, check_greedy, logits},
    model::{CONTEXT, Golden, describe, devices, nmse, session},
};

const PROMPTS: usize = 4;

/// How far below the largest logit that of the reference's likeliest token may be.
const MAX_SHORTFALL: f32 = 0.05;

fn model() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/golden/a3-realvocab");
    assert!(folder.is_dir(), "{} is there: `node tools/setup.mjs` unpacks it", folder.display());
    folder
}

/// The CPU, and the GPU as it is.
fn two_devices() -> impl Iterator<Item = DeviceKind> {
    devices().into_iter().take(2)
}

#[test]
fn prompts_have_the_tokens_of_the_official_tokenizer() {
    let golden = Golden::read(&model().join("golden.safetensors"));
    let description = pollster::block_on(describe(&model())).unwrap().description;
    let facts = fs::read(model().join("golden.json")).unwrap();
    let facts: Value = serde_json::from_slice(&facts).unwrap();
    let prompts = facts["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), PROMPTS);
    for (index, prompt) in prompts.iter().enumerate() {
        let text = prompt["text"].as_str().unwrap();
        let tokens = golden.ids(&format!("p{index}.ids"));
        assert_eq!(description.prompt_tokens(text).unwrap(), tokens, "{text}");
        assert_eq!(description.tokenizer.decode(&tokens), text);
    }
}

#[test]
fn logits_over_the_whole_vocabulary_match_the_reference() {
    let golden = Golden::read(&model().join("golden.safetensors"));
    for device in two_devices() {
        let mut session = session(&model(), &device, Precision::Exact, CONTEXT);
        let n_vocab = session.config().n_vocab;
        for prompt in 0..PROMPTS {
            let found = logits(&mut session, &golden.ids(&format!("p{prompt}.ids")));
            check_prompt(&golden, prompt, n_vocab, &found, &format!("{device:?}, prompt {prompt}"));
        }
    }
}

fn check_prompt(golden: &Golden, prompt: usize, n_vocab: usize, found: &[f32], what: &str) {
    let columns = golden.ids(&format!("p{prompt}.logit_cols"));
    let rows = || found.chunks_exact(n_vocab);
    let at_columns: Vec<f32> =
        rows().flat_map(|row| columns.iter().map(|&column| row[column as usize])).collect();
    // All columns for one prompt, the first for others.
    let last = golden.floats(&format!("p{prompt}.logits_last"));
    let found_last = &found[found.len() - n_vocab..][..last.len()];
    let errors = [
        nmse(&at_columns, &golden.floats(&format!("p{prompt}.logits_at_cols"))),
        nmse(found_last, &last),
    ];
    println!("{what}: NMSE {:.2e} at columns, {:.2e} of the last row", errors[0], errors[1]);
    assert!(errors.iter().all(|&error| error <= MAX_NMSE), "{what}: NMSE {errors:?}");

    let likeliest = golden.ids(&format!("p{prompt}.argmax"));
    assert_eq!(likeliest.len(), rows().count());
    for (position, (row, id)) in rows().zip(likeliest).enumerate() {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shortfall = largest - row[id as usize];
        assert!(shortfall <= MAX_SHORTFALL, "{what}: {id} at {position} is {shortfall} below");
    }
}

#[test]
fn greedy_tokens_of_the_whole_vocabulary_match_the_reference() {
    let golden = Golden::read(&model().join("golden.safetensors"));
    for device in two_devices() {
        let mut session = session(&model(), &device, Precision::Exact, CONTEXT);
        for prompt in 0..PROMPTS {
            check_greedy(
                &mut session,
                &golden,
                prompt,
                usize::MAX,
                &format!("a3-realvocab, {device:?}"),
            );
        }
    }
}
