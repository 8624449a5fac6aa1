//! What the checkpoint module promises of files from strangers, and of decoding.

mod allocation;
mod blocks;
mod gpt_oss;
mod hostile;
mod memory;
mod mutations;
mod safetensors_hostile;
mod safetensors_mutations;
mod safetensors_writer;
mod shard_index;
mod smollm2;
mod writer;

use pesi::{
    Error,
    checkpoint::{Gguf, Parsed},
};

/// Parses a file that is wholly given.
fn parse(bytes: &[u8]) -> Result<Gguf, Error> {
    match Gguf::parse(bytes, bytes.len() as u64)? {
        Parsed::Complete(gguf) => Ok(gguf),
        Parsed::NeedMore { at_least } => {
            panic!("the parser has all {} bytes and asks for {at_least}", bytes.len())
        }
    }
}
