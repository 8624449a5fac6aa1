//! `pesi synth`: what it writes is read back as a model of the family, and follows from the seed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pesi::{
    checkpoint::{DType, Parsed, Safetensors, ShardIndex, dequantize, index::INDEX_NAME},
    tokenizer::Tokenizer,
};
use serde_json::Value;

/// A new folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("synth-{test}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        let path = self.0.join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Every file and its contents.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let names = fs::read_dir(&self.0).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| (name.clone(), self.read(&name))).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(preset: &str, out: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pesi"))
        .args(["synth", "--preset", preset, "--out"])
        .arg(out)
        .args(options)
        .output()
        .unwrap()
}

#[track_caller]
fn synth(out: &Path, options: &[&str]) {
    let output = run("tiny", out, options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn expect_refusal(output: &Output, reason: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains(reason), "{message}");
}

/// The headers and the bytes of the files that the index names.
fn open(folder: &Folder) -> (ShardIndex, Vec<Safetensors>, Vec<Vec<u8>>) {
    let index = ShardIndex::parse(&folder.read(INDEX_NAME)).unwrap();
    let files: Vec<Vec<u8>> = index.shards().iter().map(|name| folder.read(name)).collect();
    let header = |bytes: &Vec<u8>| {
        assert!(safetensors::SafeTensors::deserialize(bytes).is_ok());
        match Safetensors::parse(bytes, bytes.len() as u64).unwrap() {
            Parsed::Complete(header) => header,
            Parsed::NeedMore { .. } => panic!("the file is complete"),
        }
    };
    let headers: Vec<Safetensors> = files.iter().map(header).collect();
    index.check_headers(&headers).unwrap();
    (index, headers, files)
}

/// The tensors of a layer of the tiny model, without the layer's name.
const LAYER: [(&str, DType, &[u64]); 19] = [
    ("input_layernorm.weight", DType::Bf16, &[64]),
    ("post_attention_layernorm.weight", DType::Bf16, &[64]),
    ("self_attn.q_proj.weight", DType::Bf16, &[256, 64]),
    ("self_attn.q_proj.bias", DType::Bf16, &[256]),
    ("self_attn.k_proj.weight", DType::Bf16, &[128, 64]),
    ("self_attn.k_proj.bias", DType::Bf16, &[128]),
    ("self_attn.v_proj.weight", DType::Bf16, &[128, 64]),
    ("self_attn.v_proj.bias", DType::Bf16, &[128]),
    ("self_attn.o_proj.weight", DType::Bf16, &[64, 256]),
    ("self_attn.o_proj.bias", DType::Bf16, &[64]),
    ("self_attn.sinks", DType::Bf16, &[4]),
    ("mlp.router.weight", DType::Bf16, &[8, 64]),
    ("mlp.router.bias", DType::Bf16, &[8]),
    ("mlp.experts.gate_up_proj_blocks", DType::U8, &[8, 128, 2, 16]),
    ("mlp.experts.gate_up_proj_scales", DType::U8, &[8, 128, 2]),
    ("mlp.experts.gate_up_proj_bias", DType::Bf16, &[8, 128]),
    ("mlp.experts.down_proj_blocks", DType::U8, &[8, 64, 2, 16]),
    ("mlp.experts.down_proj_scales", DType::U8, &[8, 64, 2]),
    ("mlp.experts.down_proj_bias", DType::Bf16, &[8, 64]),
];

#[test]
fn the_tiny_model_has_the_tensors_of_the_family() {
    let folder = Folder::new("tensors");
    synth(&folder.0, &[]);
    let (index, headers, files) = open(&folder);
    let names = ["00000", "00001", "00002"].map(|n| format!("model-{n}-of-00002.safetensors"));
    assert_eq!(index.shards(), names);

    let mut expected: Vec<(String, DType, &[u64])> = (0..4)
        .flat_map(|layer| {
            let name = move |tensor: &str| format!("model.layers.{layer}.{tensor}");
            LAYER.map(|(tensor, dtype, shape)| (name(tensor), dtype, shape))
        })
        .collect();
    for (name, shape) in [
        ("model.embed_tokens.weight", &[320, 64][..]),
        ("model.norm.weight", &[64]),
        ("lm_head.weight", &[320, 64]),
    ] {
        expected.push((name.to_owned(), DType::Bf16, shape));
    }
    assert_eq!(index.tensors().len(), expected.len());
    for (name, dtype, shape) in expected {
        let shard = index.shard_of(&name).unwrap_or_else(|| panic!("{name} is missing"));
        let tensor = headers[shard].tensor(&name).unwrap();
        assert_eq!((tensor.dtype, &*tensor.shape), (dtype, shape), "{name}");
        let bytes = &files[shard][tensor.offset as usize..][..tensor.n_bytes as usize];
        let mut numbers = vec![f32::NAN; tensor.n_elements() as usize];
        dequantize(dtype, bytes, &mut numbers);
        let limit = if dtype == DType::U8 { 255.0 } else { 6.0 };
        assert!(numbers.iter().all(|x| x.abs() <= limit), "{name}");
        assert!(numbers.iter().any(|x| *x != numbers[0]), "{name} is constant");
    }
    let n_bytes: u64 = headers.iter().flat_map(|header| &header.tensors).map(|t| t.n_bytes).sum();
    assert_eq!(folder.json(INDEX_NAME)["metadata"]["total_size"], n_bytes);
}

/// The goldens' tiny model has the published keys, and apart from the weights it is the same.
#[test]
fn the_configuration_is_that_of_the_golden_model() {
    let folder = Folder::new("config");
    synth(&folder.0, &[]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt-oss/a1-basic");
    for name in ["config.json", "generation_config.json"] {
        let expected: Value =
            serde_json::from_slice(&fs::read(golden.join(name)).unwrap()).unwrap();
        assert_eq!(folder.json(name), expected, "{name}");
    }
}

#[test]
fn the_tokenizer_has_the_special_tokens_where_the_configuration_says() {
    let folder = Folder::new("tokenizer");
    synth(&folder.0, &[]);
    let tokenizer = Tokenizer::from_json(&folder.read("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.n_vocab(), 311);
    let ends = &folder.json("generation_config.json")["eos_token_id"];
    for (name, place) in [("<|return|>", 0), ("<|endoftext|>", 1), ("<|call|>", 2)] {
        assert_eq!(tokenizer.special_id(name).map(Value::from).as_ref(), ends.get(place), "{name}");
    }
    let text = "<|start|>user<|message|>The end of the thing and\n\tits übung: 12345 😀<|end|>";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&ids), text);
    assert!(ids.len() < text.len() - 30, "pairs are joined: {ids:?}");
    let golden = include_bytes!("golden/gpt-oss/a1-basic/tokenizer.json");
    let golden = Tokenizer::from_json(golden).unwrap();
    for id in 290..311 {
        assert_eq!(tokenizer.token_bytes(id), golden.token_bytes(id));
    }
}

#[test]
fn weights_follow_from_the_seed() {
    let write = |test, options: &[&str]| {
        let folder = Folder::new(test);
        synth(&folder.0, options);
        folder.files()
    };
    let first = write("first", &["--seed", "5"]);
    assert_eq!(first, write("second", &["--seed", "5"]));
    let other = write("other", &["--seed", "6"]);
    assert_eq!(first.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert_eq!(name.starts_with("model-"), other[name] != *bytes, "{name}");
    }
}

/// Layers are sorted as text, as in the published files.
#[test]
fn the_number_of_layers_can_be_chosen() {
    let folder = Folder::new("layers");
    synth(&folder.0, &["--layers", "12"]);
    let (index, ..) = open(&folder);
    assert_eq!(index.tensors().len(), 19 * 12 + 3);
    let config = folder.json("config.json");
    assert_eq!(config["num_hidden_layers"], 12);
    assert_eq!(config["layer_types"].as_array().unwrap().len(), 12);
    assert_eq!(config["layer_types"][11], "full_attention");
    let shard = |layer| index.shard_of(&format!("model.layers.{layer}.input_layernorm.weight"));
    assert!(shard(1) <= shard(10) && shard(10) < shard(2) && shard(2) < shard(9));
    expect_refusal(&run("tiny", &folder.0, &["--layers", "0"]), "at least one layer");
}

#[test]
fn a_folder_in_use_is_left_alone_unless_forced() {
    let folder = Folder::new("force");
    fs::write(folder.0.join("note.txt"), "mine").unwrap();
    expect_refusal(&run("tiny", &folder.0, &[]), "invalid_argument: the folder is not empty");
    assert_eq!(folder.files().len(), 1);
    synth(&folder.0, &["--force"]);
    assert_eq!(folder.read("note.txt"), b"mine");
    open(&folder);
    expect_refusal(&run("tiny", &folder.0.join("note.txt"), &[]), "storage: cannot prepare");
}

#[test]
fn a_tokenizer_is_asked_for_before_anything_is_written() {
    let folder = Folder::new("without");
    let options = ["--tokenizer", folder.0.to_str().unwrap()];
    let out = folder.0.join("out");
    expect_refusal(&run("gpt-oss-20b", &out, &options), "there is no tokenizer.json");
    expect_refusal(&run("tiny", &out, &options), "a tokenizer of its own");
    assert!(!out.exists());
}
