//! Damaged model files: opening one and planning its weights ends in a typed error or in a plan, never
//! in a panic.

use pesi::{Error, ErrorKind, checkpoint::DType, session::Description, weights::Precision};
use proptest::{prelude::*, sample::Index};

use super::tiny::{Bytes, Kind, Random, write};

fn open(bytes: Vec<u8>) -> Result<(), Error> {
    pollster::block_on(async {
        let (folder, entry) = Bytes(bytes).in_folder();
        let opened = Description::open(&folder, &entry).await?;
        opened.description.plan(Precision::Compact).map(drop)
    })
}

fn sound() -> Vec<u8> {
    write(&Kind { divisors: true, scaling: Some("yarn"), ..Kind::of(DType::Q4_1) }, &mut Random(5))
}

/// Replaces the only occurrence of `from`.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it occurs");
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

/// The value of a u32 entry, replaced.
fn with_count(bytes: &[u8], key: &str, count: u32) -> Vec<u8> {
    let mut from = key.as_bytes().to_vec();
    from.extend(4_u32.to_le_bytes());
    let mut to = from.clone();
    to.extend(count.to_le_bytes());
    replaced(bytes, &from, &to)
}

#[test]
fn wrong_numbers_are_named() {
    let sound = sound();
    open(sound.clone()).unwrap();
    for (key, count, kind, named) in [
        ("llama.block_count", 0, ErrorKind::InvalidModel, "llama.block_count"),
        ("llama.block_count", 3, ErrorKind::InvalidModel, "blk.2.attn_norm.weight"),
        ("llama.embedding_length", 0, ErrorKind::InvalidModel, "llama.embedding_length"),
        ("llama.embedding_length", 128, ErrorKind::InvalidModel, "rope.dimension_count"),
        ("llama.embedding_length", 512, ErrorKind::InvalidModel, "token_embd.weight"),
        ("llama.embedding_length", u32::MAX, ErrorKind::InvalidModel, "head_count"),
        ("llama.feed_forward_length", u32::MAX, ErrorKind::InvalidModel, "feed_forward_length"),
        ("llama.attention.head_count", 3, ErrorKind::InvalidModel, "head_count"),
        ("llama.attention.head_count_kv", 3, ErrorKind::InvalidModel, "head_count_kv"),
        ("llama.attention.head_count_kv", 1, ErrorKind::InvalidModel, "blk.0.attn_k.weight"),
        ("llama.context_length", u32::MAX, ErrorKind::InvalidModel, "llama.context_length"),
        ("llama.rope.dimension_count", 65, ErrorKind::InvalidModel, "rope.dimension_count"),
        ("llama.rope.dimension_count", 32, ErrorKind::InvalidModel, "rope_freqs.weight"),
        ("llama.rope.scaling.original_context_length", 0, ErrorKind::InvalidModel, "original"),
    ] {
        let error = open(with_count(&sound, key, count)).unwrap_err();
        assert_eq!(error.kind(), kind, "{key} = {count}: {error}");
        assert!(error.to_string().contains(named), "{key} = {count}: {error}");
    }
    for (from, to, kind, named) in [
        (
            &b"\x05\0\0\0\0\0\0\0llama"[..],
            &b"\x05\0\0\0\0\0\0\0lxama"[..],
            ErrorKind::Unsupported,
            "lxama",
        ),
        (b"yarn", b"yurn", ErrorKind::Unsupported, "rope.scaling.type"),
        (b"gpt2", b"bert", ErrorKind::Unsupported, "tokenizer.ggml.model"),
        (b"blk.1.ffn_up", b"blk.9.ffn_up", ErrorKind::InvalidModel, "blk.1.ffn_up.weight"),
        (b"output_norm", b"output_nxrm", ErrorKind::InvalidModel, "output_norm.weight"),
    ] {
        let error = open(replaced(&sound, from, to)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let sound = sound();
    let header = sound.len() - 100_000;
    for len in [0, 3, 4, 23, 24, 100, 5000, header, sound.len() - 1] {
        let error = open(sound[..len].to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel, "{len} bytes: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_headers_never_panic(flips in prop::collection::vec((any::<Index>(), 0..8_u8), 1..6)) {
        let mut bytes = sound();
        // The head: metadata and tensor table.
        let head = 8000;
        for (place, bit) in flips {
            bytes[place.index(head)] ^= 1 << bit;
        }
        if let Err(error) = open(bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
