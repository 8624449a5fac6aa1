//! The tiny gpt-oss models of the goldens, which have the layout of the published ones: every shard
//! is read as the published crate reads it, and the experts of the safetensors files are those of
//! the GGUF file of the same weights.

use std::{collections::BTreeMap, fs, path::PathBuf};

use pesi::checkpoint::{
    DType, Gguf, Parsed, Safetensors, ShardIndex, TensorInfo, dequantize, index::INDEX_NAME,
    mxfp4::ggml_from_blocks,
};

use crate::safetensors_hostile::agree_with_the_published_crate;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt-oss").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A model in several files.
struct Sharded {
    index: ShardIndex,
    shards: Vec<(Safetensors, Vec<u8>)>,
}

impl Sharded {
    fn open(folder: &str) -> Self {
        let index = ShardIndex::parse(&golden(&format!("{folder}/{INDEX_NAME}"))).unwrap();
        let read = |name: &String| {
            let bytes = golden(&format!("{folder}/{name}"));
            (agree_with_the_published_crate(&bytes), bytes)
        };
        let shards: Vec<_> = index.shards().iter().map(read).collect();
        let headers: Vec<Safetensors> = shards.iter().map(|(header, _)| header.clone()).collect();
        index.check_headers(&headers).unwrap();
        Self { index, shards }
    }

    fn tensor(&self, name: &str) -> (&TensorInfo, &[u8]) {
        let (header, bytes) = &self.shards[self.index.shard_of(name).unwrap()];
        let tensor = header.tensor(name).unwrap();
        (tensor, &bytes[tensor.offset as usize..][..tensor.n_bytes as usize])
    }
}

#[test]
fn the_shards_hold_what_the_family_has() {
    for (folder, n_shards, n_layers, n_experts) in [("a1-basic", 3, 4, 8), ("a2-ratios", 2, 3, 32)]
    {
        let model = Sharded::open(folder);
        assert_eq!(model.shards.len(), n_shards);
        assert_eq!(model.index.tensors().len(), 19 * n_layers + 3);
        let mut counts = BTreeMap::new();
        for tensor in model.shards.iter().flat_map(|(header, _)| &header.tensors) {
            *counts.entry(tensor.dtype.name()).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([("BF16", 15 * n_layers + 3), ("U8", 4 * n_layers)]));
        let (blocks, _) = model.tensor("model.layers.1.mlp.experts.gate_up_proj_blocks");
        assert_eq!((&*blocks.shape, blocks.dtype), (&[n_experts, 128, 2, 16][..], DType::U8));
    }
}

fn gguf(name: &str) -> (Gguf, Vec<u8>) {
    let bytes = golden(&format!("gguf/{name}"));
    match Gguf::parse(&bytes, bytes.len() as u64).unwrap() {
        Parsed::Complete(gguf) => (gguf, bytes),
        Parsed::NeedMore { .. } => panic!("the file is complete"),
    }
}

/// Blocks and scales of safetensors as ggml writes them, row by row.
fn ggml_rows(blocks: &[u8], scales: &[u8], n_blocks: usize) -> Vec<Vec<u8>> {
    let (blocks, rest) = blocks.as_chunks::<16>();
    assert!(rest.is_empty() && blocks.len() == scales.len());
    let packed: Vec<Vec<u8>> = blocks
        .iter()
        .zip(scales)
        .map(|(block, scale)| [&[*scale][..], &ggml_from_blocks(block)].concat())
        .collect();
    packed.chunks(n_blocks).map(<[_]>::concat).collect()
}

/// Blocks and scales decoded as the format of the safetensors files says: element `2j` is the low
/// half of byte `j`.
fn decoded(blocks: &[u8], scales: &[u8]) -> Vec<f32> {
    const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let halves = blocks.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let number = |(index, code): (usize, u8)| {
        let sign = if code < 8 { 1.0 } else { -1.0 };
        let scale = 2f64.powi(i32::from(scales[index / 32]) - 127);
        (sign * f64::from(E2M1[usize::from(code % 8)]) * scale) as f32
    };
    halves.enumerate().map(number).collect()
}

#[test]
fn experts_are_the_same_in_both_formats() {
    for (folder, file) in [("a1-basic", "a1-basic.bf16.gguf"), ("a2-ratios", "a2-ratios.bf16.gguf")]
    {
        let model = Sharded::open(folder);
        let (gguf, bytes) = gguf(file);
        let n_layers = gguf.metadata.u32("gpt-oss.block_count").unwrap();
        for layer in 0..n_layers {
            let part = |name: &str| {
                let of =
                    |what| model.tensor(&format!("model.layers.{layer}.mlp.experts.{name}_{what}"));
                let ((tensor, blocks), (_, scales)) = (of("blocks"), of("scales"));
                (ggml_rows(blocks, scales, tensor.shape[2] as usize), decoded(blocks, scales))
            };
            let expert_rows = |name: &str| {
                let tensor = gguf.tensor(&format!("blk.{layer}.{name}.weight")).unwrap();
                assert_eq!(tensor.dtype, DType::Mxfp4);
                bytes[tensor.offset as usize..][..tensor.n_bytes as usize].to_vec()
            };
            let (gate_up, numbers) = part("gate_up_proj");
            let every_second = |first: usize| {
                gate_up.iter().skip(first).step_by(2).flatten().copied().collect::<Vec<u8>>()
            };
            assert_eq!(every_second(0), expert_rows("ffn_gate_exps"), "layer {layer}");
            assert_eq!(every_second(1), expert_rows("ffn_up_exps"), "layer {layer}");
            let mut found = vec![0.0; numbers.len()];
            dequantize(DType::Mxfp4, &gate_up.concat(), &mut found);
            assert_eq!(found, numbers);

            let (down, numbers) = part("down_proj");
            assert_eq!(down.concat(), expert_rows("ffn_down_exps"), "layer {layer}");
            let mut found = vec![0.0; numbers.len()];
            dequantize(DType::Mxfp4, &down.concat(), &mut found);
            assert_eq!(found, numbers);
        }
    }
}

/// Every code at every place of a block, with every scale, is the same number in both orders.
#[test]
fn both_orders_decode_to_the_same_numbers_at_every_code_place_and_scale() {
    for scale in 0..=u8::MAX {
        for shift in 0..16u8 {
            let code = |element: u8| element.wrapping_add(shift) & 15;
            let block: [u8; 16] =
                std::array::from_fn(|j| code(2 * j as u8) | code(2 * j as u8 + 1) << 4);
            let ggml = [&[scale][..], &ggml_from_blocks(&block)].concat();
            let mut found = [f32::NAN; 32];
            dequantize(DType::Mxfp4, &ggml, &mut found);
            assert_eq!(found[..], decoded(&block, &[scale]), "scale {scale}, shift {shift}");
        }
    }
}
