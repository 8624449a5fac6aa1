//! JSON schemas with valid and invalid instances: the grammar of a schema allows just the valid ones.
//!
//! Those of the project are in `tests/golden/schemas`. `PESI_SCHEMAS` names a folder with more of them, in
//! the same form.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use pesi::{
    constrain::{Constraint, Grammar, Grammars},
    error::{Detail, ErrorKind},
    session::{Description, Entry},
    source::LocalFolder,
    tokenizer::Tokenizer,
};
use serde_json::Value;

/// The tokenizer of SmolLM2, and its grammars.
pub fn real_vocabulary() -> (Arc<Tokenizer>, Grammars) {
    let entry = Entry::Gguf("SmolLM2-135M-Instruct.Q4_1.gguf".to_owned());
    vocabulary(".cache/models", &entry)
}

/// Those of gpt-oss, with four times as many tokens.
fn largest_vocabulary() -> (Arc<Tokenizer>, Grammars) {
    vocabulary(".cache/golden/a3-realvocab", &Entry::Safetensors)
}

/// Those of a model that the set-up fetches or unpacks.
fn vocabulary(folder: &str, entry: &Entry) -> (Arc<Tokenizer>, Grammars) {
    let folder = LocalFolder(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let opened = pollster::block_on(Description::open(&folder, entry));
    let description = opened.expect("`npm test` puts the models there").description;
    let started = Instant::now();
    let n_vocab = description.config.n_vocab;
    let grammars = Grammars::new(description.tokenizer.clone(), n_vocab).unwrap();
    println!("{n_vocab} tokens, made ready for grammars in {:.0?}", started.elapsed());
    (description.tokenizer, grammars)
}

/// Whether the grammar allows a text, and the time that each mask took.
pub fn accepts(grammar: &Grammar, tokens: &[u32], times: &mut Vec<Duration>) -> pesi::Result<bool> {
    let mut grammar = grammar.clone();
    for &token in tokens {
        if grammar.n_allowed(&[token]) == 0 {
            return Ok(false);
        }
        let started = Instant::now();
        grammar.allowed()?;
        times.push(started.elapsed());
        grammar.push(token)?;
    }
    Ok(grammar.allowed()?.1)
}

/// What came of the schemas of a folder.
#[derive(Default)]
struct Outcome {
    n_schemas: usize,
    unsupported: Vec<String>,
    wrong: Vec<String>,
    n_instances: usize,
    compiling: Vec<Duration>,
    masks: Vec<Duration>,
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

fn check(folder: &Path, (tokenizer, grammars): (Arc<Tokenizer>, Grammars)) -> Outcome {
    let mut outcome = Outcome::default();
    for path in files(folder) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        outcome.n_schemas += 1;
        let started = Instant::now();
        let grammar = match grammars.compile(&Constraint::JsonSchema(file["schema"].to_string())) {
            Ok(grammar) => grammar,
            Err(error) => {
                outcome.unsupported.push(format!("{name}: {}: {error}", error.kind().as_str()));
                continue;
            }
        };
        outcome.compiling.push(started.elapsed());
        for (index, test) in file["tests"].as_array().unwrap().iter().enumerate() {
            let valid = test["valid"].as_bool().unwrap();
            // A grammar reads properties in one order and numbers in one form, and this is how a model
            // would write them.
            let text = test["data"].to_string();
            let tokens = tokenizer.encode_ordinary(&text).unwrap();
            outcome.n_instances += 1;
            let accepted = accepts(&grammar, &tokens, &mut outcome.masks);
            if accepted.as_ref().ok() != Some(&valid) {
                let what = if valid { "valid" } else { "invalid" };
                let shown = &text[..text.floor_char_boundary(300)];
                outcome.wrong.push(format!("{name} {index}: {what} {accepted:?} {shown}"));
            }
        }
    }
    report(&mut outcome);
    outcome
}

fn report(outcome: &mut Outcome) {
    let at = |times: &mut Vec<Duration>, share: f64| {
        times.sort();
        times[((times.len() - 1) as f64 * share) as usize]
    };
    println!(
        "{} schemas, {} not served; {} instances, {} taken wrongly",
        outcome.n_schemas,
        outcome.unsupported.len(),
        outcome.n_instances,
        outcome.wrong.len()
    );
    let compiling = [0.5, 0.99].map(|share| at(&mut outcome.compiling, share));
    let masks = [0.5, 0.99, 1.0].map(|share| at(&mut outcome.masks, share));
    println!("a grammar takes {compiling:.1?} (median, p99)");
    println!("a mask takes {masks:.1?} (median, p99, longest)");
    for line in outcome.unsupported.iter().chain(&outcome.wrong) {
        println!("  {line}");
    }
}

#[test]
fn grammars_allow_valid_instances_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schemas");
    for vocabulary in [real_vocabulary(), largest_vocabulary()] {
        let outcome = check(&folder, vocabulary);
        assert!(outcome.n_schemas >= 30, "{} schemas", outcome.n_schemas);
        assert_eq!(outcome.unsupported, [""; 0]);
        assert_eq!(outcome.wrong, [""; 0]);
    }
}

#[test]
fn grammars_of_further_schemas_allow_valid_instances_alone() {
    let Some(folder) = env::var_os("PESI_SCHEMAS") else {
        println!("PESI_SCHEMAS names no folder");
        return;
    };
    for vocabulary in [real_vocabulary(), largest_vocabulary()] {
        let outcome = check(Path::new(&folder), vocabulary);
        assert_eq!(outcome.wrong, [""; 0]);
        let n_served = outcome.n_schemas - outcome.unsupported.len();
        assert!(n_served * 100 >= outcome.n_schemas * 90, "{n_served} of {}", outcome.n_schemas);
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let (_, grammars) = real_vocabulary();
    let refuse = |constraint: Constraint| match grammars.compile(&constraint) {
        Ok(_) => panic!("{constraint:?} is taken"),
        Err(error) => error,
    };
    for (schema, keyword) in [
        (r#"{"type":"array","items":{"type":"string"},"uniqueItems":true}"#, "uniqueItems"),
        (r#"{"not":{"type":"string"}}"#, "not"),
        (r#"{"if":{"type":"string"},"then":{"minLength":2}}"#, "if"),
        (r#"{"type":"array","contains":{"type":"string"}}"#, "contains"),
        (r#"{"oneOf":[{"type":"number"},{"type":"integer"}]}"#, "oneOf"),
        (r#"{"type":"string","format":"uri-reference"}"#, "format"),
    ] {
        let error = refuse(Constraint::JsonSchema(schema.to_owned()));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let Some(Detail::Text(named)) = error.detail("keyword") else { panic!("{error}") };
        assert!(named.contains(keyword), "{error}");
    }
    for (schema, what) in [
        ("{", "not JSON"),
        ("3", "no object"),
        ("false", "no object"),
        (r#"{"type":"text"}"#, "cannot be served"),
        (r##"{"$ref":"#/$defs/none"}"##, "cannot be served"),
        (r#"{"type":"integer","minimum":3,"maximum":2}"#, "cannot be served"),
    ] {
        let error = refuse(Constraint::JsonSchema(schema.to_owned()));
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{schema}: {error}");
        assert!(error.to_string().contains(what), "{schema}: {error}");
    }
    let error = refuse(Constraint::Regex("(a".to_owned()));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = refuse(Constraint::Lark("start: nothing".to_owned()));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = refuse(Constraint::Regex("a".repeat((1 << 20) + 1)));
    assert!(error.to_string().contains("limit: 1048576"), "{error}");
}

#[test]
fn grammars_of_other_kinds_allow_their_texts() {
    let (tokenizer, grammars) = real_vocabulary();
    let lark = r#"
start: sum
sum: product ("+" product)*
product: NUMBER ("*" NUMBER)*
NUMBER: /[0-9]+/
"#;
    let object = Constraint::JsonObject;
    for (constraint, text, allowed) in [
        (Constraint::Regex("(yes|no)[.!]?".to_owned()), "yes!", true),
        (Constraint::Regex("(yes|no)[.!]?".to_owned()), "yes", true),
        (Constraint::Regex("(yes|no)[.!]?".to_owned()), "maybe", false),
        (Constraint::Lark(lark.to_owned()), "12*3+4", true),
        (Constraint::Lark(lark.to_owned()), "12*+4", false),
        (object.clone(), r#"{"a": [1, {"b": null}]}"#, true),
        (object.clone(), "[1]", false),
        (object.clone(), "<|im_end|>", false),
        (object, "{", false),
    ] {
        let grammar = grammars.compile(&constraint).unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        let found = accepts(&grammar, &tokens, &mut Vec::new()).unwrap();
        assert_eq!(found, allowed, "{constraint:?}: {text}");
    }
}

#[test]
fn white_space_ends() {
    let (tokenizer, grammars) = real_vocabulary();
    let mut grammar = grammars.compile(&Constraint::JsonObject).unwrap();
    let text = format!("{{{}", " ".repeat(40));
    let tokens: Vec<u32> =
        text.chars().flat_map(|c| tokenizer.encode(&c.to_string()).unwrap()).collect();
    assert_eq!(tokens.len(), 41);
    assert_eq!(grammar.n_allowed(&tokens), 33);
}
