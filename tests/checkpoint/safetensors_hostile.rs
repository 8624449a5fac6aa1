//! Sound safetensors files, and files that are wrong in one particular way with the error that each
//! must give.

use pesi::{
    Error, ErrorKind,
    checkpoint::{DType, Parsed, Safetensors},
    error::Detail,
};
use safetensors::{Dtype, SafeTensors};

use crate::safetensors_writer::{File, Tensor, sample, with_size};

use ErrorKind::{InvalidModel, Unsupported};

/// Parses a file that is wholly given.
pub fn parse(bytes: &[u8]) -> Result<Safetensors, Error> {
    match Safetensors::parse(bytes, bytes.len() as u64)? {
        Parsed::Complete(file) => Ok(file),
        Parsed::NeedMore { at_least } => {
            panic!("the parser has all {} bytes and asks for {at_least}", bytes.len())
        }
    }
}

/// Checks a file against the crate that Hugging Face publishes.
#[track_caller]
pub fn agree_with_the_published_crate(bytes: &[u8]) -> Safetensors {
    let file = parse(bytes).unwrap();
    let oracle = SafeTensors::deserialize(bytes).unwrap();
    assert_eq!(file.tensors.len(), oracle.len());
    for tensor in &file.tensors {
        let view = oracle.tensor(&tensor.name).unwrap();
        let shape: Vec<usize> = tensor.shape.iter().map(|extent| *extent as usize).collect();
        assert_eq!(view.shape(), shape, "{}", tensor.name);
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::Bf16,
            Dtype::U8 => DType::U8,
            other => panic!("{other}"),
        };
        assert_eq!(tensor.dtype, dtype, "{}", tensor.name);
        let contents = &bytes[tensor.offset as usize..][..tensor.n_bytes as usize];
        assert_eq!(view.data().as_ptr_range(), contents.as_ptr_range(), "{}", tensor.name);
    }
    file
}

/// The error of a file, which must be of `kind` and carry these details among others.
#[track_caller]
fn expect(bytes: &[u8], kind: ErrorKind, details: &[(&str, Detail)]) -> Error {
    let error = parse(bytes).expect_err("the file is wrong");
    assert_eq!(error.kind(), kind, "{error}");
    for (name, expected) in details {
        assert_eq!(error.detail(name), Some(expected), "{name} of: {error}");
    }
    error
}

fn number(number: u64) -> Detail {
    Detail::Number(number)
}

fn text(text: &str) -> Detail {
    Detail::from(text)
}

/// The sample with `change` made to one of its tensors.
fn with_tensor(name: &str, change: impl FnOnce(&mut Tensor)) -> Vec<u8> {
    let mut file = sample();
    change(file.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap());
    file.bytes()
}

/// The error of a file whose header is `json` and which has four bytes of data.
#[track_caller]
fn expect_of_json(json: &str, kind: ErrorKind, details: &[(&str, Detail)]) -> Error {
    expect(&[with_size(json, None), vec![0; 4]].concat(), kind, details)
}

#[test]
fn a_sound_file_is_read_completely() {
    let bytes = sample().bytes();
    let file = agree_with_the_published_crate(&bytes);
    let header_len = sample().header().len() as u64;
    assert_eq!(file.header_len, header_len);
    let names: Vec<&str> = file.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["norm", "experts_blocks", "experts_scales", "half", "single"]);
    let scales = file.tensor("experts_scales").unwrap();
    assert_eq!((&*scales.shape, scales.dtype), (&[2, 3, 1][..], DType::U8));
    assert_eq!((scales.offset, scales.n_bytes), (header_len + 160, 6));
    assert_eq!(file.tensor("single").unwrap().n_elements(), 1);
    assert_eq!(file.tensor("experts"), None);
}

#[test]
fn a_file_without_tensors_is_a_file_too() {
    for json in ["{}", r#"{"__metadata__":{}}"#] {
        assert!(parse(&with_size(json, None)).unwrap().tensors.is_empty());
    }
}

#[test]
fn names_may_have_escapes_and_any_characters() {
    let file = File::default()
        .tensor(r#"tab\tquote\" \u00e9\ud83d\ude00"#, "U8", &[1], [0, 1])
        .tensor("", "U8", &[1], [1, 2])
        .tensor("żółw", "U8", &[1], [2, 3]);
    let file = agree_with_the_published_crate(&file.bytes());
    assert!(file.tensor("tab\tquote\" é😀").is_some() && file.tensor("").is_some());
}

#[test]
fn a_header_beyond_the_file_or_the_limit_is_refused_before_it_is_fetched() {
    for size in [u64::MAX, 1 << 63, 1 << 40, 10_000] {
        let bytes = File { header_bytes: Some(size), ..sample() }.bytes();
        let limit = number(bytes.len() as u64 - 8);
        expect(&bytes, InvalidModel, &[("needed", number(size)), ("limit", limit)]);
    }
    let size = (100u64 << 20).to_le_bytes();
    let error = Safetensors::parse(&size, 1 << 40).unwrap_err();
    assert_eq!((error.kind(), error.detail("limit")), (Unsupported, Some(&number(64 << 20))));
    let error = Safetensors::parse(&[0; 10], 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn every_truncation_is_an_error_and_every_prefix_a_request_for_more() {
    let bytes = sample().bytes();
    let header_len = sample().header().len();
    for len in 0..bytes.len() {
        let error = Safetensors::parse(&bytes[..len], len as u64).unwrap_err();
        assert_eq!(error.kind(), InvalidModel, "{len}: {error}");
        assert!(error.detail("needed").is_some(), "{len}: {error}");
        match Safetensors::parse(&bytes[..len], bytes.len() as u64).unwrap() {
            Parsed::NeedMore { at_least } => {
                assert!(len < header_len && at_least >= (2 * len).min(bytes.len()) as u64);
                assert!(at_least > len as u64 && at_least <= bytes.len() as u64);
            }
            Parsed::Complete(_) => assert!(len >= header_len),
        }
    }
}

#[test]
fn a_header_may_come_in_pieces() {
    let bytes = sample().bytes();
    for first in [0, 1, 8, 9, 100] {
        let mut given = first;
        let parsed = loop {
            match Safetensors::parse(&bytes[..given], bytes.len() as u64).unwrap() {
                Parsed::Complete(file) => break file,
                Parsed::NeedMore { at_least } => given = at_least as usize,
            }
        };
        assert_eq!(parsed, parse(&bytes).unwrap());
    }
}

#[test]
fn other_files_are_no_safetensors_files() {
    for json in ["", "[]", "null", "{", r#"{"a":}"#, "{} {}", "{}x", "GGUF", "\u{0}", "{'a':1}"] {
        let error = expect_of_json(json, InvalidModel, &[("line", number(1))]);
        assert!(error.to_string().starts_with("the header of the file cannot be read"), "{error}");
    }
    let mut bytes = sample().bytes();
    let name = bytes.windows(4).position(|bytes| bytes == b"norm").unwrap();
    bytes[name] = 0xff;
    expect(&bytes, InvalidModel, &[]);
}

#[test]
fn descriptions_have_their_three_keys_once_each() {
    let of = |description: &str| format!(r#"{{"t":{description}}}"#);
    for description in [
        "1",
        "null",
        "{}",
        r#"{"dtype":"F32","shape":[1]}"#,
        r#"{"dtype":"F32","data_offsets":[0,4]}"#,
        r#"{"shape":[1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"dtype":"F32"}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]}"#,
        r#"{"dtype":32,"shape":[1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":1,"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}"#,
        r#"{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}"#,
    ] {
        let error = expect_of_json(&of(description), InvalidModel, &[("tensor", text("t"))]);
        assert!(error.detail("column").is_some(), "{error}");
    }
    let deepest = r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#;
    assert!(parse(&[with_size(&of(deepest), None), vec![0; 4]].concat()).is_ok());
}

#[test]
fn metadata_are_strings_under_a_key_that_occurs_once() {
    for metadata in ["1", "[]", r#"{"a":1}"#, r#"{"a":{"b":"c"}}"#, r#"{"a":null}"#] {
        expect_of_json(&format!(r#"{{"__metadata__":{metadata}}}"#), InvalidModel, &[]);
    }
    let twice = r#"{"__metadata__":{},"__metadata__":{}}"#;
    expect_of_json(twice, InvalidModel, &[("key", text("__metadata__"))]);
}

#[test]
fn nesting_ends_in_an_error_however_deep_it_is() {
    for (open, n) in [("[", 100), ("[", 1 << 20), (r#"{"a":"#, 100), (r#"{"a":"#, 1 << 18)] {
        let nested = open.repeat(n);
        for json in [
            nested.clone(),
            format!(r#"{{"t":{nested}"#),
            format!(r#"{{"__metadata__":{nested}"#),
            format!(r#"{{"t":{{"dtype":"F32","shape":{nested}"#),
        ] {
            expect_of_json(&json, InvalidModel, &[]);
        }
    }
}

#[test]
fn names_occur_once_and_are_not_too_long() {
    let file = sample().tensor("norm", "U8", &[1], [176, 177]);
    expect(&file.bytes(), InvalidModel, &[("tensor", text("norm"))]);
    let named = |len| File::default().tensor(&"n".repeat(len), "U8", &[1], [0, 1]).bytes();
    assert!(parse(&named(65_535)).is_ok());
    let details = [("needed", number(65_536)), ("limit", number(65_535))];
    expect(&named(65_536), InvalidModel, &details);
}

#[test]
fn encodings_that_cannot_be_read_are_named() {
    for name in ["F64", "I64", "I32", "I8", "U16", "BOOL", "F8_E4M3", "F4", "bf16", "", "Q4_0"] {
        let bytes = with_tensor("half", |tensor| tensor.dtype = name.into());
        expect(&bytes, Unsupported, &[("tensor", text("half")), ("found", text(name))]);
    }
    let bytes = with_tensor("half", |tensor| tensor.dtype = "é".repeat(100_000));
    let error = expect(&bytes, Unsupported, &[("tensor", text("half"))]);
    assert!(error.to_string().len() < 1000);
}

#[test]
fn sizes_are_those_of_the_shapes() {
    let shaped = |shape: &[u64]| with_tensor("half", |tensor| tensor.shape = shape.into());
    let half = ("tensor", text("half"));
    for shape in [&[0][..], &[3, 0], &[0, u64::MAX, u64::MAX]] {
        let error = expect(&shaped(shape), InvalidModel, std::slice::from_ref(&half));
        assert!(error.to_string().contains("dimension of zero"), "{error}");
    }
    for shape in [&[1 << 32, 1 << 32][..], &[1 << 63], &[u64::MAX; 8]] {
        let error = expect(&shaped(shape), InvalidModel, std::slice::from_ref(&half));
        assert!(error.to_string().contains("64 bits"), "{error}");
    }
    for (shape, n_bytes) in [(&[4][..], 8), (&[2], 4), (&[], 2), (&[1 << 60], 1 << 61)] {
        expect(
            &shaped(shape),
            InvalidModel,
            &[half.clone(), ("expected", number(n_bytes)), ("found", number(6))],
        );
    }
    let bytes = with_tensor("half", |tensor| tensor.offsets = [172, 166]);
    expect(&bytes, InvalidModel, &[half, ("offset", number(172)), ("end", number(166))]);
}

#[test]
fn tensors_lie_within_the_file() {
    for start in [174, 176, 1 << 40, u64::MAX - 6] {
        let bytes = with_tensor("half", |tensor| tensor.offsets = [start, start + 6]);
        expect(
            &bytes,
            InvalidModel,
            &[
                ("tensor", text("half")),
                ("offset", number(start)),
                ("needed", number(6)),
                ("limit", number(176)),
            ],
        );
    }
    let bytes = File { data_len: 175, ..sample() }.bytes();
    expect(&bytes, InvalidModel, &[("tensor", text("single")), ("limit", number(175))]);
}

#[test]
fn tensors_cover_the_file_once() {
    for start in [165, 164, 0] {
        let bytes = with_tensor("half", |tensor| tensor.offsets = [start, start + 6]);
        let error = expect(&bytes, InvalidModel, &[]);
        assert!(error.to_string().contains("overlap"), "{error}");
        assert!(error.detail("tensor").is_some() && error.detail("other").is_some(), "{error}");
    }
    let bytes = with_tensor("half", |tensor| {
        tensor.shape = vec![2];
        tensor.offsets = [168, 172];
    });
    let header_len = bytes.len() as u64 - 176;
    expect(
        &bytes,
        InvalidModel,
        &[
            ("tensor", text("half")),
            ("expected", number(header_len + 166)),
            ("found", number(header_len + 168)),
        ],
    );
    let bytes = File { data_len: 177, ..sample() }.bytes();
    let header_len = bytes.len() as u64 - 177;
    expect(
        &bytes,
        InvalidModel,
        &[("expected", number(header_len + 176)), ("found", number(header_len + 177))],
    );
}
