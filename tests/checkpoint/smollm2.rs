//! A published file: SmolLM2-135M-Instruct in Q4_1, which set-up puts under `.cache/models`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
};

use pesi::checkpoint::{DType, Gguf, Parsed, dequantize};
use sha2::{Digest as _, Sha256};

const PATH: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf");

fn open() -> (fs::File, u64) {
    let file = fs::File::open(PATH)
        .unwrap_or_else(|error| panic!("{PATH} cannot be read; set-up downloads it: {error}"));
    let len = file.metadata().unwrap().len();
    (file, len)
}

fn read_at(file: &mut fs::File, offset: u64, n_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; n_bytes as usize];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

/// Parses as a loader does, from a first guess of 64 KiB.
fn parse() -> (Gguf, fs::File) {
    let (mut file, file_len) = open();
    let mut n_bytes = 64 << 10;
    loop {
        match Gguf::parse(&read_at(&mut file, 0, n_bytes), file_len).unwrap() {
            Parsed::Complete(gguf) => return (gguf, file),
            Parsed::NeedMore { at_least } => n_bytes = at_least,
        }
    }
}

#[test]
fn the_header_is_read_as_published() {
    let (gguf, file) = parse();
    assert_eq!((gguf.version, gguf.header_len), (3, 1_785_664));

    let mut counts = BTreeMap::new();
    for tensor in &gguf.tensors {
        *counts.entry(tensor.dtype.name()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("F32", 61), ("Q4_1", 210), ("Q8_0", 1)]));
    assert_eq!(gguf.tensors.len(), 272);
    let n_elements: u64 = gguf.tensors.iter().map(|tensor| tensor.n_elements()).sum();
    assert_eq!(n_elements, 134_515_008);

    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((&*embedding.shape, embedding.dtype), (&[49_152, 576][..], DType::Q8_0));
    assert_eq!((embedding.offset, embedding.n_bytes), (1_785_664, 30_081_024));
    assert_eq!(gguf.tensor("blk.0.ffn_down.weight").unwrap().shape, [576, 1536]);
    assert_eq!(gguf.tensor("output.weight"), None, "the output is tied to the embedding");
    let last = gguf.tensors.last().unwrap();
    assert_eq!(last.name, "output_norm.weight");
    assert_eq!(last.offset + last.n_bytes, file.metadata().unwrap().len());

    let metadata = &gguf.metadata;
    assert_eq!(metadata.iter().len(), 33);
    assert_eq!(metadata.str("general.architecture").unwrap(), "llama");
    for (key, expected) in [
        ("llama.block_count", 30),
        ("llama.context_length", 8192),
        ("llama.embedding_length", 576),
        ("llama.feed_forward_length", 1536),
        ("llama.attention.head_count", 9),
        ("llama.attention.head_count_kv", 3),
        ("llama.rope.dimension_count", 64),
        ("llama.vocab_size", 49_152),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
    ] {
        assert_eq!(metadata.u32(key).unwrap(), expected, "{key}");
    }
    assert_eq!(metadata.f32("llama.rope.freq_base").unwrap(), 1e5);
    assert_eq!(metadata.f32("llama.attention.layer_norm_rms_epsilon").unwrap(), 1e-5);
    assert!(!metadata.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(metadata.str("tokenizer.ggml.pre").unwrap(), "smollm");
    assert_eq!(metadata.optional_u32("general.alignment").unwrap(), None);

    let tokens = metadata.str_array("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), &tokens[1], &tokens[49_151]), (49_152, "<|im_start|>", "ectable"));
    let merges = metadata.str_array("tokenizer.ggml.merges").unwrap();
    assert_eq!((merges.len(), &merges[0], &merges[48_899]), (48_900, "Ġ t", "ect able"));
    let types = metadata.i32_array("tokenizer.ggml.token_type").unwrap();
    assert_eq!(types.iter().filter(|token_type| **token_type == 3).count(), 17);
}

/// SHA-256 of what the `gguf` package for Python decodes, as little-endian floats.
#[test]
fn its_tensors_decode_to_the_bit() {
    let (gguf, mut file) = parse();
    for (name, expected) in [
        ("token_embd.weight", "3fd491c8066dd9dc1a2bf6796701526c82817d95c0ecabacdef3013c2b8bbbaa"),
        (
            "blk.0.attn_norm.weight",
            "2469079d969a361823be8145fa36e15e4c1b933b5261d669357b3deead825cba",
        ),
        (
            "blk.0.ffn_down.weight",
            "0b78b2226f740ed5594510ed990ea6c2846a6a889ab07cf251e4a489df1d75b0",
        ),
        (
            "blk.29.attn_k.weight",
            "d04be5749e5dec2b8fc937f672e6bfd5c67a10bbd4d15c98f0d6b5f221791a62",
        ),
        ("output_norm.weight", "3b87f8e27335e67fc08f159cabfd2d18f205d6c5b225a6f978153552bf01d559"),
    ] {
        let tensor = gguf.tensor(name).unwrap();
        let bytes = read_at(&mut file, tensor.offset, tensor.n_bytes);
        let mut decoded = vec![0.0; tensor.n_elements() as usize];
        dequantize(tensor.dtype, &bytes, &mut decoded);
        let mut hash = Sha256::new();
        for values in decoded.chunks(4096) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected, "{name}");
    }
}
