//! Hostile configurations and files: a typed error that names the tensor or key, never a panic.

use std::fs;

use pesi::{
    ErrorKind,
    session::{Description, Entry},
};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    files::{self, Files},
    model::folder,
};

impl Files {
    fn sound() -> Self {
        let entries = fs::read_dir(folder("a1-basic")).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        });
        Self(entries.collect())
    }

    /// With a member of a JSON file replaced, or removed.
    fn with(mut self, file: &str, key: &str, value: Option<Value>) -> Self {
        let mut object: Value = serde_json::from_slice(&self.0[file]).unwrap();
        let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
        let pointer = if parent.is_empty() { String::new() } else { format!("/{parent}") };
        let map = object.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
        let key = key.rsplit_once('.').map_or(key, |(_, key)| key);
        match value {
            Some(value) => map.insert(key.to_owned(), value),
            None => map.shift_remove(key),
        };
        self.0.insert(file.to_owned(), serde_json::to_vec(&object).unwrap());
        self
    }

    /// With the only occurrence of `from` in a file replaced by as many bytes.
    fn replaced(mut self, file: &str, from: &str, to: &str) -> Self {
        let bytes = self.0.get_mut(file).unwrap();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("it occurs");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        self
    }
}

#[track_caller]
fn refused(files: &Files, kind: ErrorKind, named: &[&str]) {
    files::refused(files, &Entry::Safetensors, kind, named);
}

#[test]
fn wrong_numbers_are_named() {
    use ErrorKind::{InvalidModel, Unsupported};
    let sound = Files::sound();
    sound.open(&Entry::Safetensors).unwrap();
    let config = "config.json";
    let cases: &[(&str, Value, ErrorKind, &[&str])] = &[
        ("num_local_experts", json!(0), InvalidModel, &["num_local_experts", "found: 0"]),
        ("num_local_experts", json!(7), InvalidModel, &["layers.0.mlp.router.weight", "[7, 64]"]),
        ("num_local_experts", json!(4_000_000_000_u32), InvalidModel, &["num_local_experts"]),
        ("num_local_experts", json!(-1), InvalidModel, &["num_local_experts"]),
        ("num_experts_per_tok", json!(9), InvalidModel, &["num_experts_per_tok", "9", "8"]),
        ("num_experts_per_tok", json!(0), InvalidModel, &["num_experts_per_tok", "0"]),
        ("num_key_value_heads", json!(3), InvalidModel, &["num_key_value_heads", "3"]),
        ("num_key_value_heads", json!(0), InvalidModel, &["num_key_value_heads"]),
        ("num_attention_heads", json!(6), InvalidModel, &["q_proj.weight", "[384, 64]"]),
        ("head_dim", json!(63), InvalidModel, &["head_dim", "63"]),
        ("head_dim", json!(8192), InvalidModel, &["head_dim", "8192", "4096"]),
        ("head_dim", json!(1_u64 << 40), InvalidModel, &["head_dim"]),
        ("num_hidden_layers", json!(5), InvalidModel, &["layer_types", "4", "5"]),
        ("num_hidden_layers", json!(0), InvalidModel, &["num_hidden_layers"]),
        ("num_hidden_layers", json!(u32::MAX), InvalidModel, &["num_hidden_layers", "4096"]),
        ("hidden_size", json!(128), InvalidModel, &["embed_tokens.weight", "[320, 128]"]),
        ("hidden_size", json!(4_294_967_295_u32), InvalidModel, &["hidden_size"]),
        ("intermediate_size", json!(96), InvalidModel, &["gate_up_proj_blocks", "[8, 192, 2, 16]"]),
        ("intermediate_size", json!(4_294_967_295_u32), InvalidModel, &["intermediate_size"]),
        ("vocab_size", json!(1 << 25), InvalidModel, &["vocab_size", "16777216"]),
        ("vocab_size", json!(319), InvalidModel, &["embed_tokens.weight", "[319, 64]"]),
        ("max_position_embeddings", json!(1 << 30), InvalidModel, &["max_position_embeddings"]),
        ("sliding_window", json!(0), InvalidModel, &["sliding_window"]),
        ("sliding_window", json!("wide"), InvalidModel, &["sliding_window", "wide"]),
        ("swiglu_limit", json!(-7), InvalidModel, &["swiglu_limit"]),
        ("rms_norm_eps", json!(1.5), InvalidModel, &["rms_norm_eps"]),
        ("rope_theta", json!(0.5), InvalidModel, &["rope_theta"]),
        ("rope_scaling.factor", json!(-32), InvalidModel, &["factor"]),
        ("rope_scaling.rope_type", json!("longrope"), Unsupported, &["rope_type", "longrope"]),
        (
            "layer_types",
            json!(["sliding_attention", "chunked_attention"]),
            Unsupported,
            &["layer_types"],
        ),
        ("model_type", json!("gpt_oss_2"), Unsupported, &["model_type", "gpt_oss_2"]),
        ("quantization_config.quant_method", json!("awq"), Unsupported, &["quant_method", "awq"]),
    ];
    for (key, value, kind, named) in cases {
        refused(&sound.clone().with(config, key, Some(value.clone())), *kind, named);
    }
    for (key, kind) in [
        ("hidden_size", InvalidModel),
        ("head_dim", InvalidModel),
        ("rope_theta", InvalidModel),
        ("sliding_window", InvalidModel),
        ("rope_scaling.factor", InvalidModel),
        ("quantization_config", Unsupported),
    ] {
        let name = key.rsplit('.').next().unwrap();
        refused(&sound.clone().with(config, key, None), kind, &[name]);
    }
}

#[test]
fn what_newer_files_say_in_other_places_is_read_there() {
    let sound = Files::sound();
    let mut config: Value = serde_json::from_slice(&sound.0["config.json"]).unwrap();
    let mut parameters = config["rope_scaling"].take();
    parameters["rope_theta"] = config["rope_theta"].take();
    let files = sound
        .with("config.json", "rope_scaling", None)
        .with("config.json", "rope_theta", None)
        .with("config.json", "num_experts_per_tok", None)
        .with("config.json", "layer_types", None)
        .with("config.json", "rope_parameters", Some(parameters));
    pollster::block_on(async {
        let opened = Description::open(&files, &Entry::Safetensors).await.unwrap();
        let expected = Description::open(&Files::sound(), &Entry::Safetensors).await.unwrap();
        assert_eq!(opened.description.config, expected.description.config);
    });
}

#[test]
fn the_end_of_a_message_does_not_end_the_answer_whatever_the_files_say() {
    let stop_ids = |files: &Files| -> (Vec<u32>, u32) {
        let opened = pollster::block_on(Description::open(files, &Entry::Safetensors)).unwrap();
        let tokenizer = opened.description.tokenizer;
        (tokenizer.stop_ids().to_vec(), tokenizer.special_id("<|end|>").unwrap())
    };
    let sound = Files::sound();
    let (expected, end) = stop_ids(&sound);
    assert!(!expected.contains(&end));
    let named: Vec<u32> = [end].into_iter().chain(expected.iter().copied()).collect();
    let files = sound.with("config.json", "eos_token_id", Some(json!(named)));
    assert_eq!(stop_ids(&files).0, expected);
}

#[test]
fn wrong_files_are_named() {
    use ErrorKind::{InvalidModel, Unsupported};
    let sound = Files::sound();
    let index = "model.safetensors.index.json";
    let without = |name: &str| {
        let mut files = sound.clone();
        files.0.remove(name).unwrap();
        files
    };
    for name in ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors"] {
        refused(&without(name), InvalidModel, &["missing", name]);
    }
    refused(&without(index), InvalidModel, &["missing", "model.safetensors"]);

    let mut overlapping = sound.clone();
    let copy = overlapping.0["model-00000-of-00002.safetensors"].clone();
    overlapping.0.insert("model-00001-of-00002.safetensors".to_owned(), copy);
    refused(&overlapping, InvalidModel, &["tensor"]);

    let parse = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    let mut absent = parse(&sound.0[index]);
    absent["weight_map"]["model.absent.weight"] = json!("model-00000-of-00002.safetensors");
    let mut files = sound.clone();
    files.0.insert(index.to_owned(), serde_json::to_vec(&absent).unwrap());
    refused(&files, InvalidModel, &["model.absent.weight", "model-00000-of-00002.safetensors"]);

    let mut unnamed = parse(&sound.0[index]);
    let file = unnamed["weight_map"].as_object_mut().unwrap().shift_remove("model.norm.weight");
    let mut files = sound.clone();
    files.0.insert(index.to_owned(), serde_json::to_vec(&unnamed).unwrap());
    refused(&files, InvalidModel, &["model.norm.weight", file.unwrap().as_str().unwrap()]);

    let mut elsewhere = parse(&sound.0[index]);
    elsewhere["weight_map"]["model.norm.weight"] = json!("../secret.safetensors");
    files.0.insert(index.to_owned(), serde_json::to_vec(&elsewhere).unwrap());
    refused(&files, InvalidModel, &["../secret.safetensors"]);

    let shard =
        |tensor: &str| parse(&sound.0[index])["weight_map"][tensor].as_str().unwrap().to_owned();
    let blocks = "model.layers.0.mlp.experts.down_proj_blocks";
    let renamed = sound.clone().replaced(&shard(blocks), blocks, &blocks.replace("_bl", "_xl"));
    refused(&renamed, InvalidModel, &[blocks]);

    for truncated in ["model-00000-of-00002.safetensors", "config.json", "tokenizer.json", index] {
        let mut files = sound.clone();
        let bytes = files.0.get_mut(truncated).unwrap();
        bytes.truncate(bytes.len() - 10);
        refused(&files, InvalidModel, &[]);
    }

    let sinks = "model.layers.0.self_attn.sinks\":{\"dtype\":\"BF16\",";
    let wrong = sinks.replace("\"BF16\",", "\"I16\" ,");
    let files = sound.clone().replaced(&shard("model.layers.0.self_attn.sinks"), sinks, &wrong);
    refused(&files, Unsupported, &["model.layers.0.self_attn.sinks", "I16"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_files_never_panic(
        file in any::<Index>(),
        flips in prop::collection::vec((any::<Index>(), 0..8_u8), 1..6),
    ) {
        let mut files = Files::sound();
        let names: Vec<String> = files.0.keys().filter(|name| !name.contains("golden")).cloned().collect();
        let bytes = files.0.get_mut(&names[file.index(names.len())]).unwrap();
        // The heads of files with tensors; small files are all head.
        let head = bytes.len().min(8000);
        for (place, bit) in flips {
            bytes[place.index(head)] ^= 1 << bit;
        }
        if let Err(error) = files.open(&Entry::Safetensors) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
