//! Routing, and products with the matrices of chosen experts.

use pesi::{
    cpu::{
        CpuDevice,
        reference::{self, ExpertMatrices},
    },
    engine::Outputs,
    gpu::{
        context::{AdapterHints, Context},
        ops::{
            experts::{self, Operands, Scratch, is_interleaved},
            rms_norm, route,
        },
        record::Extent,
        tuning::Tuning,
    },
    ops::{Buffer, BufferId, Experts, Linear, Norm, Op, Plan, Then, ThenExperts, rope::RopeTable},
    weights::{Grouping, Layout, Precision, WeightId, WeightTable},
};

use super::{
    data::{Matrix, Random, assert_close, assert_within},
    device::{Device, allocate, devices_in_f32},
};

/// Relative to the sum of a product's absolute terms, for f32 sums of a thousand terms.
const TOLERANCE: f32 = 3e-6;

/// As above for inputs rounded to 16 bits by block.
const ROUNDED_TOLERANCE: f32 = 2e-4;

const EPS: f32 = 1e-5;
const SWIGLU: ThenExperts = ThenExperts::SwiGlu { limit: 7.0 };

/// Products of tokens with experts, and what they should be.
struct Case {
    n_tokens: usize,
    n_experts: usize,
    n_used: usize,
    then: ThenExperts,
    matrices: Matrix,
    biases: Option<Matrix>,
    gain: Option<Matrix>,
    x: Vec<f32>,
    residual: Vec<f32>,
    /// Of the router, [n_tokens, n_experts].
    logits: Vec<f32>,
    routing: Vec<f32>,
    expected: Vec<f32>,
    magnitude: f32,
}

impl Case {
    fn new(
        layout: Layout,
        [n_tokens, n_experts, n_used]: [usize; 3],
        [n_out, n_cols]: [usize; 2],
        then: ThenExperts,
        extras: bool,
        random: &mut Random,
    ) -> Self {
        let n_rows = if then == SWIGLU { 2 * n_out } else { n_out };
        let grouping = Grouping::Experts(n_experts);
        let matrices = Matrix::random(layout, n_experts * n_rows, n_cols, grouping, random);
        let biases = extras.then(|| Matrix::vector(&random.activations(n_experts * n_rows)));
        let gain = (extras && then == SWIGLU).then(|| Matrix::vector(&random.activations(n_cols)));
        let inputs = if then == SWIGLU { 1 } else { n_used };
        let x = random.activations(n_tokens * inputs * n_cols);
        let outputs = if then == SWIGLU { n_used } else { 1 };
        let residual = random.activations(n_tokens * outputs * n_out);
        let normed = match &gain {
            Some(gain) => reference::rms_norm(&x, &gain.decoded, EPS),
            None => x.clone(),
        };
        let mut expected = residual.clone();
        let (mut all_logits, mut routing) = (Vec::new(), Vec::new());
        let mut magnitude = 1.0_f32;
        for t in 0..n_tokens {
            // Most tokens to a few experts, so that tiles fill and others stay empty.
            let logits: Vec<f32> =
                (0..n_experts).map(|e| random.signed() * 4.0 - e as f32 / 4.0).collect();
            let chosen = reference::route(&logits, n_used);
            all_logits.extend(logits);
            routing.extend(chosen.iter().map(|(expert, _)| *expert as f32));
            routing.extend(chosen.iter().map(|(_, weight)| *weight));
            let x = &normed[t * inputs * n_cols..][..inputs * n_cols];
            let weights = ExpertMatrices {
                matrices: &matrices.decoded,
                biases: biases.as_ref().map(|biases| biases.decoded.as_slice()),
                n_experts,
                n_cols,
            };
            let out = &mut expected[t * outputs * n_out..][..outputs * n_out];
            reference::experts(x, &weights, &chosen, then, out);
            magnitude = magnitude.max(largest_sum(x, &matrices.decoded, n_cols));
        }
        // The gated unit is steep: an error of a gate or an up counts up to the limit and more.
        magnitude *= if then == SWIGLU { 16.0 } else { 1.0 };
        Self {
            n_tokens,
            n_experts,
            n_used,
            then,
            matrices,
            biases,
            gain,
            x,
            residual,
            logits: all_logits,
            routing,
            expected,
            magnitude: magnitude + 100.0,
        }
    }

    /// Whether the product of one row chooses its experts itself on `device`.
    fn may_route(&self, device: &Device) -> bool {
        self.then == SWIGLU && device.tuning.fuses_into_experts
    }

    fn name(&self) -> String {
        format!(
            "{} {:?}, {} tokens, {} of {} experts, norm and bias {}",
            self.matrices.weight.name,
            self.then,
            self.n_tokens,
            self.n_used,
            self.n_experts,
            self.biases.is_some()
        )
    }

    #[track_caller]
    fn check(&self, found: &[f32], tolerance: f32, what: &str) {
        assert_within(found, &self.expected, tolerance * self.magnitude, what);
    }

    fn on_cpu(&self) -> Vec<f32> {
        let parts = [Some(&self.matrices), self.gain.as_ref(), self.biases.as_ref()];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let id = |wanted: &Option<Matrix>| {
            let wanted = wanted.as_ref()?;
            parts.iter().position(|part| std::ptr::eq(*part, wanted)).map(WeightId)
        };
        let [x, routing, out] = [0, 1, 2].map(BufferId);
        let op = Experts {
            weight: WeightId(0),
            bias: id(&self.biases),
            norm: id(&self.gain).map(|gain| Norm { gain, eps: EPS }),
            n_experts: self.n_experts,
            n_used: self.n_used,
            x,
            routing,
            out,
            then: self.then,
        };
        let width = |values: &[f32]| values.len() / self.n_tokens;
        let plan = Plan {
            weights: WeightTable { weights: parts.iter().map(|p| p.weight.clone()).collect() },
            precision: Precision::Compact,
            buffers: vec![
                Buffer { name: "x", width: width(&self.x) },
                Buffer { name: "routing", width: width(&self.routing) },
                Buffer { name: "out", width: width(&self.expected) },
            ],
            caches: Vec::new(),
            rope: RopeTable { frequencies: Vec::new(), magnitude: 1.0 },
            layers: vec![Op::Experts(op)],
            layer_ends: Vec::new(),
            head: Linear { weight: WeightId(0), bias: None, norm: None, x, out, then: Then::Store },
            n_vocab: 0,
        };
        let mut device = CpuDevice::new(&plan, 1).unwrap();
        for (index, part) in parts.iter().enumerate() {
            part.write_to(&mut device, WeightId(index));
        }
        device.set_buffer(x, &self.x);
        device.set_buffer(routing, &self.routing);
        device.set_buffer(out, &self.residual);
        device.extend(&vec![0; self.n_tokens], 0, Outputs::All).unwrap();
        device.buffer(out).to_vec()
    }

    /// As many rows, or as one; with `routes` experts are chosen on the way, and what is written of the
    /// choice is checked.
    fn on_gpu(&self, device: &Device, [as_vector, routes]: [bool; 2]) -> Vec<f32> {
        let context = &device.context;
        let weight = self.matrices.upload(context);
        let bias = self.biases.as_ref().map(|biases| biases.upload(context));
        let gain = self.gain.as_ref().map(|gain| gain.upload(context));
        let target = device.target();
        let width = self.expected.len() / self.n_tokens;
        let n_cols = self.matrices.weight.n_cols;
        let n_out = match self.then {
            ThenExperts::SwiGlu { .. } => width / self.n_used,
            ThenExperts::Add => width,
        };
        let interleaves = as_vector && is_interleaved(&target, self.then, [n_out, n_cols]);
        let x = match self.then {
            ThenExperts::Add if interleaves => device.storage(&interleaved(&self.x, n_cols)),
            _ => device.storage(&self.x),
        };
        let normed = device.storage(&vec![0.0; self.x.len()]);
        let out = device.storage(&self.residual);
        let logits = device.storage(&self.logits);
        let routing = match routes {
            true => device.storage(&vec![0.0; self.routing.len()]),
            false => device.storage(&self.routing),
        };
        let state = device.state(0, self.n_tokens as u32);
        let scratch = Scratch::new(context, &target, [self.n_experts, self.n_used, width]).unwrap();
        let operands = Operands {
            state: &state,
            weight: &weight,
            bias: bias.as_ref(),
            x: &x,
            routing: &routing,
            logits: routes.then_some(&logits),
            out: &out,
            n_experts: self.n_experts,
            n_used: self.n_used,
            then: self.then,
        };
        let norm = gain.as_ref().map(|gain| (gain, EPS));
        let extent = Extent { n_tokens: self.n_tokens as u32, n_keys: 0 };
        let fused = norm.filter(|_| as_vector && device.tuning.fuses_into_experts);
        let ahead = norm.filter(|_| fused.is_none());
        device.run(extent, |recorder| {
            let mut operands = operands;
            if let Some((gain, eps)) = ahead {
                rms_norm::record(recorder, &target, &x, gain, eps, &normed);
                operands.x = &normed;
            }
            match as_vector {
                true => experts::record_last(recorder, &target, fused, operands),
                false => experts::record_chunk(recorder, &target, &scratch, operands),
            }
        });
        if routes {
            let found = device.read(&routing, self.routing.len());
            check_routing(&found, &self.routing, self.n_used, &self.name());
        }
        let found = device.read(&out, self.expected.len());
        match self.then {
            ThenExperts::SwiGlu { .. } if interleaves => in_order(&found, n_out),
            _ => found,
        }
    }
}

/// Rows of `width` elements with the first vectors of all blocks, then their second ones, and so on.
fn interleaved(rows: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    for (at, place) in places(rows.len(), width) {
        out[place] = rows[at];
    }
    out
}

/// What [`interleaved`] was made of.
fn in_order(rows: &[f32], width: usize) -> Vec<f32> {
    places(rows.len(), width).map(|(_, place)| rows[place]).collect()
}

/// Where each element of the rows stands in their interleaved form.
fn places(len: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).map(move |at| {
        let (row, column) = (at / width, at % width);
        let vector = column % 32 / 4 * (width / 32) + column / 32;
        (at, row * width + vector * 4 + column % 4)
    })
}

/// The largest sum of absolute terms of any row with the input `x`.
fn largest_sum(x: &[f32], matrix: &[f32], n_cols: usize) -> f32 {
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    matrix
        .chunks_exact(n_cols)
        .map(|row| {
            x.chunks_exact(n_cols)
                .map(|x| x.iter().zip(row).map(|(x, w)| (x * w).abs()).sum::<f32>())
                .fold(largest(&[]), f32::max)
        })
        .fold(1.0, f32::max)
}

/// Tokens, experts, experts in use; outputs and columns: around the limits of tiles, workgroups and
/// blocks.
fn shapes() -> Vec<([usize; 3], [usize; 2])> {
    vec![
        ([1, 1, 1], [1, 32]),
        ([1, 8, 2], [31, 64]),
        ([7, 5, 5], [32, 96]),
        ([8, 32, 4], [33, 32]),
        ([17, 3, 2], [63, 544]),
        ([32, 128, 4], [65, 64]),
        ([31, 8, 3], [130, 512]),
    ]
}

/// With each layout the first shapes, with MXFP4 all of them. Rows of sums are whole vectors.
fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, layout) in Layout::MATRICES.into_iter().enumerate() {
        // Layouts that no experts are published in have fewer cases, half of them with extras: shaders take long to
        // compile.
        let is_usual = layout == Layout::Fp4;
        let n_shapes = if is_usual { shapes().len() } else { 2 };
        for (counts, [n_out, n_cols]) in shapes().into_iter().take(n_shapes) {
            for extras in [false, true] {
                if is_usual || extras == (at % 2 == 1) {
                    cases.push(Case::new(layout, counts, [n_out, n_cols], SWIGLU, extras, random));
                }
                if is_usual || extras == (at % 2 == 0) {
                    let n_out = n_out.next_multiple_of(4);
                    let then = ThenExperts::Add;
                    cases.push(Case::new(layout, counts, [n_out, n_cols], then, extras, random));
                }
            }
        }
    }
    cases
}

#[test]
fn cpu_products_with_experts_match_double_precision() {
    for case in cases(&mut Random::new(11)) {
        case.check(&case.on_cpu(), ROUNDED_TOLERANCE, &case.name());
    }
}

#[test]
fn gpu_products_with_experts_match_double_precision() {
    let cases = cases(&mut Random::new(12));
    for device in devices_in_f32() {
        for case in &cases {
            let what = format!("{}: {}", device.name, case.name());
            case.check(&case.on_gpu(&device, [false, false]), TOLERANCE, &what);
            if case.n_tokens == 1 {
                let routes = case.may_route(&device);
                case.check(&case.on_gpu(&device, [true, routes]), TOLERANCE, &what);
            }
        }
    }
}

#[test]
fn gpu_products_of_one_row_with_experts_match_double_precision() {
    for device in devices_in_f32() {
        let mut random = Random::new(13);
        let tuning = &device.tuning;
        // As many as a workgroup takes of a large matrix, of which it takes most.
        let rows = tuning.rows_of_workgroup(1 << 20) as usize;
        for n_out in [rows - 1, rows, rows + 1, 3 * rows, 5 * rows + 3] {
            for n_cols in [32, 480, 544] {
                for (then, extras) in [SWIGLU, ThenExperts::Add]
                    .into_iter()
                    .flat_map(|then| [(then, false), (then, true)])
                {
                    let counts = [1, 9, 4];
                    let sizes = [n_out, n_cols];
                    let case = Case::new(Layout::Fp4, counts, sizes, then, extras, &mut random);
                    let what = format!("{}: {}", device.name, case.name());
                    case.check(&case.on_gpu(&device, [true, false]), TOLERANCE, &what);
                    if case.may_route(&device) {
                        case.check(&case.on_gpu(&device, [true, true]), TOLERANCE, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn experts_in_several_pages_give_the_same_products() {
    let hints = AdapterHints { max_binding: Some(16_384), ..Default::default() };
    let context = pollster::block_on(Context::request(&hints)).unwrap();
    let tuning = Tuning::for_adapter(&context.capabilities);
    let device = Device::new(context, tuning, "pages of 16 KiB".to_owned());
    let mut random = Random::new(14);
    for layout in Layout::MATRICES {
        for then in [SWIGLU, ThenExperts::Add] {
            for n_tokens in [1, 20] {
                let case = Case::new(layout, [n_tokens, 16, 4], [20, 96], then, true, &mut random);
                let weight = allocate(&device.context, &case.matrices.weight).unwrap();
                assert!(weight.pages.len() > 1, "{} is in one page", case.name());
                let what = format!("{}: {}", device.name, case.name());
                let one = n_tokens == 1;
                let routes = one && case.may_route(&device);
                case.check(&case.on_gpu(&device, [one, routes]), TOLERANCE, &what);
            }
        }
    }
}

#[test]
fn routing_matches_double_precision() {
    for device in devices_in_f32() {
        let mut random = Random::new(16);
        for [n_tokens, n_experts, n_used] in
            [[1, 1, 1], [3, 8, 2], [5, 63, 4], [2, 64, 4], [7, 65, 5], [4, 128, 4], [2, 300, 20]]
        {
            let mut logits: Vec<f32> =
                (0..n_tokens * n_experts).map(|_| random.signed() * 10.0).collect();
            // Equal logits, of which the first counts.
            let last = n_experts - 1;
            logits[last] = logits[0];
            let expected: Vec<f32> = logits
                .chunks_exact(n_experts)
                .flat_map(|logits| {
                    let chosen = reference::route(logits, n_used);
                    let experts: Vec<f32> = chosen.iter().map(|(e, _)| *e as f32).collect();
                    experts.into_iter().chain(chosen.into_iter().map(|(_, weight)| weight))
                })
                .collect();
            let state = device.state(0, n_tokens as u32);
            let buffer = device.storage(&logits);
            let routing = device.storage(&vec![0.0; expected.len()]);
            let extent = Extent { n_tokens: n_tokens as u32, n_keys: 0 };
            device.run(extent, |recorder| {
                route::record(recorder, &state, &buffer, [n_experts, n_used], &routing);
            });
            let what = format!("{}: {n_used} of {n_experts}", device.name);
            check_routing(&device.read(&routing, expected.len()), &expected, n_used, &what);
            let on_cpu = routed_on_cpu(&logits, n_experts, n_used);
            check_routing(&on_cpu, &expected, n_used, &what);
        }
    }
}

#[track_caller]
fn check_routing(found: &[f32], expected: &[f32], n_used: usize, what: &str) {
    let rows = found.chunks_exact(2 * n_used).zip(expected.chunks_exact(2 * n_used));
    for (found, expected) in rows {
        assert_eq!(found[..n_used], expected[..n_used], "{what}");
        assert_close(&found[n_used..], &expected[n_used..], 1e-6, what);
    }
}

fn routed_on_cpu(logits: &[f32], n_experts: usize, n_used: usize) -> Vec<f32> {
    let [x, out] = [0, 1].map(BufferId);
    let plan = Plan {
        weights: WeightTable::default(),
        precision: Precision::Compact,
        buffers: vec![
            Buffer { name: "logits", width: n_experts },
            Buffer { name: "routing", width: 2 * n_used },
        ],
        caches: Vec::new(),
        rope: RopeTable { frequencies: Vec::new(), magnitude: 1.0 },
        layers: vec![Op::Route { logits: x, n_used, out }],
        layer_ends: Vec::new(),
        head: Linear { weight: WeightId(0), bias: None, norm: None, x, out, then: Then::Store },
        n_vocab: 0,
    };
    let mut device = CpuDevice::new(&plan, 1).unwrap();
    device.set_buffer(x, logits);
    device.extend(&vec![0; logits.len() / n_experts], 0, Outputs::All).unwrap();
    device.buffer(out).to_vec()
}
