//! Samples at temperature 1: each that is complete is what its schema describes. Those of a real model for
//! some of the project's schemas are in `answers`.
//!
//! `PESI_SCHEMAS` names a folder with more schemas, in the form of those in `tests/golden/schemas`: the
//! two hundred of JSONSchemaBench take most of an hour.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use pesi::{
    ErrorKind,
    chat::harmony::MessageKind,
    engine::DeviceKind,
    session::{Request, Session},
};
use serde_json::Value;

use super::{
    answers::{Answer, PROMPT, answering, problems, random_model, request, run},
    schemas::files,
    smollm2,
};

/// A model that is sampled from.
struct Sampled {
    name: &'static str,
    session: Session,
    prompt: Vec<u32>,
    bias: Vec<(u32, f32)>,
    max_tokens: usize,
}

impl Sampled {
    /// SmolLM2 on the CPU.
    fn real(max_tokens: usize) -> Self {
        let session = smollm2::open(&DeviceKind::Cpu, 768);
        let prompt = session.tokenizer().encode(PROMPT).unwrap();
        Self { name: "SmolLM2", session, prompt, bias: Vec::new(), max_tokens }
    }

    /// A tiny gpt-oss of random weights, which would end a text once in some hundred tokens: those that
    /// end texts, lists and objects are made likelier.
    fn random(max_tokens: usize) -> Self {
        let (session, prompt, mut bias) = random_model(&DeviceKind::Cpu);
        for text in ["\"", "]", "}", ",", ":"] {
            bias.extend(
                session.tokenizer().encode(text).unwrap().iter().map(|&token| (token, 6.0)),
            );
        }
        Self { name: "a tiny gpt-oss", session, prompt, bias, max_tokens }
    }

    fn sample(&mut self, schema: &Value, seed: u64) -> pesi::Result<Answer> {
        let mut request: Request =
            request(self.prompt.clone(), self.max_tokens, seed, answering(schema));
        request.sampling.logit_bias.clone_from(&self.bias);
        run(&mut self.session, &request)
    }
}

/// What an answer says, where it says something, and is complete.
fn said(answer: &Answer) -> Option<String> {
    if !answer.has_ended {
        return None;
    }
    let messages = answer.messages();
    let (kind, _, text) = messages.last()?;
    assert_eq!(*kind, MessageKind::Final);
    Some(text.clone())
}

/// Samples `n` times for each of `files`; asserts that at least `min_complete` of a hundred are complete.
fn sample_all(mut model: Sampled, files: &[PathBuf], n: u64, min_complete: usize) {
    let started = Instant::now();
    let (mut n_samples, mut n_complete, mut n_tokens) = (0, 0, 0);
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    for path in files {
        let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let (schema, name) = (&file["schema"], path.file_stem().unwrap().to_string_lossy());
        for seed in 0..n {
            let answer = match model.sample(schema, seed) {
                Ok(answer) => answer,
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    refused.push(format!("{name}: {error}"));
                    break;
                }
                Err(error) => {
                    wrong.push(format!("{name}: {error}"));
                    break;
                }
            };
            n_samples += 1;
            n_tokens += answer.events.len();
            let Some(text) = said(&answer) else { continue };
            n_complete += 1;
            let problems = problems(schema, &text);
            if !problems.is_empty() {
                wrong.push(format!("{name}, seed {seed}: {text}: {problems:?}"));
            }
        }
    }
    println!(
        "{}: {} schemas, {} not served; {n_samples} samples, {n_complete} complete, {} wrong; \
         {n_tokens} tokens in {:.0?}",
        model.name,
        files.len(),
        refused.len(),
        wrong.len(),
        started.elapsed()
    );
    refused.iter().chain(&wrong).for_each(|line| println!("  {line}"));
    assert_eq!(wrong, [""; 0]);
    let share = n_complete * 100 / n_samples;
    assert!(share >= min_complete, "{share} of a hundred samples are complete");
}

#[test]
fn complete_samples_are_what_their_schemas_describe() {
    let own = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schemas"));
    sample_all(Sampled::random(200), &own, 3, 70);
}

#[test]
fn complete_samples_of_further_schemas_are_what_these_describe() {
    let Some(folder) = env::var_os("PESI_SCHEMAS") else {
        println!("PESI_SCHEMAS names no folder");
        return;
    };
    let further = files(Path::new(&folder));
    sample_all(Sampled::random(300), &further, 2, 40);
    sample_all(Sampled::real(150), &further, 1, 25);
}
