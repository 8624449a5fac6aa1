//! Products with matrices, RMSNorm and the embedding table.

use pesi::{
    cpu::{CpuDevice, reference},
    engine::Outputs,
    gpu::{
        context::Capabilities,
        ops::{Product, embed, matmul, matvec, rms_norm},
        record::Extent,
    },
    ops::{Buffer, BufferId, Linear, Norm, Op, Plan, Then, rope::RopeTable},
    weights::{Grouping, Layout, Precision, WeightId, WeightTable},
};

use super::{
    data::{Matrix, Random, assert_close, assert_within},
    device::{Device, allocate, devices, devices_in_f32},
};

/// Relative to the sum of a product's absolute terms, for f32 sums of a thousand terms.
const TOLERANCE: f32 = 3e-6;

/// As above for inputs rounded to 16 bits by block.
const ROUNDED_TOLERANCE: f32 = 2e-4;

/// As above for weights rounded to f16 in tiles.
const HALF_TOLERANCE: f32 = 5e-4;

const EPS: f32 = 1e-5;

struct Case {
    matrix: Matrix,
    gain: Option<Matrix>,
    bias: Option<Matrix>,
    x: Vec<f32>,
    residual: Vec<f32>,
    then: Then,
    expected: Vec<f32>,
    /// The largest sum of absolute terms of any result.
    magnitude: f32,
    n_tokens: usize,
}

impl Case {
    fn new(
        layout: Layout,
        [n_tokens, n_out, n_cols]: [usize; 3],
        then: Then,
        extras: bool,
        random: &mut Random,
    ) -> Self {
        let n_rows = if then == Then::SwiGlu { 2 * n_out } else { n_out };
        let grouping = if then == Then::SwiGlu { Grouping::Pairs } else { Grouping::Rows };
        let matrix = Matrix::random(layout, n_rows, n_cols, grouping, random);
        let x = random.activations(n_tokens * n_cols);
        let residual = random.activations(n_tokens * n_out);
        let gain = extras.then(|| Matrix::vector(&random.activations(n_cols)));
        let bias = extras.then(|| Matrix::vector(&random.activations(n_rows)));
        let normed = match &gain {
            Some(gain) => reference::rms_norm(&x, &gain.decoded, EPS),
            None => x.clone(),
        };
        let mut expected = residual.clone();
        let magnitude = magnitude(&normed, &matrix.decoded, n_cols, bias.as_ref(), then);
        let bias_elements = bias.as_ref().map(|bias| bias.decoded.as_slice());
        reference::linear(&normed, &matrix.decoded, n_cols, bias_elements, then, &mut expected);
        Self { matrix, gain, bias, x, residual, then, expected, magnitude, n_tokens }
    }

    fn name(&self) -> String {
        format!(
            "{} {:?}, {} tokens, norm and bias {}",
            self.matrix.weight.name,
            self.then,
            self.n_tokens,
            self.gain.is_some()
        )
    }

    #[track_caller]
    fn check(&self, found: &[f32], tolerance: f32, what: &str) {
        assert_within(found, &self.expected, tolerance * self.magnitude, what);
    }

    fn on_cpu(&self) -> Vec<f32> {
        let parts = [Some(&self.matrix), self.gain.as_ref(), self.bias.as_ref()];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let (x, out) = (BufferId(0), BufferId(1));
        let head = Linear {
            weight: WeightId(0),
            bias: self.bias.as_ref().map(|_| WeightId(2)),
            norm: self.gain.as_ref().map(|_| Norm { gain: WeightId(1), eps: EPS }),
            x,
            out,
            then: self.then,
        };
        let plan = Plan {
            weights: WeightTable { weights: parts.iter().map(|p| p.weight.clone()).collect() },
            precision: Precision::Compact,
            buffers: vec![
                Buffer { name: "x", width: self.matrix.weight.n_cols },
                Buffer { name: "out", width: self.expected.len() / self.n_tokens },
            ],
            caches: Vec::new(),
            rope: RopeTable { frequencies: Vec::new(), magnitude: 1.0 },
            layers: Vec::new(),
            layer_ends: Vec::new(),
            head,
            n_vocab: 0,
        };
        let mut device = CpuDevice::new(&plan, 1).unwrap();
        for (index, part) in parts.iter().enumerate() {
            part.write_to(&mut device, WeightId(index));
        }
        device.set_buffer(x, &self.x);
        device.set_buffer(out, &self.residual);
        device.logits(0..self.n_tokens).unwrap().to_vec()
    }

    fn on_gpu(&self, device: &Device, as_vector: bool) -> Vec<f32> {
        let context = &device.context;
        let weight = self.matrix.upload(context);
        let gain = self.gain.as_ref().map(|gain| gain.upload(context));
        let bias = self.bias.as_ref().map(|bias| bias.upload(context));
        let x = device.storage(&self.x);
        let normed = device.storage(&vec![0.0; self.x.len()]);
        let out = device.storage(&self.residual);
        let state = device.state(0, self.n_tokens as u32);
        let target = device.target();
        let extent = Extent { n_tokens: self.n_tokens as u32, n_keys: 0 };
        let product = Product { weight: &weight, bias: bias.as_ref(), out: &out, then: self.then };
        let norm = gain.as_ref().map(|gain| (gain, EPS));
        device.run(extent, |recorder| match norm {
            _ if as_vector => matvec::record(recorder, &target, &state, &x, norm, &product),
            Some((gain, eps)) if !matmul::normalises(&target) => {
                rms_norm::record(recorder, &target, &x, gain, eps, &normed);
                matmul::record(recorder, &target, &state, &normed, None, &product);
            }
            norm => matmul::record(recorder, &target, &state, &x, norm, &product),
        });
        device.read(&out, self.expected.len())
    }
}

fn magnitude(x: &[f32], matrix: &[f32], n_cols: usize, bias: Option<&Matrix>, then: Then) -> f32 {
    let absolute = |values: &[f32]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
    let bias = bias.map(|bias| absolute(&bias.decoded));
    let mut sums = vec![0.0; x.len() / n_cols * (matrix.len() / n_cols)];
    let (x, matrix) = (absolute(x), absolute(matrix));
    reference::linear(&x, &matrix, n_cols, bias.as_deref(), Then::Store, &mut sums);
    let largest = sums.iter().fold(1.0_f32, |a, &b| a.max(b));
    match then {
        Then::Store => largest,
        // Residuals are at most 100.
        Then::Add => largest + 100.0,
        Then::SwiGlu => largest * largest,
    }
}

/// Tokens and rows around the limits of tiles and workgroups, columns around those of blocks.
fn shapes() -> Vec<[usize; 3]> {
    vec![
        [1, 1, 32],
        [1, 63, 64],
        [2, 64, 96],
        [31, 65, 32],
        [32, 31, 512],
        [33, 33, 544],
        [70, 130, 1024],
    ]
}

const THENS: [Then; 3] = [Then::Store, Then::Add, Then::SwiGlu];

/// Layouts with what becomes of products, half of them with bias and norm: what takes no part in the others' code is with
/// each layout and each of the rest, and shaders take long to compile.
fn combinations() -> impl Iterator<Item = (Layout, Then, bool)> {
    Layout::MATRICES.into_iter().enumerate().flat_map(|(at, layout)| {
        THENS.into_iter().zip(at..).map(move |(then, at)| (layout, then, at % 2 == 1))
    })
}

#[test]
fn cpu_products_match_double_precision() {
    let mut random = Random::new(1);
    for layout in Layout::MATRICES {
        for shape in shapes() {
            for (then, extras) in THENS.iter().flat_map(|&then| [(then, false), (then, true)]) {
                let case = Case::new(layout, shape, then, extras, &mut random);
                case.check(&case.on_cpu(), ROUNDED_TOLERANCE, &case.name());
            }
        }
    }
}

#[test]
fn gpu_products_match_double_precision() {
    // Tiles are of f16 where threads are a GPU's.
    let is_other = |device: &Device| {
        let Capabilities { software, f16, .. } = device.context.capabilities;
        !(software && f16)
    };
    for device in devices().into_iter().filter(is_other) {
        let mut random = Random::new(2);
        for (layout, then, extras) in combinations() {
            for shape in shapes() {
                let case = Case::new(layout, shape, then, extras, &mut random);
                let what = format!("{}: matmul {}", device.name, case.name());
                let tolerance =
                    if device.context.capabilities.f16 { HALF_TOLERANCE } else { TOLERANCE };
                case.check(&case.on_gpu(&device, false), tolerance, &what);
            }
        }
    }
}

#[test]
fn gpu_products_with_one_row_match_double_precision() {
    for device in devices_in_f32() {
        let mut random = Random::new(3);
        // As many as a workgroup takes of a large matrix, of which it takes most.
        let rows = device.tuning.rows_of_workgroup(1 << 20) as usize;
        for (layout, then, extras) in combinations() {
            for n_out in [1, rows - 1, rows, rows + 1, 5 * rows + 3] {
                for n_cols in [32, 480, 512, 544] {
                    let shape = [1, n_out, n_cols];
                    let case = Case::new(layout, shape, then, extras, &mut random);
                    let what = format!("{}: matvec {}", device.name, case.name());
                    case.check(&case.on_gpu(&device, true), TOLERANCE, &what);
                }
            }
        }
    }
}

#[test]
fn matrices_in_several_pages_give_the_same_products() {
    use pesi::gpu::context::{AdapterHints, Context};
    use pesi::gpu::tuning::Tuning;
    let hints = AdapterHints { max_binding: Some(8192), ..Default::default() };
    let context = pollster::block_on(Context::request(&hints)).unwrap();
    let tuning = Tuning::for_adapter(&context.capabilities);
    let device = Device::new(context, tuning, "pages of 8 KiB".to_owned());
    let mut random = Random::new(4);
    for layout in Layout::MATRICES {
        for then in THENS {
            let case = Case::new(layout, [1, 100, 256], then, true, &mut random);
            let pages = allocate(&device.context, &case.matrix.weight).unwrap().pages.len();
            assert!(pages > 1, "{} is in {pages} page", case.name());
            for as_vector in [true, false] {
                let what = format!("{}: {}", device.name, case.name());
                let found = case.on_gpu(&device, as_vector);
                case.check(&found, HALF_TOLERANCE, &what);
            }
        }
    }
}

#[test]
fn embeddings_are_exact() {
    let tokens = [0, 5, 36, 36, 17, 1];
    for device in devices_in_f32() {
        let mut random = Random::new(5);
        for layout in Layout::MATRICES {
            for n_cols in [32, 64, 2048, 2080] {
                let table = Matrix::random(layout, 37, n_cols, Grouping::Rows, &mut random);
                let expected: Vec<f32> = tokens
                    .iter()
                    .flat_map(|&token| &table.decoded[token as usize * n_cols..][..n_cols])
                    .copied()
                    .collect();

                let weight = table.upload(&device.context);
                let ids = device.words(&tokens);
                let out = device.storage(&vec![0.0; expected.len()]);
                let state = device.state(0, tokens.len() as u32);
                let extent = Extent { n_tokens: tokens.len() as u32, n_keys: 0 };
                device.run(extent, |recorder| embed::record(recorder, &state, &weight, &ids, &out));
                let what = format!("{}: embedding {}", device.name, table.weight.name);
                // A product and a sum may be one operation or two.
                assert_close(&device.read(&out, expected.len()), &expected, 1e-6, &what);
                assert_close(&embedded_on_cpu(&table, &tokens), &expected, 0.0, &what);
            }
        }
    }
}

fn embedded_on_cpu(table: &Matrix, tokens: &[u32]) -> Vec<f32> {
    let out = BufferId(0);
    let plan = Plan {
        weights: WeightTable { weights: vec![table.weight.clone()] },
        precision: Precision::Compact,
        buffers: vec![Buffer { name: "out", width: table.weight.n_cols }],
        caches: Vec::new(),
        rope: RopeTable { frequencies: Vec::new(), magnitude: 1.0 },
        layers: vec![Op::Embed { table: WeightId(0), out }],
        layer_ends: Vec::new(),
        head: Linear {
            weight: WeightId(0),
            bias: None,
            norm: None,
            x: out,
            out,
            then: Then::Store,
        },
        n_vocab: 0,
    };
    let mut device = CpuDevice::new(&plan, 1).unwrap();
    table.write_to(&mut device, WeightId(0));
    device.extend(tokens, 0, Outputs::All).unwrap();
    device.buffer(out).to_vec()
}
