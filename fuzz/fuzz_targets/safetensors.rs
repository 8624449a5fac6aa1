//! Parses any bytes as a safetensors file and decodes the tensors it has, and as the index of a
//! model in several files: nothing may panic, and no result may contradict the size of the file or
//! name a file outside the model's folder.
//!
//! ```sh
//! cargo install cargo-fuzz
//! mkdir -p fuzz/corpus/safetensors
//! cargo +nightly fuzz run safetensors fuzz/corpus/safetensors fuzz/seeds/safetensors -- -max_total_time=60
//! ```
//!
//! On a stable toolchain, set `RUSTC_BOOTSTRAP=1` instead of `+nightly`. The folder of seeds holds
//! one small file with every encoding that is read, and a small index; the corpus is not checked in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pesi::checkpoint::{Parsed, Safetensors, ShardIndex, dequantize};

/// How many elements are decoded for one input: few enough that an input with large tensors is not
/// slow.
const MAX_ELEMENTS: usize = 1 << 14;

fuzz_target!(|bytes: &[u8]| {
    // The bytes are a whole file, then the start of a longer one.
    for beyond in [0, 1 << 20] {
        let file_len = bytes.len() as u64 + beyond;
        match Safetensors::parse(bytes, file_len) {
            Ok(Parsed::Complete(file)) => decode(&file, bytes, file_len),
            Ok(Parsed::NeedMore { at_least }) => {
                assert!(at_least > bytes.len() as u64 && at_least <= file_len);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    match ShardIndex::parse(bytes) {
        Ok(index) => {
            assert!(index.tensors().all(|(name, shard)| index.shard_of(name) == Some(shard)));
            assert!(index.shards().iter().all(|name| !name.contains(['/', '\\', ':'])));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn decode(file: &Safetensors, bytes: &[u8], file_len: u64) {
    let mut out = vec![0.0; MAX_ELEMENTS];
    let mut end = file.header_len;
    for tensor in &file.tensors {
        assert_eq!(tensor.offset, end);
        end += tensor.n_bytes;
        assert_eq!(file.tensor(&tensor.name), Some(tensor));
        let present = bytes.get(tensor.offset as usize..).unwrap_or_default();
        let present = &present[..present.len().min(tensor.n_bytes as usize)];
        let n_elements = (present.len() / tensor.dtype.block_bytes()).min(MAX_ELEMENTS);
        let present = &present[..n_elements * tensor.dtype.block_bytes()];
        dequantize(tensor.dtype, present, &mut out[..n_elements]);
    }
    assert_eq!(end, file_len);
}
