//! Parses any bytes as a GGUF file and decodes the tensors it has: nothing may panic, and no
//! result may contradict the size of the file.
//!
//! ```sh
//! cargo install cargo-fuzz
//! mkdir -p fuzz/corpus/gguf
//! cargo +nightly fuzz run gguf fuzz/corpus/gguf fuzz/seeds/gguf -- -max_total_time=60
//! ```
//!
//! On a stable toolchain, set `RUSTC_BOOTSTRAP=1` instead of `+nightly`. The folder of seeds holds
//! one small file in which every part of the format occurs; the corpus is not checked in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pesi::checkpoint::{Gguf, Parsed, dequantize};

/// How many elements are decoded for one input: enough for some blocks of every encoding, and few
/// enough that an input with large tensors is not slow.
const MAX_ELEMENTS: usize = 1 << 14;

fuzz_target!(|bytes: &[u8]| {
    // The bytes are a whole file, then the start of a longer one.
    for beyond in [0, 1 << 20] {
        let file_len = bytes.len() as u64 + beyond;
        match Gguf::parse(bytes, file_len) {
            Ok(Parsed::Complete(gguf)) => decode(&gguf, bytes, file_len),
            Ok(Parsed::NeedMore { at_least }) => {
                assert!(at_least > bytes.len() as u64 && at_least <= file_len);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn decode(gguf: &Gguf, bytes: &[u8], file_len: u64) {
    let mut out = vec![0.0; MAX_ELEMENTS];
    let mut budget = MAX_ELEMENTS;
    for tensor in &gguf.tensors {
        assert!(tensor.offset >= gguf.header_len && tensor.offset + tensor.n_bytes <= file_len);
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        let present = bytes.get(tensor.offset as usize..).unwrap_or_default();
        let present = &present[..present.len().min(tensor.n_bytes as usize)];
        let (block_len, block_bytes) = (tensor.dtype.block_len(), tensor.dtype.block_bytes());
        let n_blocks = (present.len() / block_bytes).min(budget / block_len);
        let n_elements = n_blocks * block_len;
        dequantize(tensor.dtype, &present[..n_blocks * block_bytes], &mut out[..n_elements]);
        budget -= n_elements;
    }
    for (key, value) in gguf.metadata.iter() {
        assert!(gguf.metadata.get(key).is_some_and(|found| std::ptr::eq(found, value)));
    }
}
