//! Chunks whose outputs are not all wanted: what is drawn from the last one is what is drawn from it among all.

use pesi::{
    engine::{DeviceKind, Engine, Outputs},
    sampler::SamplingParams,
    weights::Precision,
};

use super::model::{Golden, devices, engine, folder, nmse};

const MODEL: &str = "a2-ratios";

/// Tokens of the last chunk.
const N_LAST: usize = 7;

/// Logits of the last of `tokens`, and tokens drawn from them, where the chunks have `outputs`.
async fn answer(
    engine: &mut dyn Engine,
    tokens: &[u32],
    [first, last]: [Outputs; 2],
) -> (Vec<f32>, Vec<u32>) {
    let (before, end) = tokens.split_at(tokens.len() - N_LAST);
    let max_chunk = engine.max_chunk().min(20);
    for (index, chunk) in before.chunks(max_chunk).enumerate() {
        engine.extend(chunk, index * max_chunk, first).await.unwrap();
    }
    engine.extend(end, before.len(), last).await.unwrap();
    let logits = engine.logits().await.unwrap();
    let n_rows = if last == Outputs::All { N_LAST } else { 1 };
    let n_vocab = logits.len() / n_rows;
    let greedy = SamplingParams { temperature: 0.0, ..Default::default() };
    engine.start(&greedy, tokens).unwrap();
    let mut drawn = Vec::new();
    while drawn.len() < 8 {
        drawn.extend(engine.decode(1).await.unwrap().iter().map(|sampled| sampled.token));
    }
    (logits[logits.len() - n_vocab..].to_vec(), drawn)
}

#[test]
fn the_last_of_a_chunk_has_the_outputs_that_it_has_among_all() {
    let golden = Golden::read(&folder(&format!("{MODEL}/golden.safetensors")));
    for device in devices() {
        let mut engine = engine(&folder(MODEL), &device, Precision::Exact);
        for prompt in 0..5 {
            let tokens = golden.ids(&format!("p{prompt}.ids"));
            if tokens.len() <= N_LAST {
                continue;
            }
            let mut answer =
                |outputs| pollster::block_on(answer(engine.as_mut(), &tokens, outputs));
            let (expected, expected_tokens) = answer([Outputs::All; 2]);
            let (found, found_tokens) = answer([Outputs::None, Outputs::Last]);
            match device {
                DeviceKind::Cpu => assert!(found == expected, "{prompt}"),
                _ => {
                    let error = nmse(&found, &expected);
                    assert!(error < 1e-9, "{device:?}, {prompt}: {error}");
                }
            }
            assert_eq!(found_tokens, expected_tokens, "{device:?}, {prompt}");
        }
    }
}
