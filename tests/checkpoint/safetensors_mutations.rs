//! Safetensors files with damage: the result is a parsed file on which the published crate agrees,
//! or a typed error. Never a panic, and never more memory than the bytes given account for.

use pesi::{
    Error, ErrorKind,
    checkpoint::{Parsed, Safetensors, ShardIndex, dequantize},
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    allocation::peak_during,
    safetensors_hostile::agree_with_the_published_crate,
    safetensors_writer::{File, sample, with_size},
};

/// Parses and checks the bound that [`Safetensors::parse`] documents.
#[track_caller]
fn parse_within_bound(prefix: &[u8], file_len: u64) -> Result<Parsed<Safetensors>, Error> {
    let (peak, parsed) = peak_during(|| Safetensors::parse(prefix, file_len));
    let bound = 16 * prefix.len() + 4096;
    assert!(peak <= bound, "{peak} bytes in use for {} bytes of file", prefix.len());
    parsed
}

/// Parses damaged bytes and uses what comes out as a loader would.
fn survive(bytes: &[u8], file_len: u64) {
    match parse_within_bound(bytes, file_len) {
        Ok(Parsed::Complete(file)) => use_all(&file, bytes, file_len),
        Ok(Parsed::NeedMore { at_least }) => {
            assert!(at_least > bytes.len() as u64 && at_least <= file_len);
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::InvalidModel | ErrorKind::Unsupported));
            assert!(!error.to_string().is_empty());
        }
    }
}

fn use_all(file: &Safetensors, bytes: &[u8], file_len: u64) {
    let mut end = file.header_len;
    for tensor in &file.tensors {
        assert_eq!(tensor.offset, end);
        end += tensor.n_bytes;
        assert_eq!(tensor.dtype.bytes_for(tensor.n_elements()), Some(tensor.n_bytes));
        assert_eq!(file.tensor(&tensor.name), Some(tensor));
        if let Some(bytes) = bytes.get(tensor.offset as usize..end as usize) {
            dequantize(tensor.dtype, bytes, &mut vec![0.0; tensor.n_elements() as usize]);
        }
    }
    assert_eq!(end, file_len);
    if bytes.len() as u64 == file_len {
        agree_with_the_published_crate(bytes);
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

#[test]
fn many_small_tensors_stay_small() {
    let mut file = File::default();
    for index in 0..50_000 {
        file = file.tensor(&format!("{index:x}"), "U8", &[1], [index, index + 1]);
    }
    let bytes = file.bytes();
    let Parsed::Complete(parsed) = parse_within_bound(&file.header(), bytes.len() as u64).unwrap()
    else {
        panic!("the header is complete")
    };
    assert_eq!(parsed.tensor("beef").unwrap().offset, parsed.header_len + 0xbeef);
}

/// Headers of which the smallest pieces are repeated, or one piece is as large as can be.
#[test]
fn no_piece_of_a_header_takes_much_more_memory_than_bytes() {
    let n = 100_000;
    let tensor = |name: &str, dtype: &str, shape: &str| {
        format!(r#"{{"{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[0,1]}}}}"#)
    };
    let unprintable = "\u{200b}".repeat(n);
    for json in [
        format!("{{{}\"a\":0}}", r#""":["U8",[1],[0,1]],"#.repeat(n)),
        format!(r#"{{"__metadata__":{{{}"":0}}}}"#, r#""":"","#.repeat(n)),
        tensor("t", "U8", &"1,".repeat(n)),
        tensor(&"n".repeat(n), "U8", "1"),
        tensor(&r"\n".repeat(n), "U8", "1"),
        tensor("t", &unprintable, "1"),
        tensor("t", &r"\u200b".repeat(n), "1"),
        format!(r#"{{"t":"{unprintable}"}}"#),
        format!(r#"{{"t":{{"{unprintable}":1}}}}"#),
        format!(r#"{{"t":{{"dtype":"U8","shape":"{unprintable}"}}}}"#),
        " ".repeat(n),
        "[".repeat(n),
    ] {
        let bytes = with_size(&json, None);
        for beyond in [0, 1, 1 << 40] {
            let error = parse_within_bound(&bytes, bytes.len() as u64 + beyond).unwrap_err();
            assert!(error.to_string().len() < 66_000 + 1000);
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

/// Files whose every field is drawn at random, from values near the sound ones.
fn file() -> impl Strategy<Value = File> {
    let dtype = prop_oneof![4 => Just("U8"), 4 => Just("BF16"), 2 => Just("F32"), 1 => Just("I64")];
    let extent = prop_oneof![9 => 1..4u64, 1 => boundary()];
    let tensor =
        ("[abc]{0,2}", dtype, vec(extent, 0..4), proptest::option::weighted(0.1, boundary()));
    let header_bytes = proptest::option::weighted(0.1, boundary());
    (header_bytes, vec(tensor, 0..5), -1..2i64).prop_map(|(header_bytes, tensors, longer)| {
        let mut file = File { header_bytes, ..File::default() };
        let mut end = 0u64;
        for (name, dtype, shape, other_end) in tensors {
            let size = match dtype {
                "U8" => 1,
                "BF16" => 2,
                _ => 4,
            };
            let start = end;
            let n_bytes = shape.iter().fold(size, |product: u64, x| product.wrapping_mul(*x));
            end = other_end.unwrap_or(start.wrapping_add(n_bytes));
            file = file.tensor(&name, dtype, &shape, [start, end.min(1 << 13)]);
            file.tensors.last_mut().unwrap().offsets[1] = end;
        }
        file.data_len = file.data_len.saturating_add_signed(longer as isize);
        file
    })
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

    /// A character that JSON gives a meaning to, in place of any.
    #[test]
    fn random_punctuation_is_survived(
        damage in vec((any::<Index>(), "[]{}\",:0-9e.\\\\n -]"), 1..4),
    ) {
        let mut bytes = sample().bytes();
        let header_len = sample().header().len();
        for (position, character) in damage {
            bytes[8 + position.index(header_len - 8)] = character.as_bytes()[0];
        }
        survive(&bytes, bytes.len() as u64);
    }

    #[test]
    fn random_files_are_survived(file in file(), longer in boundary()) {
        let bytes = file.bytes();
        survive(&bytes, bytes.len() as u64);
        survive(&bytes, (bytes.len() as u64).saturating_add(longer));
    }

    #[test]
    fn random_json_is_survived(json in "[{}\\[\\]\",:a-e0-9 ]{0,60}", data in 0..4usize) {
        let bytes = [with_size(&json, None), vec![0; data]].concat();
        survive(&bytes, bytes.len() as u64);
    }

    #[test]
    fn a_damaged_index_is_survived(damage in vec((any::<Index>(), any::<u8>()), 1..8)) {
        let mut json = br#"{"metadata":{"total_size":9},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#.to_vec();
        for (position, byte) in damage {
            let position = position.index(json.len());
            json[position] = byte;
        }
        match ShardIndex::parse(&json) {
            Ok(index) => {
                for (tensor, shard) in index.tensors() {
                    prop_assert_eq!(index.shard_of(tensor), Some(shard));
                }
                for shard in index.shards() {
                    prop_assert!(shard.ends_with(".safetensors") && !shard.contains('/'));
                }
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidModel),
        }
    }
}
