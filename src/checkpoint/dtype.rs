//! The tensor encodings that can be read, and their block sizes.

/// How the elements of a tensor are encoded.
///
/// Quantized encodings store a row as consecutive blocks of [`DType::block_len`] elements in
/// [`DType::block_bytes`] bytes; the others are blocks of one element. Everything is little endian.
/// [`dequantize`](super::dequantize()) documents the layout of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// 32 signed 4-bit integers and a scale.
    Q4_0,
    /// 32 unsigned 4-bit integers, a scale and a minimum.
    Q4_1,
    /// 32 signed 5-bit integers and a scale.
    Q5_0,
    /// 32 unsigned 5-bit integers, a scale and a minimum.
    Q5_1,
    /// 32 signed 8-bit integers and a scale.
    Q8_0,
    /// 256 unsigned 4-bit integers; each 32 have a 6-bit scale and a 6-bit minimum.
    Q4K,
    /// 256 unsigned 5-bit integers; each 32 have a 6-bit scale and a 6-bit minimum.
    Q5K,
    /// 256 signed 6-bit integers; each 16 have an 8-bit scale.
    Q6K,
    /// 32 floats of 4 bits (E2M1) that share a power of two (E8M0): OCP Microscaling MXFP4.
    Mxfp4,
    /// Bytes. In safetensors files they are the parts of another encoding, whose tensors say by
    /// name what they hold; GGUF has none.
    U8,
}

impl DType {
    /// Every encoding, in the order of the declaration.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Mxfp4,
        Self::U8,
    ];

    /// Elements in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::U8 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Mxfp4 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes in a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Mxfp4 => 17,
            Self::U8 => 1,
        }
    }

    /// The name that ggml's tools print, or for bytes the name in safetensors files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Mxfp4 => "MXFP4",
            Self::U8 => "U8",
        }
    }

    /// Bytes taken by `n_elements` elements; `None` if they are not whole blocks or the number
    /// does not fit 64 bits.
    pub fn bytes_for(self, n_elements: u64) -> Option<u64> {
        let block_len = self.block_len() as u64;
        if !n_elements.is_multiple_of(block_len) {
            return None;
        }
        (n_elements / block_len).checked_mul(self.block_bytes() as u64)
    }

    /// The encoding that ggml numbers `number` (`enum ggml_type`), if it is one of these.
    pub(super) const fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            39 => Self::Mxfp4,
            _ => return None,
        })
    }

    /// The encoding that safetensors files call `name`, if it is one of these.
    pub(super) fn from_safetensors(name: &str) -> Option<Self> {
        Some(match name {
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "U8" => Self::U8,
            _ => return None,
        })
    }
}

/// The name of a `ggml_type` that [`DType`] lacks, for error messages.
pub(super) const fn other_ggml_name(number: u32) -> &'static str {
    match number {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        40 => "NVFP4",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_counts_whole_blocks_only() {
        assert_eq!(DType::Q4_1.bytes_for(576 * 576), Some(207_360));
        assert_eq!(DType::Mxfp4.bytes_for(2880), Some(1530));
        assert_eq!(DType::Q6K.bytes_for(2880), None);
        assert_eq!(DType::F32.bytes_for(0), Some(0));
        assert_eq!(DType::F32.bytes_for(u64::MAX / 4), Some(u64::MAX - 3));
        assert_eq!(DType::F32.bytes_for(u64::MAX / 4 + 1), None);
    }
}
