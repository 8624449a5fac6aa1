//! Finds named tensors in model files.
//!
//! In: the first bytes of a file and the file's size. Out: a table of [`TensorInfo`] and, of a GGUF
//! file, its [`Metadata`], or a typed error. [`dequantize()`] turns the bytes of a tensor into
//! `f32`.
//!
//! Nothing here reads or writes a file. Files come from strangers, so every count, length and
//! offset is checked before use against the bytes that are there and the size of the file:
//! no input makes this module panic, and parsing takes memory in proportion to the header.

pub mod dequantize;
pub mod dtype;
pub mod gguf;
pub mod index;
mod json;
pub mod metadata;
pub mod mxfp4;
mod reader;
pub mod safetensors;
mod table;
mod tensors;
mod value;

pub use dequantize::dequantize;
pub use dtype::DType;
pub use gguf::Gguf;
pub use index::ShardIndex;
pub use metadata::{Array, Metadata, Strings, Value};
pub use reader::Parsed;
pub use safetensors::Safetensors;
pub use tensors::TensorTable;

/// One tensor of a model file: what it is called, how it is laid out and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, unique within the file.
    pub name: String,
    /// Row-major extents, outermost first, each at least 1: `[rows, columns]` for a matrix. The
    /// last one is contiguous in the file and a whole number of `dtype` blocks. A safetensors
    /// file may have a single number, which has no extents.
    pub shape: Vec<u64>,
    /// How the elements are encoded.
    pub dtype: DType,
    /// Where the first byte is, counted from the start of the file.
    pub offset: u64,
    /// How many bytes there are; `offset + n_bytes` lies within the file.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// The number of elements: the product of `shape`.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }
}
