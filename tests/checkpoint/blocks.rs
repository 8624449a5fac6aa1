//! Decoding is that of the `gguf` package for Python, to the bit.

use pesi::checkpoint::{DType, dequantize};

fn check(dtype: DType, blocks: &[u8], expected: &[u8]) {
    let expected: Vec<f32> =
        expected.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(dtype.bytes_for(expected.len() as u64), Some(blocks.len() as u64));
    let mut found = vec![f32::NAN; expected.len()];
    dequantize(dtype, blocks, &mut found);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(
            found.to_bits(),
            expected.to_bits(),
            "{} element {index}: {found:e} is not {expected:e}",
            dtype.name()
        );
    }
}

macro_rules! golden {
    ($($test:ident: $dtype:ident, $file:literal;)+) => {
        $(
            #[test]
            fn $test() {
                check(
                    DType::$dtype,
                    include_bytes!(concat!("../golden/blocks/", $file, ".bin")),
                    include_bytes!(concat!("../golden/blocks/", $file, ".f32")),
                );
            }
        )+
    };
}

golden! {
    f32_is_exact: F32, "F32";
    f16_is_exact: F16, "F16";
    bf16_is_exact: Bf16, "BF16";
    q4_0_is_exact: Q4_0, "Q4_0";
    q4_1_is_exact: Q4_1, "Q4_1";
    q5_0_is_exact: Q5_0, "Q5_0";
    q5_1_is_exact: Q5_1, "Q5_1";
    q8_0_is_exact: Q8_0, "Q8_0";
    q4_k_is_exact: Q4K, "Q4_K";
    q5_k_is_exact: Q5K, "Q5_K";
    q6_k_is_exact: Q6K, "Q6_K";
    mxfp4_is_exact: Mxfp4, "MXFP4";
}
