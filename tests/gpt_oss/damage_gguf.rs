//! Hostile GGUF files of gpt-oss: a typed error that names the key or the tensor, never a panic.

use std::{collections::BTreeSet, fs, sync::LazyLock};

use pesi::{
    ErrorKind::{self, InvalidModel, Unsupported},
    session::{Description, Entry},
};
use proptest::{prelude::*, sample::Index};

use super::{
    files::{self, Files},
    model::folder,
    writer::{File, array, string, tensor_type, value_type as value},
};

static SOUND: LazyLock<Vec<u8>> =
    LazyLock::new(|| fs::read(folder("gguf/a1-basic.bf16.gguf")).unwrap());

fn alone(bytes: Vec<u8>) -> (Files, Entry) {
    let name = "a1.gguf".to_owned();
    (Files([(name.clone(), bytes)].into()), Entry::Gguf(name))
}

/// The sound file after `change`.
fn changed(change: impl FnOnce(&mut File)) -> (Files, Entry) {
    let (mut file, data) = File::read(&SOUND);
    change(&mut file);
    alone(file.with_data(data))
}

#[track_caller]
fn refused((files, entry): &(Files, Entry), kind: ErrorKind, named: &[&str]) {
    files::refused(files, entry, kind, named);
}

#[test]
fn wrong_counts_are_named() {
    changed(|_| {}).0.open(&changed(|_| {}).1).unwrap();
    let cases: &[(&str, u32, &[&str])] = &[
        ("expert_count", 0, &["gpt-oss.expert_count", "zero"]),
        ("expert_count", 7, &["blk.0.ffn_gate_inp.weight", "[7, 64]", "[8, 64]"]),
        ("expert_count", 1 << 20, &["gpt-oss.expert_count", "1048576", "4096"]),
        ("expert_count", u32::MAX, &["gpt-oss.expert_count", "4096"]),
        ("expert_used_count", 0, &["gpt-oss.expert_used_count", "zero"]),
        ("expert_used_count", 9, &["gpt-oss.expert_used_count", "found: 9", "limit: 8"]),
        ("expert_used_count", u32::MAX, &["gpt-oss.expert_used_count"]),
        ("expert_feed_forward_length", 0, &["gpt-oss.expert_feed_forward_length", "zero"]),
        ("expert_feed_forward_length", 96, &["blk.0.ffn_gate_exps.weight", "[8, 96, 64]"]),
        ("expert_feed_forward_length", u32::MAX, &["feed_forward_length", "16777216"]),
        ("attention.sliding_window", 0, &["gpt-oss.attention.sliding_window", "zero"]),
        ("attention.sliding_window_pattern", 0, &["attention.sliding_window_pattern", "zero"]),
        ("attention.head_count", 0, &["gpt-oss.attention.head_count", "zero"]),
        ("attention.head_count", 6, &["blk.0.attn_q.weight", "[384, 64]"]),
        ("attention.head_count_kv", 3, &["gpt-oss.attention.head_count_kv", "found: 3"]),
        ("attention.key_length", 63, &["gpt-oss.attention.value_length"]),
        ("block_count", 0, &["gpt-oss.block_count", "zero"]),
        ("block_count", 5, &["blk.4.attn_norm.weight", "missing"]),
        ("block_count", u32::MAX, &["gpt-oss.block_count", "4294967295", "4096"]),
        ("embedding_length", 96, &["token_embd.weight", "[320, 96]"]),
        ("embedding_length", u32::MAX, &["gpt-oss.embedding_length", "16777216"]),
        ("context_length", u32::MAX, &["gpt-oss.context_length"]),
        ("rope.dimension_count", 128, &["gpt-oss.rope.dimension_count", "128", "64"]),
        ("rope.scaling.original_context_length", 0, &["original_context_length", "zero"]),
    ];
    for (key, count, named) in cases {
        let key = format!("gpt-oss.{key}");
        let files = changed(|file| file.set(&key, value::U32, count.to_le_bytes()));
        // One kind of value has two keys here, which must agree.
        let kind = if key.ends_with("key_length") { Unsupported } else { InvalidModel };
        refused(&files, kind, named);
    }
}

#[test]
fn wrong_values_are_named() {
    let pattern = "gpt-oss.attention.sliding_window_pattern";
    let array_of = |element_type: u32, len: u64, elements: &[u8]| {
        changed(|file| file.set(pattern, value::ARRAY, array(element_type, len, elements)))
    };
    refused(
        &array_of(value::BOOL, 3, &[1, 0, 1]),
        InvalidModel,
        &[pattern, "found: 3", "expected: 4"],
    );
    refused(&array_of(value::BOOL, 0, &[]), InvalidModel, &[pattern, "found: 0"]);
    refused(&array_of(value::U32, 1, &[2, 0, 0, 0]), InvalidModel, &[pattern, "array of 1 u32"]);
    let (files, entry) = array_of(value::BOOL, 4, &[1, 0, 1, 0]);
    files.open(&entry).unwrap();

    let text = |key: &str, text: &str| {
        changed(|file| file.set(key, value::STRING, string(text.as_bytes())))
    };
    let architecture = "general.architecture";
    refused(&text(architecture, "gptoss"), Unsupported, &[architecture, "Ollama", "gptoss"]);
    refused(&text(architecture, "gpt-oss-2"), Unsupported, &[architecture, "gpt-oss-2"]);
    let scaling = "gpt-oss.rope.scaling.type";
    refused(&text(scaling, "longrope"), Unsupported, &[scaling, "longrope"]);
    refused(&text("gpt-oss.expert_count", "8"), InvalidModel, &["gpt-oss.expert_count", "u32"]);

    for (key, number) in [
        ("gpt-oss.attention.layer_norm_rms_epsilon", f32::NAN),
        ("gpt-oss.rope.freq_base", 0.5),
        ("gpt-oss.rope.scaling.factor", -32.0),
        ("gpt-oss.rope.scaling.factor", f32::INFINITY),
    ] {
        let files = changed(|file| file.set(key, value::F32, number.to_le_bytes()));
        refused(&files, InvalidModel, &[key]);
    }
}

#[test]
fn the_end_of_a_message_does_not_end_the_answer_whatever_the_file_says() {
    let tokenizer = |(files, entry): (Files, Entry)| {
        pollster::block_on(Description::open(&files, &entry)).unwrap().description.tokenizer
    };
    let sound = tokenizer(changed(|_| {}));
    let end = sound.special_id("<|end|>").unwrap();
    for key in ["eos", "eot"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let named = tokenizer(changed(|file| file.set(&key, value::U32, end.to_le_bytes())));
        let sorted = |ids: &[u32]| -> BTreeSet<u32> { ids.iter().copied().collect() };
        assert_eq!(sorted(named.stop_ids()), sorted(sound.stop_ids()), "{key}");
    }
}

#[test]
fn missing_keys_are_named() {
    for key in [
        "general.architecture",
        "gpt-oss.block_count",
        "gpt-oss.context_length",
        "gpt-oss.embedding_length",
        "gpt-oss.attention.head_count",
        "gpt-oss.attention.layer_norm_rms_epsilon",
        "gpt-oss.attention.sliding_window",
        "gpt-oss.expert_count",
        "gpt-oss.expert_used_count",
        "gpt-oss.rope.scaling.factor",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ] {
        let files = changed(|file| file.entries.retain(|entry| entry.key != key.as_bytes()));
        refused(&files, InvalidModel, &[key, "missing"]);
    }
}

#[test]
fn wrong_tensors_are_named() {
    let tensor = |name: &str, change: fn(&mut super::writer::Tensor)| {
        changed(|file| {
            let tensor = file.tensors.iter_mut().find(|tensor| tensor.name == name);
            change(tensor.expect("the file has it"));
        })
    };
    let gates = "blk.0.ffn_gate_exps.weight";
    refused(
        &tensor(gates, |t| t.extents = vec![64, 8, 64]),
        InvalidModel,
        &[gates, "expected: [8, 64, 64]", "found: [64, 8, 64]"],
    );
    refused(
        &tensor(gates, |t| t.extents = vec![64, 512]),
        InvalidModel,
        &[gates, "found: [512, 64]"],
    );
    refused(&tensor(gates, |t| t.extents = vec![64, 64, 7]), InvalidModel, &[gates]);
    refused(&tensor(gates, |t| t.extents = vec![63, 64, 8]), InvalidModel, &[gates, "63"]);
    refused(&tensor(gates, |t| t.extents = vec![64, 64, 0]), InvalidModel, &[gates]);
    refused(&tensor(gates, |t| t.extents = vec![1 << 32, 1 << 32, 1]), InvalidModel, &[gates]);
    refused(&tensor(gates, |t| t.type_number = tensor_type::F32), InvalidModel, &[gates]);
    // IQ4_NL, which nothing here decodes.
    refused(&tensor(gates, |t| t.type_number = 20), Unsupported, &[gates]);
    let bias = "blk.0.ffn_gate_exps.bias";
    refused(&tensor(bias, |t| t.extents = vec![8, 64]), InvalidModel, &[bias, "[8, 64]"]);
    refused(&tensor(bias, |t| t.type_number = tensor_type::Q8_0), Unsupported, &[bias]);
    let sinks = "blk.0.attn_sinks.weight";
    refused(&tensor(sinks, |t| t.extents = vec![3]), InvalidModel, &[sinks, "[4]", "[3]"]);
    for name in [gates, bias, sinks, "blk.3.ffn_down_exps.bias", "output_norm.weight"] {
        let renamed = tensor(name, |t| t.name.replace_range(..1, "x"));
        refused(&renamed, InvalidModel, &["missing", name]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_headers_never_panic(flips in prop::collection::vec((any::<Index>(), 0..8_u8), 1..6)) {
        let mut bytes = SOUND.clone();
        // The metadata with the vocabulary, and the tensors.
        let head = 28_000;
        for (place, bit) in flips {
            bytes[place.index(head)] ^= 1 << bit;
        }
        let (files, entry) = alone(bytes);
        if let Err(error) = files.open(&entry) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
