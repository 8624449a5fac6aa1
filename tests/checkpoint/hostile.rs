//! Files that are wrong in one particular way, and the error each must give.

use pesi::{
    Error, ErrorKind,
    checkpoint::{Array, DType, Gguf, Parsed, Value},
    error::Detail,
};

use crate::{
    parse,
    writer::{File, array, nested, sample, string, strings, tensor_type::*, value_type},
};

/// The error of a file, which must be of `kind` and carry these details among others.
#[track_caller]
fn expect(file: &File, kind: ErrorKind, details: &[(&str, Detail)]) -> Error {
    let error = parse(&file.bytes()).expect_err("the file is wrong");
    assert_eq!(error.kind(), kind, "{error}");
    for (name, expected) in details {
        assert_eq!(error.detail(name), Some(expected), "{name} of: {error}");
    }
    error
}

use ErrorKind::{InvalidModel, Unsupported};

fn number(number: u64) -> Detail {
    Detail::Number(number)
}

fn text(text: &str) -> Detail {
    Detail::from(text)
}

/// The sample with `change` made to one of its tensors.
fn with_tensor(name: &str, change: impl FnOnce(&mut crate::writer::Tensor)) -> File {
    let mut file = sample();
    change(file.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap());
    file
}

#[test]
fn a_sound_file_is_read_completely() {
    for version in [2, 3] {
        let mut file = sample();
        file.version = version;
        // Offsets need not follow the order of the header.
        file.tensors.rotate_left(1);
        let header_len = file.header().len().next_multiple_of(64) as u64;
        let gguf = parse(&file.bytes()).unwrap();
        assert_eq!((gguf.version, gguf.header_len), (version, header_len));

        let names: Vec<&str> = gguf.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["norm", "matrix", "experts", "embedding"]);
        let experts = gguf.tensor("experts").unwrap();
        assert_eq!((&*experts.shape, experts.dtype), (&[2, 2, 32][..], DType::Mxfp4));
        assert_eq!((experts.offset, experts.n_bytes), (header_len + 256, 68));
        assert_eq!(experts.n_elements(), 128);
        assert_eq!(gguf.tensor("expert"), None);

        let metadata = &gguf.metadata;
        assert_eq!(metadata.str("general.architecture").unwrap(), "llama");
        assert_eq!(metadata.u32("llama.block_count").unwrap(), 2);
        assert_eq!(metadata.f32("llama.rope.freq_base").unwrap(), 1e5);
        assert!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap());
        let merges = metadata.str_array("tokenizer.ggml.merges").unwrap();
        assert_eq!(merges.iter().collect::<Vec<_>>(), ["a b", "", "ż ó"]);
        assert_eq!((&merges[2], merges.get(3), merges.len()), ("ż ó", None, 3));
        assert_eq!(*metadata.u32_array("tokenizer.ggml.bytes").unwrap(), [1, 2, 3]);
        assert_eq!(metadata.iter().next().unwrap().0, "general.architecture");
        assert_eq!(metadata.iter().len(), 9);
    }
}

#[test]
fn a_vocabulary_without_tensors_is_a_file_too() {
    let file = File::new().entry("key", value_type::U8, [3]);
    let gguf = parse(&file.bytes()).unwrap();
    assert!(gguf.tensors.is_empty());
    assert_eq!(gguf.header_len, file.bytes().len() as u64);
    assert_eq!(gguf.metadata.u32("key").unwrap(), 3);
}

#[test]
fn other_files_versions_and_byte_orders_are_told_apart() {
    let with_version = |version| File { version, ..sample() };
    expect(
        &File { magic: *b"PK\x03\x04", ..sample() },
        InvalidModel,
        &[("found", text(r"PK\x03\x04"))],
    );
    assert!(expect(&with_version(1), Unsupported, &[]).to_string().contains("version 1"));
    expect(&with_version(4), Unsupported, &[("version", number(4))]);
    expect(&with_version(0), Unsupported, &[("version", number(0))]);
    let big_endian = expect(&with_version(3 << 24), Unsupported, &[("version", number(3))]);
    assert!(big_endian.to_string().contains("big-endian"));
}

#[test]
fn counts_beyond_the_file_are_refused() {
    for count in [u64::MAX, u64::MAX / 13, 1 << 63, 1 << 32, 10_000] {
        let file = File { n_tensors: Some(count), ..sample() };
        expect(&file, InvalidModel, &[("n_tensors", number(count)), ("offset", number(24))]);
        let file = File { n_entries: Some(count), ..sample() };
        expect(&file, InvalidModel, &[("n_metadata_entries", number(count))]);

        let huge_string = File::new().entry("key", value_type::STRING, count.to_le_bytes());
        expect(&huge_string, InvalidModel, &[("key", text("key")), ("needed", number(count))]);
        for element_type in 0..=12 {
            let value = array(element_type, count, &[0; 64]);
            let huge_array = File::new().entry("key", value_type::ARRAY, value);
            expect(&huge_array, InvalidModel, &[("key", text("key"))]);
        }
    }
}

/// The entries have taken the bytes that the tensors would need.
#[test]
fn counts_beyond_the_rest_of_the_header_are_refused() {
    let mut file = File::new().entry("key", value_type::STRING, string(&[b'v'; 3200]));
    let offset = number(file.header().len() as u64);
    file.n_tensors = Some(100);
    expect(&file, InvalidModel, &[("n_tensors", number(100)), ("offset", offset)]);
}

#[test]
fn names_that_are_too_long_are_refused() {
    let longest = "k".repeat(65_535);
    assert!(parse(&File::new().entry(&longest, value_type::U8, [0]).bytes()).is_ok());
    let details = [("needed", number(65_536)), ("limit", number(65_535))];
    let file = File::new().entry(&"k".repeat(65_536), value_type::U8, [0]);
    expect(&file, InvalidModel, &details);
    let file = File::new().tensor(&"t".repeat(65_536), &[1], F32, 0, 4);
    expect(&file, InvalidModel, &details);
}

#[test]
fn values_that_are_no_values_are_refused() {
    let file = File::new().entry("key", 13, [0; 8]);
    expect(&file, InvalidModel, &[("key", text("key")), ("type", number(13))]);
    let file = File::new().entry("key", value_type::ARRAY, array(99, 0, &[]));
    expect(&file, InvalidModel, &[("key", text("key")), ("type", number(99))]);
    let file = File::new().entry("key", value_type::BOOL, [2]);
    expect(&file, InvalidModel, &[("key", text("key")), ("found", number(2))]);
    let file = File::new().entry("key", value_type::STRING, string(b"ab\xff"));
    expect(&file, InvalidModel, &[("key", text("key")), ("offset", number(24 + 11 + 4 + 8 + 2))]);
    let pieces = [string(b"good"), string(b"\xc3\x28")].concat();
    let file = File::new().entry("key", value_type::ARRAY, array(value_type::STRING, 2, &pieces));
    expect(&file, InvalidModel, &[("key", text("key")), ("index", number(1))]);
    let mut file = sample();
    file.entries[0].key = vec![0xff];
    expect(&file, InvalidModel, &[("offset", number(32))]);
}

#[test]
fn arrays_nest_four_deep_and_no_deeper() {
    let file = |depth| File::new().entry("key", value_type::ARRAY, nested(depth));
    let gguf = parse(&file(4).bytes()).unwrap();
    let expected = (0..3).fold(Array::U8(vec![7]), |inner, _| Array::Arrays(vec![inner]));
    assert_eq!(gguf.metadata.get("key"), Some(&Value::Array(expected)));
    for depth in [5, 6, 10_000] {
        expect(&file(depth), InvalidModel, &[("key", text("key")), ("limit", number(4))]);
    }
}

#[test]
fn keys_and_names_occur_once() {
    let mut file = sample();
    file.entries[3].key = file.entries[0].key.clone();
    expect(
        &file,
        InvalidModel,
        &[("key", text("general.architecture")), ("first", number(0)), ("second", number(3))],
    );
    let file = with_tensor("matrix", |tensor| tensor.name = "norm".into());
    expect(&file, InvalidModel, &[("tensor", text("norm"))]);
}

#[test]
fn the_alignment_is_a_power_of_two_of_a_sane_size() {
    for alignment in [0, 3, 48, 1 << 21, u32::MAX] {
        let mut file = sample();
        file.entries[1].value = alignment.to_le_bytes().into();
        let key = text("general.alignment");
        expect(&file, InvalidModel, &[("key", key), ("found", number(alignment.into()))]);
    }
    let mut file = sample();
    file.entries[1].type_number = value_type::F32;
    expect(&file, InvalidModel, &[("key", text("general.alignment")), ("expected", text("u32"))]);
    let file = with_tensor("matrix", |tensor| tensor.offset += 32);
    expect(&file, InvalidModel, &[("tensor", text("matrix")), ("alignment", number(64))]);
}

#[test]
fn shapes_are_checked_before_they_are_multiplied() {
    let shaped = |extents: &[u64]| with_tensor("matrix", |tensor| tensor.extents = extents.into());
    let matrix = ("tensor", text("matrix"));
    expect(&shaped(&[]), InvalidModel, &[matrix.clone(), ("found", number(0))]);
    expect(&shaped(&[32, 1, 1, 1, 1]), InvalidModel, &[matrix.clone(), ("found", number(5))]);
    expect(&shaped(&[64, 0]), InvalidModel, &[matrix.clone(), ("shape", text("[0, 64]"))]);
    expect(&shaped(&[0, 64]), InvalidModel, std::slice::from_ref(&matrix));
    expect(
        &shaped(&[48, 2]),
        InvalidModel,
        &[matrix.clone(), ("found", number(48)), ("block_len", number(32))],
    );
    // The product overflows; then only the bytes do; then nothing does but there is no such file.
    for extents in [[1 << 32, 1 << 32], [1 << 63, 2], [1 << 63, 1]] {
        let file = with_tensor("norm", |tensor| tensor.extents = extents.into());
        let error = expect(&file, InvalidModel, &[("tensor", text("norm"))]);
        assert!(error.to_string().contains("64 bits"), "{error}");
    }
    let file = with_tensor("norm", |tensor| tensor.extents = vec![1 << 61]);
    expect(&file, InvalidModel, &[("tensor", text("norm")), ("needed", number(1 << 63))]);
}

#[test]
fn encodings_that_cannot_be_read_are_named() {
    for (type_number, name) in [(10, "Q2_K"), (4, "unknown"), (u32::MAX, "unknown")] {
        let file = with_tensor("experts", |tensor| tensor.type_number = type_number);
        expect(
            &file,
            Unsupported,
            &[
                ("tensor", text("experts")),
                ("type", number(type_number.into())),
                ("found", text(name)),
            ],
        );
    }
    let file = with_tensor("matrix", |tensor| tensor.type_number = Q6_K);
    expect(&file, InvalidModel, &[("tensor", text("matrix")), ("type", text("Q6_K"))]);
}

#[test]
fn tensors_lie_within_the_file_and_apart() {
    for offset in [0u64.wrapping_sub(64), 1 << 63, 448, 512, 1 << 40] {
        let file = with_tensor("embedding", |tensor| tensor.offset = offset);
        expect(
            &file,
            InvalidModel,
            &[
                ("tensor", text("embedding")),
                ("offset", number(offset)),
                ("needed", number(170)),
                ("limit", number(554)),
            ],
        );
    }
    let file = with_tensor("embedding", |tensor| tensor.offset = 256);
    expect(&file, InvalidModel, &[("offset", number(file.header().len() as u64 / 64 * 64 + 320))]);
    // One byte in common.
    let unaligned = |offset| {
        File::new()
            .entry("general.alignment", value_type::U32, 1u32.to_le_bytes())
            .aligned(1)
            .tensor("first", &[4], F32, 0, 16)
            .tensor("second", &[1], F32, offset, 4)
    };
    expect(&unaligned(15), InvalidModel, &[("tensor", text("first")), ("other", text("second"))]);
    assert!(parse(&unaligned(16).bytes()).is_ok());
    // One byte short of what the last tensor needs.
    let mut file = sample();
    file.data_len -= 1;
    expect(&file, InvalidModel, &[("tensor", text("embedding")), ("limit", number(553))]);
    // A file that ends right after the header, before the padding.
    let header = sample().header();
    assert_eq!(parse(&header).unwrap_err().kind(), InvalidModel);
}

#[test]
fn headers_over_the_limit_are_refused_before_they_are_fetched() {
    let file = File::new().entry("key", value_type::STRING, (100u64 << 20).to_le_bytes());
    let error = Gguf::parse(&file.header(), 1 << 40).unwrap_err();
    assert_eq!((error.kind(), error.detail("limit")), (Unsupported, Some(&number(64 << 20))));
    assert_eq!(error.detail("key"), Some(&text("key")));
    let error = Gguf::parse(&[0; 10], 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

/// Each request for more bytes at least doubles them, and leads to the same result.
#[test]
fn a_header_may_come_in_pieces() {
    let vocabulary: Vec<String> = (0..5000).map(|index| format!("token {index}")).collect();
    let vocabulary: Vec<&str> = vocabulary.iter().map(String::as_str).collect();
    let bytes = sample().entry("tokens", value_type::ARRAY, strings(&vocabulary)).bytes();
    let file_len = bytes.len() as u64;
    let whole = parse(&bytes).unwrap();
    for first in [0, 1, 4, 23, 24, 25, 100, 1000] {
        let mut given = first;
        let parsed = loop {
            match Gguf::parse(&bytes[..given], file_len).unwrap() {
                Parsed::Complete(gguf) => break gguf,
                Parsed::NeedMore { at_least } => {
                    assert!(at_least > given as u64 && at_least <= file_len);
                    assert!(at_least >= (2 * given as u64).min(file_len));
                    given = at_least as usize;
                }
            }
        };
        assert_eq!(parsed, whole);
    }
}
