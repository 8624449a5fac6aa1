//! Whole models against a plain forward pass in double precision over the file's decoded tensors.

use std::{collections::HashMap, rc::Rc};

use pesi::{
    checkpoint::{DType, Gguf, Parsed, TensorTable, dequantize},
    config::{ModelConfig, RopePairing, RopeScaling},
    cpu::{Threads, reference},
    engine::{DeviceKind, create_engine},
    gpu::context::AdapterHints,
    ops::{Heads, Then},
    session::{Description, Host, Opened, Session},
    source::LocalFuture,
    weights::{Precision, load},
};

use super::tiny::{
    Bytes, HEAD_DIM, Kind, N_EMBD, N_HEADS, N_KV_HEADS, N_LAYERS, N_VOCAB, Random, write,
};

struct NoHost;

impl Host for NoHost {
    fn now(&self) -> f64 {
        0.0
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Logits by the plainest way from the file's bytes, [n_tokens, n_vocab].
fn reference_logits(bytes: &[u8], tokens: &[u32]) -> Vec<f32> {
    let Parsed::Complete(gguf) = Gguf::parse(bytes, bytes.len() as u64).unwrap() else {
        panic!("the whole file is given")
    };
    let tensors: HashMap<&str, Vec<f32>> = gguf
        .tensors
        .iter()
        .map(|tensor| {
            let mut elements = vec![0.0; tensor.n_elements() as usize];
            let end = (tensor.offset + tensor.n_bytes) as usize;
            dequantize(tensor.dtype, &bytes[tensor.offset as usize..end], &mut elements);
            (tensor.name.as_str(), elements)
        })
        .collect();
    let table = TensorTable::new(vec![("tiny.gguf", gguf.tensors.clone())]).unwrap();
    let config = ModelConfig::from_gguf(&gguf.metadata, &table).unwrap();
    let divisors = tensors.get("rope_freqs.weight").map(Vec::as_slice);
    let frequencies = config.rope.frequencies(divisors);
    let heads = Heads { n_heads: N_HEADS, n_kv_heads: N_KV_HEADS, head_dim: HEAD_DIM };

    let product = |x: &[f32], layer: usize, name: &str, n_cols: usize| {
        let matrix = &tensors[format!("blk.{layer}.{name}.weight").as_str()];
        let bias = tensors.get(format!("blk.{layer}.{name}.bias").as_str()).map(Vec::as_slice);
        let mut out = vec![0.0; x.len() / n_cols * (matrix.len() / n_cols)];
        reference::linear(x, matrix, n_cols, bias, Then::Store, &mut out);
        out
    };
    let mut hidden: Vec<f32> = tokens
        .iter()
        .flat_map(|&token| &tensors["token_embd.weight"][token as usize * N_EMBD..][..N_EMBD])
        .copied()
        .collect();
    for layer in 0..N_LAYERS {
        let gain = &tensors[format!("blk.{layer}.attn_norm.weight").as_str()];
        let x = reference::rms_norm(&hidden, gain, config.rms_eps);
        let [mut q, mut k, v] =
            ["attn_q", "attn_k", "attn_v"].map(|name| product(&x, layer, name, N_EMBD));
        for (rows, width) in [(&mut q, heads.q_width()), (&mut k, heads.kv_width())] {
            for (position, row) in rows.chunks_exact_mut(width).enumerate() {
                let magnitude = config.rope.magnitude();
                let pairing = RopePairing::Adjacent;
                reference::rope(row, HEAD_DIM, &frequencies, magnitude, position, pairing);
            }
        }
        let scale = 1.0 / (HEAD_DIM as f32).sqrt();
        let attended: Vec<f32> = q
            .chunks_exact(heads.q_width())
            .enumerate()
            .flat_map(|(position, q)| {
                let seen = (position + 1) * heads.kv_width();
                reference::attention(q, &k[..seen], &v[..seen], heads, scale, None)
            })
            .collect();
        let added = product(&attended, layer, "attn_output", heads.q_width());
        hidden.iter_mut().zip(added).for_each(|(hidden, added)| *hidden += added);

        let gain = &tensors[format!("blk.{layer}.ffn_norm.weight").as_str()];
        let x = reference::rms_norm(&hidden, gain, config.rms_eps);
        let gate = product(&x, layer, "ffn_gate", N_EMBD);
        let up = product(&x, layer, "ffn_up", N_EMBD);
        let gated: Vec<f32> =
            gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
        let added = product(&gated, layer, "ffn_down", config.n_ffn);
        hidden.iter_mut().zip(added).for_each(|(hidden, added)| *hidden += added);
    }
    let x = reference::rms_norm(&hidden, &tensors["output_norm.weight"], config.rms_eps);
    let matrix = tensors.get("output.weight").unwrap_or(&tensors["token_embd.weight"]);
    let mut logits = vec![0.0; tokens.len() * N_VOCAB];
    reference::linear(&x, matrix, N_EMBD, None, Then::Store, &mut logits);
    logits
}

fn logits_on(device: &DeviceKind, bytes: &[u8], precision: Precision, tokens: &[u32]) -> Vec<f32> {
    named_logits_on(device, bytes, precision, tokens).1
}

/// The name of what computed, and the logits after each of `tokens`.
fn named_logits_on(
    device: &DeviceKind,
    bytes: &[u8],
    precision: Precision,
    tokens: &[u32],
) -> (String, Vec<f32>) {
    pollster::block_on(async {
        let (folder, entry) = Bytes(bytes.to_vec()).in_folder();
        let Opened { description, sources, .. } = Description::open(&folder, &entry).await.unwrap();
        let plan = description.plan(precision).unwrap();
        let mut engine = create_engine(device, &plan, 256).await.unwrap();
        load(&sources, &plan.weights, engine.as_mut()).await.unwrap();
        let name = engine.device_name();
        let mut session = Session::new(engine, description, 256);
        (name, session.logits(tokens, &NoHost, &|| false).await.unwrap())
    })
}

/// Error relative to the logits' energy, of the worst position.
fn worst_nmse(found: &[f32], expected: &[f32]) -> f64 {
    let rows = found.chunks_exact(N_VOCAB).zip(expected.chunks_exact(N_VOCAB));
    rows.map(|(found, expected)| {
        let square = |x: f64| x * x;
        let pairs = found.iter().zip(expected);
        let error: f64 = pairs.map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
        error / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()
    })
    .fold(0.0, f64::max)
}

fn kinds() -> Vec<Kind> {
    use DType::*;
    let mut kinds: Vec<Kind> =
        [F32, F16, Bf16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K].map(Kind::of).into();
    let plain = Kind::of(Q8_0);
    kinds.extend([
        // As files labelled Q4_K_M are: types differ between what is stacked and what is paired.
        Kind {
            types: [Q4K, Q4K, Q6K, Q4K, Q4K, Q8_0, Q6K, Q4K, Q6K],
            tied: false,
            ..plain.clone()
        },
        Kind { types: [Q4_0, Q5_1, Q5_1, Bf16, Q4_0, Q4_1, F16, Q8_0, Q5_0], ..plain.clone() },
        Kind { biases: true, tied: false, ..plain.clone() },
        Kind { n_rot: 32, ..plain.clone() },
        Kind { scaling: Some("linear"), ..plain.clone() },
        Kind { scaling: Some("yarn"), biases: true, ..plain.clone() },
        Kind { divisors: true, ..plain },
    ]);
    kinds
}

#[test]
fn every_kind_of_llama_matches_a_plain_forward_pass() {
    let pages = AdapterHints { max_binding: Some(140_000), ..Default::default() };
    let devices = [
        ("CPU", DeviceKind::Cpu),
        ("GPU", DeviceKind::Gpu(AdapterHints::default())),
        ("GPU in small pages", DeviceKind::Gpu(pages)),
    ];
    let tokens: Vec<u32> = (0..41).map(|i| i * 37 % 257).collect();
    for (seed, kind) in kinds().into_iter().enumerate() {
        let bytes = write(&kind, &mut Random(seed as u64));
        let expected = reference_logits(&bytes, &tokens);
        for (name, device) in &devices {
            let found = logits_on(device, &bytes, Precision::Exact, &tokens);
            let nmse = worst_nmse(&found, &expected);
            assert!(nmse <= 1e-4, "{name}, {kind:?}: NMSE {nmse:.2e}");
        }
    }
}

#[test]
fn threads_compute_what_one_computes() {
    let tokens: Vec<u32> = (0..41).map(|i| i * 37 % 257).collect();
    let threads = DeviceKind::Threads(Rc::new(Threads::new(2)));
    for (seed, kind) in kinds().into_iter().enumerate() {
        let bytes = write(&kind, &mut Random(seed as u64));
        for precision in [Precision::Exact, Precision::Compact] {
            let [alone, together] = [&DeviceKind::Cpu, &threads]
                .map(|device| named_logits_on(device, &bytes, precision, &tokens));
            assert_eq!([alone.0.as_str(), together.0.as_str()], ["CPU", "CPU, 2 threads"]);
            assert!(alone.1 == together.1, "{kind:?}, {precision:?}");
        }
    }
}

#[test]
fn compact_weights_stay_close_to_exact_ones() {
    let tokens: Vec<u32> = (0..20).map(|i| i * 11 % 257).collect();
    for dtype in [DType::F32, DType::F16, DType::Bf16] {
        let bytes = write(&Kind::of(dtype), &mut Random(9));
        let exact = logits_on(&DeviceKind::Cpu, &bytes, Precision::Exact, &tokens);
        let compact = logits_on(&DeviceKind::Cpu, &bytes, Precision::Compact, &tokens);
        let nmse = worst_nmse(&compact, &exact);
        assert!(nmse > 0.0 && nmse < 1e-3, "{dtype:?}: NMSE {nmse:.2e}");
    }
}

#[test]
fn rotary_scaling_follows_its_definitions() {
    let bytes = write(&Kind { scaling: Some("yarn"), ..Kind::of(DType::F32) }, &mut Random(1));
    let Parsed::Complete(gguf) = Gguf::parse(&bytes, bytes.len() as u64).unwrap() else {
        panic!("the whole file is given")
    };
    let table = TensorTable::new(vec![("tiny.gguf", gguf.tensors)]).unwrap();
    let rope = ModelConfig::from_gguf(&gguf.metadata, &table).unwrap().rope;
    assert!(matches!(rope.scaling, RopeScaling::Yarn { factor: 4.0, .. }));
    assert!((rope.magnitude() - (0.1 * 4_f32.ln() + 1.0)).abs() < 1e-6);
    let scaled = rope.frequencies(None);
    let plain: Vec<f64> =
        (0..HEAD_DIM / 2).map(|i| 5e4_f64.powf(-2.0 * i as f64 / HEAD_DIM as f64)).collect();
    // The fastest pair turns many times within the original context, the slowest less than once.
    assert!((scaled[0] - plain[0]).abs() < 1e-12);
    let last = HEAD_DIM / 2 - 1;
    assert!((scaled[last] - plain[last] / 4.0).abs() < 1e-12);
    assert!(scaled.iter().zip(&plain).all(|(s, p)| *s <= *p && *s >= p / 4.0 - 1e-15));
}
