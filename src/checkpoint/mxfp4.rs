//! The two ways in which files pack MXFP4 codes: 32 codes of 4 bits in 16 bytes.
//!
//! safetensors files of gpt-oss have codes and scales in two tensors of bytes, `…_blocks` and
//! `…_scales`. Byte `j` of a block holds element `2j` in its low half and element `2j + 1` in its
//! high half. ggml puts the scale before its block, and byte `j` of it holds elements `j` and
//! `j + 16`: that is the order of [`DType::Mxfp4`](super::DType::Mxfp4). Codes and scales
//! themselves are the same.

/// A block of a safetensors file in ggml's order.
#[inline]
pub fn ggml_from_blocks(block: &[u8; 16]) -> [u8; 16] {
    let mut packed = [0; 16];
    // Bytes `j` and `j + 8` hold elements 2j and 2j + 1, and those 16 further on.
    for j in 0..8 {
        let (first, second) = (block[j], block[j + 8]);
        packed[2 * j] = first & 0xf | second << 4;
        packed[2 * j + 1] = first >> 4 | second & 0xf0;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of ggml, by unpacking all elements.
    fn repacked(block: &[u8; 16]) -> [u8; 16] {
        let element = |i: usize| block[i / 2] >> (i % 2 * 4) & 0xf;
        std::array::from_fn(|j| element(j) | element(j + 16) << 4)
    }

    #[test]
    fn every_value_of_every_byte_goes_to_its_place() {
        for place in 0..16 {
            for value in 0..=u8::MAX {
                for around in [0, 0xff, 0x5a] {
                    let mut block = [around; 16];
                    block[place] = value;
                    assert_eq!(ggml_from_blocks(&block), repacked(&block), "{value} at {place}");
                }
            }
        }
    }

    #[test]
    fn random_blocks_are_repacked() {
        let mut state = 1u128;
        for _ in 0..100_000 {
            state = state.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(0x2545_f491_4f6c_dd1d);
            let block = (state ^ state >> 61).to_le_bytes();
            assert_eq!(ggml_from_blocks(&block), repacked(&block));
        }
    }
}
