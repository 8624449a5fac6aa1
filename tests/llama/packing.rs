//! A packed row decodes to what the file's row decodes to.

use pesi::{
    checkpoint::{DType, dequantize},
    weights::{
        Layout, Precision,
        pack::{pack_row, unpack_row},
    },
};

use super::tiny::{Random, blocks};

#[test]
fn packed_rows_decode_to_the_files_numbers() {
    use DType::*;
    let n_cols = 2048;
    let mut random = Random(3);
    for dtype in [F32, F16, Bf16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K] {
        let bytes = blocks(dtype, n_cols, 1.0, &mut random);
        let mut expected = vec![0.0; n_cols];
        dequantize(dtype, &bytes, &mut expected);
        let layout = Layout::for_matrix(dtype, Precision::Exact).unwrap();
        let found = packed(dtype, layout, &bytes, n_cols);
        // Products of a superblock's scales are rounded to f16, in both terms of an affine code.
        let tolerance = if matches!(dtype, Q4K | Q5K | Q6K) { 2e-3 } else { 0.0 };
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() <= tolerance,
                "{dtype:?} as {layout:?}: element {i} is {a}, not {b}"
            );
        }
    }
}

#[test]
fn compact_codes_are_the_nearest() {
    let n_cols = 1024;
    let bytes = blocks(DType::F32, n_cols, 3.0, &mut Random(4));
    let mut expected = vec![0.0; n_cols];
    dequantize(DType::F32, &bytes, &mut expected);
    let found = packed(DType::F32, Layout::I8, &bytes, n_cols);
    for (found, expected) in found.chunks(32).zip(expected.chunks(32)) {
        let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        for (a, b) in found.iter().zip(expected) {
            // Half a step, and the rounding of the scale to f16 on the largest code.
            assert!((a - b).abs() <= largest * (0.5 / 127.0 + 1.0 / 2048.0), "{a}, not {b}");
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    let zeros = vec![0; 64 * 4];
    assert!(packed(DType::F32, Layout::I8, &zeros, 64).iter().all(|x| *x == 0.0));
}

fn packed(dtype: DType, layout: Layout, bytes: &[u8], n_cols: usize) -> Vec<f32> {
    let mut quants = vec![0; layout.quants_row_bytes(n_cols)];
    let mut scales = vec![0; layout.scales_row_bytes(n_cols)];
    pack_row(dtype, layout, bytes, &mut quants, &mut scales, &mut Vec::new());
    let mut row = vec![0.0; n_cols];
    unpack_row(layout, &quants, &scales, &mut row);
    row
}
