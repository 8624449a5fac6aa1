//! A small tokenizer of gpt-oss's kind for the tiny model: bytes, some common pairs, and the
//! special tokens from 290 on.

use serde_json::{Map, Value, json};

/// Pairs that are joined, the likeliest first. `Ġ` stands for a space.
const MERGES: [(&str, &str); 34] = [
    ("Ġ", "Ġ"),
    ("ĠĠ", "ĠĠ"),
    ("Ġ", "t"),
    ("h", "e"),
    ("i", "n"),
    ("e", "r"),
    ("o", "n"),
    ("a", "n"),
    ("r", "e"),
    ("Ġ", "a"),
    ("a", "t"),
    ("e", "n"),
    ("o", "r"),
    ("Ġt", "he"),
    ("e", "s"),
    ("i", "s"),
    ("i", "t"),
    ("Ġ", "s"),
    ("Ġ", "w"),
    ("Ġ", "o"),
    ("a", "l"),
    ("Ġ", "c"),
    ("in", "g"),
    ("Ġ", "f"),
    ("o", "u"),
    ("e", "d"),
    ("Ġ", "p"),
    ("a", "r"),
    ("an", "d"),
    ("Ġo", "f"),
    ("Ġ", "in"),
    ("l", "e"),
    ("Ġ", "b"),
    ("Ġt", "o"),
];

/// In the order of their ids.
const SPECIALS: [&str; 21] = [
    "<|startoftext|>",
    "<|endoftext|>",
    "<|reserved_200000|>",
    "<|reserved_200001|>",
    "<|return|>",
    "<|constrain|>",
    "<|reserved_200004|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|reserved_200009|>",
    "<|reserved_200010|>",
    "<|reserved_200011|>",
    "<|call|>",
    "<|reserved_200013|>",
    "<|reserved_200014|>",
    "<|reserved_200015|>",
    "<|reserved_200016|>",
    "<|reserved_200017|>",
    "<|endofprompt|>",
];

/// How gpt-oss splits a text before pairs are joined.
const SPLIT: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// The files of the tokenizer, by name.
pub fn files() -> [(&'static str, Value); 3] {
    let names = json!({
        "bos_token": SPECIALS[0],
        "eos_token": SPECIALS[4],
        "pad_token": SPECIALS[1],
    });
    let mut config = names.clone();
    config["clean_up_tokenization_spaces"] = json!(false);
    config["model_input_names"] = json!(["input_ids", "attention_mask"]);
    config["tokenizer_class"] = json!("PreTrainedTokenizerFast");
    [
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", names),
    ]
}

fn tokenizer() -> Value {
    let pairs = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    let tokens = byte_characters().into_iter().map(String::from).chain(pairs);
    let vocab: Map<String, Value> = tokens.zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let added_token = |(place, name): (usize, &&str)| {
        json!({
            "id": vocab.len() + place,
            "content": name,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    };
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIALS.iter().enumerate().map(added_token).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": { "Regex": SPLIT },
                    "behavior": "Isolated",
                    "invert": false,
                },
                byte_level,
            ],
        },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": true,
            "vocab": vocab,
            "merges": MERGES.as_slice(),
        },
    })
}

/// The characters that stand for bytes in byte-level vocabularies, in the order of their ids: bytes
/// that print are themselves and come first, the others take the characters from 256 on.
fn byte_characters() -> Vec<char> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let printing: Vec<char> = (0..=u8::MAX).filter(prints).map(char::from).collect();
    let n_others = 256 - printing.len() as u32;
    let others = (0..n_others).filter_map(|place| char::from_u32(256 + place));
    printing.into_iter().chain(others).collect()
}
