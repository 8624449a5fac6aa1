//! The few layouts in which weights are held, on the GPU, on the CPU and in browser storage.
//!
//! A matrix is stored as two sections: *quants*, the codes of its elements row after row, and
//! *scales*, what turns codes into numbers. Columns come in blocks of [`BLOCK`]; a row of quants is
//! a whole number of 16-byte words, a row of scales a whole number of 4-byte words, so that both can
//! be read as vectors and uploaded row by row.

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::DType,
    error::{Error, Result},
};

/// Columns of a matrix that share scales and are read together.
pub const BLOCK: usize = 32;

/// How precisely dense 16- and 32-bit matrices are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Dense matrices become 8-bit codes with a scale for each block.
    #[default]
    Compact,
    /// Dense matrices stay as published.
    Exact,
}

/// How the elements of a matrix or vector are held.
///
/// Scales are f16, but for [`Layout::Fp4`]. Products of two scales in K-quants are rounded to f16 (relative error 2⁻¹¹).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layout {
    /// 4-bit codes `q` and a pair `(d, m)` a block: `d·q + m`, `q` from 0 to 15. Byte `j` of a block
    /// holds element `j` in its low and element `j + 16` in its high half.
    U4,
    /// 4-bit floats (E2M1: ±0, 0.5, 1, 1.5, 2, 3, 4, 6) and one power of two a block (E8M0: a byte `s`
    /// for 2^(s − 127)): MXFP4, with codes in the order of [`Layout::U4`].
    Fp4,
    /// 8-bit signed codes and one scale `d` a block: `d·q`.
    I8,
    /// 8-bit signed codes and one scale `d` for each 16 elements: `d·q`.
    I8Group16,
    /// 8-bit codes and a pair `(d, m)` a block: `d·q + m`.
    I8Affine,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Single precision.
    F32,
    /// A vector in single precision: one column, each element a row of its own.
    Vector,
}

impl Layout {
    /// Every layout of a matrix.
    pub const MATRICES: [Self; 8] = [
        Self::U4,
        Self::Fp4,
        Self::I8,
        Self::I8Group16,
        Self::I8Affine,
        Self::F16,
        Self::Bf16,
        Self::F32,
    ];

    /// The layout for a matrix that a file holds as `dtype`.
    ///
    /// # Errors
    /// `unsupported` for a type that no matrix of the models here uses.
    pub fn for_matrix(dtype: DType, precision: Precision) -> Result<Self> {
        Ok(match (dtype, precision) {
            (DType::Q4_0 | DType::Q4_1 | DType::Q4K, _) => Self::U4,
            (DType::Q8_0 | DType::Q5_0, _) => Self::I8,
            (DType::Q6K, _) => Self::I8Group16,
            (DType::Q5_1 | DType::Q5K, _) => Self::I8Affine,
            (DType::F16 | DType::Bf16 | DType::F32, Precision::Compact) => Self::I8,
            (DType::F16, Precision::Exact) => Self::F16,
            (DType::Bf16, Precision::Exact) => Self::Bf16,
            (DType::F32, Precision::Exact) => Self::F32,
            (DType::Mxfp4, _) => Self::Fp4,
            (DType::U8, _) => {
                return Err(Error::unsupported("matrix of this type").with("found", dtype.name()));
            }
        })
    }

    /// Short name, as shaders and storage use it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U4 => "u4",
            Self::Fp4 => "fp4",
            Self::I8 => "i8",
            Self::I8Group16 => "i8_group16",
            Self::I8Affine => "i8_affine",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::Vector => "vector",
        }
    }

    /// Bytes of one row in the quants section.
    pub const fn quants_row_bytes(self, n_cols: usize) -> usize {
        match self {
            Self::U4 | Self::Fp4 => n_cols / 2,
            Self::I8 | Self::I8Group16 | Self::I8Affine => n_cols,
            Self::F16 | Self::Bf16 => n_cols * 2,
            Self::F32 | Self::Vector => n_cols * 4,
        }
    }

    /// Bytes of one row in the scales section, a multiple of 4.
    pub const fn scales_row_bytes(self, n_cols: usize) -> usize {
        let n_blocks = n_cols / BLOCK;
        match self {
            Self::U4 | Self::I8Affine | Self::I8Group16 => n_blocks * 4,
            Self::I8 => n_blocks.div_ceil(2) * 4,
            Self::Fp4 => n_blocks.div_ceil(4) * 4,
            Self::F16 | Self::Bf16 | Self::F32 | Self::Vector => 0,
        }
    }
}
