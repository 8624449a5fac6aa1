//! Parsing takes memory in proportion to the header, and time too, even for headers that are
//! made of nothing but the smallest possible pieces.

use std::fmt::Write as _;

use pesi::{
    Error,
    checkpoint::{Gguf, Parsed},
};

use crate::{
    allocation::peak_during,
    writer::{File, array, nested, sample, string, tensor_type::F32, value_type},
};

/// Parses and checks the bound that [`Gguf::parse`] documents.
#[track_caller]
pub fn parse_within_bound(prefix: &[u8], file_len: u64) -> Result<Parsed<Gguf>, Error> {
    let (peak, parsed) = peak_during(|| Gguf::parse(prefix, file_len));
    let bound = 5 * prefix.len() + 4096;
    assert!(peak <= bound, "{peak} bytes in use for {} bytes of file", prefix.len());
    parsed
}

#[track_caller]
fn expect_complete(file: &File) -> Gguf {
    let bytes = file.bytes();
    match parse_within_bound(&bytes, bytes.len() as u64).unwrap() {
        Parsed::Complete(gguf) => gguf,
        Parsed::NeedMore { at_least } => panic!("{at_least} of {} bytes", bytes.len()),
    }
}

#[test]
fn empty_strings_and_empty_arrays_stay_small() {
    let n = 100_000;
    let strings = array(value_type::STRING, n, &string(b"").repeat(n as usize));
    expect_complete(&File::new().entry("strings", value_type::ARRAY, strings));
    let one = array(value_type::U8, 0, &[]);
    let arrays = array(value_type::ARRAY, n, &one.repeat(n as usize));
    expect_complete(&File::new().entry("arrays", value_type::ARRAY, arrays));
    let chains = array(value_type::ARRAY, 1000, &nested(3).repeat(1000));
    expect_complete(&File::new().entry("chains", value_type::ARRAY, chains));
}

/// A name of few letters for each number.
fn short_name(mut number: usize) -> String {
    let mut name = String::new();
    loop {
        name.push(char::from(b'0' + (number % 64) as u8));
        number /= 64;
        if number == 0 {
            return name;
        }
    }
}

#[test]
fn many_small_entries_and_tensors_stay_small() {
    let mut file = File::new();
    for index in 0..100_000 {
        file = file.entry(&short_name(index), value_type::U8, [1]);
    }
    assert_eq!(expect_complete(&file).metadata.iter().len(), 100_000);
    let mut file = File::new();
    for index in 0..100_000 {
        file = file.tensor(&short_name(index), &[1], F32, 32 * index as u64, 4);
    }
    let bytes = file.bytes();
    let header = file.header();
    let Parsed::Complete(gguf) = parse_within_bound(&header, bytes.len() as u64).unwrap() else {
        panic!("the header is complete")
    };
    assert_eq!(gguf.tensor(&short_name(77_777)).unwrap().offset, gguf.header_len + 32 * 77_777);
}

/// Each level of nesting claims all the bytes that are left, and more strings than there are.
#[test]
fn claims_without_bytes_behind_them_allocate_nothing() {
    let size = 1 << 20;
    for file_len in [size as u64 + 4096, 1 << 26, 1 << 40] {
        for (element_type, min_bytes) in [(value_type::STRING, 8), (value_type::ARRAY, 12)] {
            for slack in [0, 1, 2, 100] {
                let mut value = Vec::new();
                while value.len() < size {
                    let left = size - value.len();
                    let len = (left / min_bytes).saturating_sub(slack) as u64;
                    value.extend(array(element_type, len, &[]));
                }
                let file = File::new().entry("key", value_type::ARRAY, value);
                let bytes = file.bytes();
                let _ = parse_within_bound(&bytes, file_len);
            }
        }
    }
}

#[test]
fn an_error_is_no_larger_than_the_names_in_it() {
    let mut message = String::new();
    let long = "n".repeat(65_535);
    let mut file = sample().entry(&long, value_type::STRING, u64::MAX.to_le_bytes());
    let (peak, error) = peak_during(|| Gguf::parse(&file.bytes(), 1 << 20).unwrap_err());
    write!(message, "{error}").unwrap();
    assert!(peak < 8 * file.bytes().len() && message.contains("nnn"));
    file = sample().tensor(&long, &[3], 99, 0, 0);
    assert!(Gguf::parse(&file.bytes(), 1 << 20).unwrap_err().detail("tensor").is_some());
}
