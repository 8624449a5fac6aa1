//! Sound files with damage: the result is a parsed file whose tensors lie within it, or a typed
//! error. Never a panic, and never more memory than the bytes given account for.

use pesi::{
    ErrorKind,
    checkpoint::{Gguf, Parsed, dequantize},
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    memory::parse_within_bound,
    writer::{File, array, nested, sample, string, strings, tensor_type, value_type},
};

/// Parses damaged bytes and uses what comes out as a loader would.
fn survive(bytes: &[u8], file_len: u64) {
    match parse_within_bound(bytes, file_len) {
        Ok(Parsed::Complete(gguf)) => use_all(&gguf, bytes, file_len),
        Ok(Parsed::NeedMore { at_least }) => {
            assert!(at_least > bytes.len() as u64 && at_least <= file_len);
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::InvalidModel | ErrorKind::Unsupported));
            assert!(!error.to_string().is_empty());
        }
    }
}

fn use_all(gguf: &Gguf, bytes: &[u8], file_len: u64) {
    let mut previous_end = gguf.header_len;
    for tensor in &gguf.tensors {
        assert!(tensor.offset >= previous_end);
        previous_end = tensor.offset + tensor.n_bytes;
        assert!(previous_end <= file_len);
        assert_eq!(tensor.dtype.bytes_for(tensor.n_elements()), Some(tensor.n_bytes));
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        if let Some(bytes) = bytes.get(tensor.offset as usize..previous_end as usize) {
            dequantize(tensor.dtype, bytes, &mut vec![0.0; tensor.n_elements() as usize]);
        }
    }
    for (key, value) in gguf.metadata.iter() {
        assert_eq!(gguf.metadata.get(key).map(std::ptr::from_ref), Some(std::ptr::from_ref(value)));
    }
}

#[test]
fn every_truncation_is_an_error_and_every_prefix_a_request_for_more() {
    let bytes = sample().bytes();
    let header_len = sample().header().len();
    for len in 0..bytes.len() {
        let error = parse_within_bound(&bytes[..len], len as u64).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModel, "{len}: {error}");
        assert!(error.detail("needed").is_some(), "{len}: {error}");
        let parsed = parse_within_bound(&bytes[..len], bytes.len() as u64).unwrap();
        match parsed {
            Parsed::NeedMore { at_least } => {
                assert!(len < header_len && at_least > len as u64);
                assert!(at_least <= bytes.len() as u64);
            }
            Parsed::Complete(_) => assert!(len >= header_len),
        }
    }
}

#[test]
fn every_single_bit_flip_is_survived() {
    let sound = sample().bytes();
    for position in 0..sample().header().len() {
        for bit in 0..8 {
            let mut bytes = sound.clone();
            bytes[position] ^= 1 << bit;
            survive(&bytes, bytes.len() as u64);
            survive(&bytes, 1 << 40);
        }
    }
}

/// Numbers at which checks are likely to be wrong.
fn boundary() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..70u64,
        any::<u64>(),
        (0..64u32, 0..3u64).prop_map(|(bit, less)| (1u64 << bit).wrapping_sub(less)),
    ]
}

fn value() -> impl Strategy<Value = (u32, Vec<u8>)> {
    prop_oneof![
        (0..14u32, vec(any::<u8>(), 0..12)),
        vec(".{0,6}", 0..5).prop_map(|texts| {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            (value_type::ARRAY, strings(&texts))
        }),
        (0..6u32).prop_map(|depth| (value_type::ARRAY, nested(depth + 1))),
        (0..14u32, boundary(), vec(any::<u8>(), 0..200))
            .prop_map(|(kind, len, elements)| (value_type::ARRAY, array(kind, len, &elements))),
        vec(any::<u8>(), 0..8).prop_map(|bytes| (value_type::STRING, string(&bytes))),
    ]
}

/// Files whose every field is drawn at random, from values near the sound ones.
fn file() -> impl Strategy<Value = File> {
    let types = prop_oneof![
        Just(tensor_type::F32),
        Just(tensor_type::Q4_1),
        Just(tensor_type::Q8_0),
        Just(tensor_type::Q6_K),
        0..45u32,
    ];
    let extent = prop_oneof![1..5u64, Just(32), Just(256), boundary()];
    let offset = prop_oneof![(0..64u64).prop_map(|step| 32 * step), boundary()];
    let tensor = ("[ab]{0,2}", vec(extent, 0..6), types, offset);
    let counts =
        (proptest::option::weighted(0.1, boundary()), proptest::option::weighted(0.1, boundary()));
    let version = prop_oneof![9 => 2..4u32, 1 => any::<u32>()];
    (version, counts, vec(("[ab]{0,3}", value()), 0..4), vec(tensor, 0..4), 0..4096usize).prop_map(
        |(version, (n_tensors, n_entries), entries, tensors, data_len)| {
            let mut file = File { version, n_tensors, n_entries, ..File::new() };
            for (key, (type_number, value)) in entries {
                file = file.entry(&key, type_number, value);
            }
            for (name, extents, type_number, offset) in tensors {
                file = file.tensor(&name, &extents, type_number, offset.min(1 << 13), 0);
                file.tensors.last_mut().unwrap().offset = offset;
            }
            File { data_len, ..file }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_damage_is_survived(
        damage in vec((any::<Index>(), any::<u8>()), 1..8),
        end in any::<Index>(),
        longer in boundary(),
    ) {
        let mut bytes = sample().bytes();
        let header_len = sample().header().len();
        for (position, byte) in damage {
            bytes[position.index(header_len)] = byte;
        }
        survive(&bytes, bytes.len() as u64);
        let end = end.index(bytes.len());
        survive(&bytes[..end], (end as u64).saturating_add(longer));
    }

    /// Eight bytes in a row are how counts, lengths, extents and offsets are written.
    #[test]
    fn random_numbers_are_survived(position in any::<Index>(), number in boundary()) {
        let mut bytes = sample().bytes();
        let position = position.index(sample().header().len() - 8);
        bytes[position..position + 8].copy_from_slice(&number.to_le_bytes());
        survive(&bytes, bytes.len() as u64);
    }

    #[test]
    fn random_files_are_survived(file in file(), longer in boundary()) {
        let bytes = file.bytes();
        survive(&bytes, bytes.len() as u64);
        survive(&bytes, (bytes.len() as u64).saturating_add(longer));
    }

    #[test]
    fn random_bytes_are_survived(tail in vec(any::<u8>(), 0..300), n_tensors in 0..3u64) {
        let mut bytes = File { n_tensors: Some(n_tensors), n_entries: Some(1), ..File::new() }.bytes();
        bytes.extend(tail);
        survive(&bytes, bytes.len() as u64);
    }
}
