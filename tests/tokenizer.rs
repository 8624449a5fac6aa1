//! Tokenizers against the ids that Hugging Face's library gives, and against files that lie.

use std::collections::BTreeMap;

use pesi::{
    Error, ErrorKind,
    checkpoint::{Gguf, Parsed},
    error::Detail,
    tokenizer::{GgufVocabulary, Tokenizer},
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

const SMOLLM2: &[u8] = include_bytes!("golden/smollm2/tokenizer_from_gguf.json");

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

/// The part of the gpt-oss vocabulary that the cases need; the other ids are unused.
#[derive(Deserialize)]
struct O200k {
    n_vocab: usize,
    tokens: BTreeMap<String, usize>,
    special: BTreeMap<String, usize>,
    merges: Vec<String>,
    cases: Vec<Case>,
}

impl O200k {
    fn read() -> Self {
        serde_json::from_str(include_str!("golden/tokenizer/o200k.json")).unwrap()
    }

    fn tokenizer(&self) -> Tokenizer {
        let mut tokens = vec![""; self.n_vocab];
        let mut token_types = vec![5; self.n_vocab];
        for (kind, entries) in [(1, &self.tokens), (3, &self.special)] {
            for (text, id) in entries {
                tokens[*id] = text;
                token_types[*id] = kind;
            }
        }
        Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
            model: "gpt2",
            pre: Some("gpt-4o"),
            tokens,
            token_types: &token_types,
            merges: self.merges.iter().map(String::as_str).collect(),
            bos: Some(199_998),
            ends: [Some(200_002), None, None],
            add_bos: None,
        })
        .unwrap()
    }
}

/// The 256 characters that spell the bytes.
fn alphabet() -> Vec<String> {
    let visible = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let moved = 256..256 + (0..256).filter(|byte| !visible(byte)).count() as u32;
    let characters = (0..256).filter(visible).chain(moved);
    characters.map(|code| char::from_u32(code).unwrap().to_string()).collect()
}

/// A vocabulary of the single bytes and these.
struct Small {
    tokens: Vec<String>,
    token_types: Vec<i32>,
    merges: Vec<String>,
}

impl Small {
    fn new(more: &[(&str, i32)], merges: &[&str]) -> Self {
        let mut tokens = alphabet();
        let mut token_types = vec![1; tokens.len()];
        for (text, kind) in more {
            tokens.push((*text).to_owned());
            token_types.push(*kind);
        }
        let merges = merges.iter().map(|merge| (*merge).to_owned()).collect();
        Self { tokens, token_types, merges }
    }

    fn gguf(&self) -> GgufVocabulary<'_> {
        GgufVocabulary {
            model: "gpt2",
            pre: Some("gpt-2"),
            tokens: self.tokens.iter().map(String::as_str).collect(),
            token_types: &self.token_types,
            merges: self.merges.iter().map(String::as_str).collect(),
            ..Default::default()
        }
    }

    fn build(&self) -> Result<Tokenizer, Error> {
        Tokenizer::from_gguf_vocabulary(&self.gguf())
    }
}

fn texts_of(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|id| tokenizer.decode(&[*id])).collect()
}

#[test]
fn smollm2_gives_the_ids_of_the_reference() {
    let tokenizer = Tokenizer::from_json(SMOLLM2).unwrap();
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("golden/tokenizer/smollm2.json")).unwrap();
    for case in cases {
        assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{:?}", case.text);
        if !case.ids.iter().any(|id| tokenizer.is_special(*id)) {
            assert_eq!(tokenizer.encode_ordinary(&case.text).unwrap(), case.ids);
        }
    }
}

#[test]
fn gpt_oss_gives_the_ids_of_the_reference() {
    let golden = O200k::read();
    let tokenizer = golden.tokenizer();
    for case in &golden.cases {
        assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{:?}", case.text);
        assert_eq!(tokenizer.decode(&case.ids), case.text);
    }
    assert_eq!(tokenizer.n_vocab(), 200_019);
    assert_eq!(tokenizer.stop_ids(), [200_002, 200_012, 199_999]);
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(199_998), false));
}

#[test]
fn a_gguf_vocabulary_and_a_tokenizer_json_make_the_same_tokenizer() {
    let from_json = Tokenizer::from_json(SMOLLM2).unwrap();
    let file: Value = serde_json::from_slice(SMOLLM2).unwrap();
    let vocab = file["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![""; vocab.len()];
    let mut token_types = vec![1; vocab.len()];
    for (text, id) in vocab {
        tokens[id.as_u64().unwrap() as usize] = text;
    }
    for added in file["added_tokens"].as_array().unwrap() {
        token_types[added["id"].as_u64().unwrap() as usize] = 3;
    }
    let pairs = file["model"]["merges"].as_array().unwrap();
    let merges: Vec<String> = pairs
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    let from_gguf = Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
        model: "gpt2",
        pre: Some("smollm"),
        tokens,
        token_types: &token_types,
        merges: merges.iter().map(String::as_str).collect(),
        bos: Some(1),
        ends: [Some(2), None, None],
        add_bos: Some(false),
    })
    .unwrap();
    assert_eq!(from_gguf.stop_ids(), [2, 0]);
    assert_eq!(from_gguf.n_vocab(), from_json.n_vocab());
    let text = "<|im_start|>user\nPerché 1234 naïve façades? 日本語 🙂<|im_end|>\n";
    assert_eq!(from_gguf.encode(text).unwrap(), from_json.encode(text).unwrap());
    for id in 0..from_json.n_vocab() as u32 + 1 {
        assert_eq!(from_gguf.token_bytes(id), from_json.token_bytes(id));
        assert_eq!(from_gguf.is_special(id), from_json.is_special(id));
    }
}

#[test]
fn special_tokens_are_ids_in_trusted_text_and_text_in_ordinary_text() {
    let tokenizer = Tokenizer::from_json(SMOLLM2).unwrap();
    let text = "<|im_start|>user\nHi<|im_end|>";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(texts_of(&tokenizer, &ids), ["<|im_start|>", "user", "\n", "Hi", "<|im_end|>"]);
    assert_eq!((ids[0], tokenizer.is_special(1), tokenizer.is_special(ids[1])), (1, true, false));
    let ordinary = tokenizer.encode_ordinary(text).unwrap();
    assert!(ordinary.iter().all(|id| !tokenizer.is_special(*id)));
    assert_eq!(tokenizer.decode(&ordinary), text);
    assert_eq!(tokenizer.special_id("<|im_end|>"), Some(2));
    assert_eq!(tokenizer.special_id("user"), None);
}

#[test]
fn of_several_special_tokens_the_leftmost_and_then_the_longest_is_found() {
    let small = Small::new(&[("<a", 3), ("<a><b>", 3), ("<b", 4), ("aa", 4)], &[]);
    let tokenizer = small.build().unwrap();
    let split = |text: &str| texts_of(&tokenizer, &tokenizer.encode(text).unwrap());
    assert_eq!(split("<a><b>"), ["<a><b>"]);
    assert_eq!(split("<a><b"), ["<a", ">", "<b"]);
    assert_eq!(split("x<<aaaa"), ["x", "<", "<a", "aa", "a"]);
    let ordinary = tokenizer.encode_ordinary("<a><b>aa").unwrap();
    assert_eq!(texts_of(&tokenizer, &ordinary), ["<", "a", ">", "<b", ">", "aa"]);
}

#[test]
fn merges_apply_by_rank_and_then_from_the_left() {
    let tokens = [("ab", 1), ("bc", 1), ("abc", 1), ("aa", 1), ("aaa", 1)];
    let merges = ["b c", "a b", "a bc", "a a", "aa a"];
    let tokenizer = Small::new(&tokens, &merges).build().unwrap();
    let split = |text: &str| texts_of(&tokenizer, &tokenizer.encode(text).unwrap());
    assert_eq!(split("abc"), ["abc"]);
    assert_eq!(split("abab"), ["ab", "ab"]);
    assert_eq!(split("aaaa"), ["aa", "aa"]);
    assert_eq!(split("aaaaa"), ["aa", "aaa"]);
    assert_eq!(split("aabc"), ["a", "abc"]);
}

#[test]
fn whole_words_bypass_the_merges_only_where_the_family_says_so() {
    let small = Small::new(&[("abc", 1)], &[]);
    let encode = |pre| {
        let vocabulary = GgufVocabulary { pre: Some(pre), ..small.gguf() };
        let tokenizer = Tokenizer::from_gguf_vocabulary(&vocabulary).unwrap();
        tokenizer.encode("abc").unwrap().len()
    };
    let lengths = ["gpt-2", "smollm", "qwen2", "llama-bpe", "gpt-4o"].map(encode);
    assert_eq!(lengths, [3, 3, 3, 1, 1]);
}

#[test]
fn ids_that_stand_for_nothing_decode_to_nothing() {
    let small = Small::new(&[("[PAD]", 5), ("<end>", 3)], &[]);
    let tokenizer = small.build().unwrap();
    assert_eq!(tokenizer.token_bytes(256), None);
    assert_eq!(tokenizer.token_bytes(257), Some(b"<end>".as_slice()));
    assert_eq!(tokenizer.token_bytes(258), None);
    assert_eq!(tokenizer.decode(&[0, 256, 257, 258, u32::MAX, 1]), "!<end>\"");
    assert_eq!(tokenizer.encode("[PAD]").unwrap().len(), 5);
}

#[test]
fn half_a_character_decodes_to_a_replacement() {
    let tokenizer = Small::new(&[], &[]).build().unwrap();
    let ids = tokenizer.encode("è!").unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(tokenizer.token_bytes(ids[0]), Some([0xC3].as_slice()));
    assert_eq!(tokenizer.decode(&ids), "è!");
    assert_eq!(tokenizer.decode(&ids[1..]), "\u{FFFD}!");
}

#[test]
fn bytes_without_a_token_are_left_out() {
    let mut small = Small::new(&[], &[]);
    small.tokens.retain(|token| token != "b");
    small.token_types.pop();
    let tokenizer = small.build().unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("abc").unwrap()), "ac");
}

#[test]
fn stop_ids_are_those_of_the_file_and_those_known_by_name() {
    let more = [("<|im_end|>", 3), ("<|endoftext|>", 4), ("<|eot_id|>", 3), ("<eos>", 3)];
    let small = Small::new(&more, &[]);
    let vocabulary = GgufVocabulary {
        ends: [Some(259), Some(258), None],
        bos: Some(256),
        add_bos: Some(true),
        ..small.gguf()
    };
    let tokenizer = Tokenizer::from_gguf_vocabulary(&vocabulary).unwrap();
    assert_eq!(tokenizer.stop_ids(), [259, 258, 256]);
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(256), true));
    let tokenizer = tokenizer.with_stop_ids(&[3, 258]).unwrap().with_bos(None, true).unwrap();
    assert_eq!(tokenizer.stop_ids(), [259, 258, 256, 3]);
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (None, false));
    assert_eq!(tokenizer.with_stop_ids(&[260]).unwrap_err().kind(), ErrorKind::InvalidModel);
}

#[test]
fn vocabularies_that_contradict_themselves_are_refused() {
    let refused = |more: &[(&str, i32)], merges: &[&str]| {
        let error = Small::new(more, merges).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel);
        error
    };
    let error = refused(&[("a", 1)], &[]);
    assert_eq!(error.detail("token"), Some(&Detail::from("a")));
    assert_eq!(error.detail("second"), Some(&Detail::from(256u32)));
    refused(&[("<x>", 3), ("<x>", 4)], &[]);
    refused(&[("<x>", 9)], &[]);
    refused(&[("<x>", -1)], &[]);
    for merge in ["ab", "a  b", " a", "a ", "", "a zz", "a b", "a\u{2000}b c", "a b c"] {
        let error = refused(&[("abc", 1)], &[merge]);
        assert_eq!(error.detail("merge"), Some(&Detail::from(0u32)), "{merge:?}");
    }
    let error = refused(&[("ab", 1)], &["a b", "a b"]);
    assert_eq!(error.detail("first"), Some(&Detail::from(0u32)));

    let small = Small::new(&[], &[]);
    let refused = |vocabulary| {
        let error = Tokenizer::from_gguf_vocabulary(&vocabulary).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel);
    };
    refused(GgufVocabulary { tokens: Vec::new(), token_types: &[], ..small.gguf() });
    refused(GgufVocabulary { token_types: &[1; 255], ..small.gguf() });
    refused(GgufVocabulary { bos: Some(256), ..small.gguf() });
    refused(GgufVocabulary { ends: [None, None, Some(u32::MAX)], ..small.gguf() });
}

#[test]
fn other_kinds_of_tokenizer_are_unsupported_by_name() {
    let small = Small::new(&[], &[]);
    let unsupported = |vocabulary, name: &str| {
        let error = Tokenizer::from_gguf_vocabulary(&vocabulary).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    };
    unsupported(GgufVocabulary { model: "llama", ..small.gguf() }, "llama");
    unsupported(GgufVocabulary { pre: Some("tekken"), ..small.gguf() }, "tekken");
    unsupported(GgufVocabulary { pre: None, ..small.gguf() }, "tokenizer.ggml.pre");
}

/// A GGUF file of nothing but a tokenizer, less the keys in `without`.
fn gguf_of(small: &Small, without: &[&str]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let strings = |texts: &[String]| {
        let texts: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
        (9u32, [8u32.to_le_bytes().as_slice(), &texts].concat())
    };
    let counted = |(kind, array): (u32, Vec<u8>), len: usize| {
        let (element, rest) = array.split_at(4);
        (kind, [element, &(len as u64).to_le_bytes(), rest].concat())
    };
    let types: Vec<u8> = small.token_types.iter().flat_map(|kind| kind.to_le_bytes()).collect();
    let types = (9u32, [5u32.to_le_bytes().as_slice(), &types].concat());
    let mut entries = vec![
        ("model", (8u32, string("gpt2"))),
        ("pre", (8, string("gpt-2"))),
        ("tokens", counted(strings(&small.tokens), small.tokens.len())),
        ("token_type", counted(types, small.token_types.len())),
        ("merges", counted(strings(&small.merges), small.merges.len())),
        ("eos_token_id", (4, 7u32.to_le_bytes().to_vec())),
        ("add_bos_token", (7, vec![1])),
        ("bos_token_id", (4, 5u32.to_le_bytes().to_vec())),
    ];
    entries.retain(|(key, _)| !without.contains(key));
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    for (key, (kind, value)) in entries {
        bytes.extend(string(&format!("tokenizer.ggml.{key}")));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

#[test]
fn the_metadata_of_a_gguf_file_makes_a_tokenizer() {
    let small = Small::new(&[("ab", 1), ("<x>", 3)], &["a b"]);
    let build = |without: &[&str]| {
        let bytes = gguf_of(&small, without);
        let Parsed::Complete(gguf) = Gguf::parse(&bytes, bytes.len() as u64).unwrap() else {
            panic!("the file is complete");
        };
        Tokenizer::from_gguf(&gguf.metadata)
    };
    let tokenizer = build(&[]).unwrap();
    assert_eq!(tokenizer.encode("ab<x>").unwrap(), [256, 257]);
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(5), true));
    assert_eq!(tokenizer.stop_ids(), [7]);
    let bare = build(&["token_type", "eos_token_id", "bos_token_id", "add_bos_token"]).unwrap();
    assert_eq!((bare.bos(), bare.add_bos(), bare.is_special(257)), (None, false, false));
    for key in ["model", "tokens", "merges"] {
        let error = build(&[key]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel);
        assert_eq!(error.detail("key"), Some(&Detail::from(format!("tokenizer.ggml.{key}"))));
    }
}

/// A small `tokenizer.json`.
fn tokenizer_json() -> Value {
    let mut vocab: serde_json::Map<String, Value> =
        alphabet().into_iter().zip(0..).map(|(text, id)| (text, json!(id))).collect();
    vocab.insert("ab".to_owned(), json!(256));
    json!({
        "version": "1.0",
        "added_tokens": [
            { "id": 300, "content": "<end>", "special": true },
            { "id": 301, "content": "<tool>", "special": false, "normalized": false },
        ],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "use_regex": true },
        "post_processor": {
            "type": "Sequence",
            "processors": [
                { "type": "ByteLevel" },
                {
                    "type": "TemplateProcessing",
                    "single": [{ "SpecialToken": { "id": "<end>" } }, { "Sequence": { "id": "A" } }],
                    "special_tokens": { "<end>": { "id": "<end>", "ids": [300] } },
                },
            ],
        },
        "model": { "type": "BPE", "vocab": vocab, "merges": ["a b"], "unk_token": null },
    })
}

fn read(json: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_json(json.to_string().as_bytes())
}

#[test]
fn a_tokenizer_json_may_write_merges_in_two_ways_and_leave_ids_out() {
    let mut json = tokenizer_json();
    let tokenizer = read(&json).unwrap();
    json["model"]["merges"] = json!([["a", "b"]]);
    let other = read(&json).unwrap();
    for tokenizer in [&tokenizer, &other] {
        assert_eq!(tokenizer.encode("ab<tool><end>").unwrap(), [256, 301, 300]);
        assert_eq!(tokenizer.encode_ordinary("<tool><end>").unwrap().len(), 6);
        assert_eq!((tokenizer.n_vocab(), tokenizer.token_bytes(299)), (302, None));
        assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(300), true));
    }
}

#[test]
fn the_rules_of_a_tokenizer_json_are_followed() {
    let words = |pre_tokenizer: Value, text: &str| {
        let mut json = tokenizer_json();
        json["model"]["ignore_merges"] = json!(true);
        json["pre_tokenizer"] = pre_tokenizer;
        read(&json).unwrap().encode(text).unwrap().len()
    };
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
    let split = |pattern: Value, behavior: &str| {
        let split = json!({
            "type": "Split", "pattern": pattern, "behavior": behavior, "invert": false,
        });
        json!({ "type": "Sequence", "pretokenizers": [split, byte_level] })
    };
    assert_eq!(words(byte_level.clone(), "xabx"), 3);
    assert_eq!(words(split(json!({ "String": "a" }), "Removed"), "xabx"), 3);
    assert_eq!(words(split(json!({ "Regex": "(?<=x)a" }), "Isolated"), "xabx"), 4);
    assert_eq!(words(split(json!({ "Regex": "b(?!x)" }), "MergedWithPrevious"), "xabx"), 3);
}

#[test]
fn what_a_tokenizer_json_asks_for_in_vain_is_named() {
    let check = |path: &str, value: Value, kind: ErrorKind, word: &str| {
        let mut json = tokenizer_json();
        *json.pointer_mut(path).unwrap() = value;
        let error = read(&json).unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(error.to_string().contains(word), "{path}: {error}");
    };
    use ErrorKind::{InvalidModel, Unsupported};
    check("/model", json!({ "type": "Unigram", "vocab": [] }), Unsupported, "Unigram");
    check("/normalizer", json!({ "type": "Lowercase" }), Unsupported, "Lowercase");
    check("/pre_tokenizer", json!({ "type": "Metaspace" }), Unsupported, "Metaspace");
    check("/pre_tokenizer", json!({ "type": "Digits" }), Unsupported, "byte-level");
    check("/pre_tokenizer", json!({ "kind": 1 }), InvalidModel, "type");
    check("/pre_tokenizer/add_prefix_space", json!(true), Unsupported, "add_prefix_space");
    let bad_regex = json!({ "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated" });
    check("/pre_tokenizer", bad_regex, Unsupported, "rule");
    check("/added_tokens/0/id", json!(4_000_000_000u32), InvalidModel, "4000000000");
    check("/added_tokens/0/id", json!(97), InvalidModel, "same id");
    check("/added_tokens/1/id", json!(300), InvalidModel, "same id");
    check("/added_tokens/1/content", json!("<end>"), InvalidModel, "same");
    check("/model/vocab/ab", json!(3), InvalidModel, "same id");
    check("/model/vocab/ab", json!(-1), InvalidModel, "read");
    check("/model/merges", json!([["a"]]), InvalidModel, "read");
    check("/model/merges", json!(["a b", "b a"]), InvalidModel, "merge: 1");
    check("/model/unk_token", json!(5), InvalidModel, "read");
    check(
        "/post_processor/processors/1/special_tokens/<end>/ids/0",
        json!(999),
        InvalidModel,
        "999",
    );
    let stripping = json!({ "id": 300, "content": "<end>", "special": true, "lstrip": true });
    check("/added_tokens/0", stripping, Unsupported, "<end>");
    let mut json = tokenizer_json();
    json["model"]["byte_fallback"] = json!(true);
    assert_eq!(read(&json).unwrap_err().kind(), Unsupported);
}

#[test]
fn sequences_nested_without_end_are_refused() {
    for (slot, members) in [("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")] {
        let mut json = tokenizer_json();
        for _ in 0..40 {
            json[slot] = json!({ "type": "Sequence", members: [json[slot]] });
        }
        assert_eq!(read(&json).unwrap_err().kind(), ErrorKind::InvalidModel);
    }
}

#[test]
fn a_rule_that_matches_nothing_or_backtracks_does_not_hang() {
    for (pattern, text) in [
        (json!({ "String": "" }), "aab".to_owned()),
        (json!({ "Regex": "" }), "aab".to_owned()),
        (json!({ "Regex": "(?=a)" }), "aab".to_owned()),
        (json!({ "Regex": "(a|aa)*(?=c)" }), "a".repeat(4000)),
    ] {
        let mut json = tokenizer_json();
        let split = json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated" });
        json["pre_tokenizer"] =
            json!({ "type": "Sequence", "pretokenizers": [split, json["pre_tokenizer"]] });
        if let Ok(tokenizer) = read(&json) {
            let _ = tokenizer.encode(&text);
        }
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("b"),
        Just("ab"),
        Just("Ġ"),
        Just("<x>"),
        Just(""),
        Just("é"),
        Just("\u{1}")
    ]
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_text_survives_encoding_and_decoding(text in any::<String>()) {
        let tokenizer = Small::new(&[("ab", 1), ("<x>", 3)], &["a b"]).build().unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids), text.as_str());
        let ordinary = tokenizer.encode_ordinary(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ordinary), text);
    }

    #[test]
    fn no_vocabulary_makes_the_tokenizer_panic(
        tokens in prop::collection::vec(piece(), 0..8),
        token_types in prop::collection::vec(0..8i32, 0..8),
        merges in prop::collection::vec((piece(), piece()), 0..4),
        ends in any::<[Option<u8>; 3]>(),
        text in "[ab <x>éĠ]{0,12}",
    ) {
        let merges: Vec<String> =
            merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        let built = Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
            model: "gpt2",
            pre: Some("qwen2"),
            tokens: tokens.iter().map(String::as_str).collect(),
            token_types: &token_types,
            merges: merges.iter().map(String::as_str).collect(),
            ends: ends.map(|end| end.map(u32::from)),
            ..Default::default()
        });
        if let Ok(tokenizer) = built {
            for id in tokenizer.encode(&text).unwrap() {
                prop_assert!((id as usize) < tokenizer.n_vocab());
            }
        }
    }

    #[test]
    fn no_damage_to_a_tokenizer_json_makes_it_panic(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = tokenizer_json().to_string().into_bytes();
        let at = at.index(bytes.len());
        let _ = Tokenizer::from_json(&bytes[..at]);
        bytes[at] = byte;
        if let Ok(tokenizer) = Tokenizer::from_json(&bytes) {
            let _ = tokenizer.encode("ab <end> x");
        }
    }
}
