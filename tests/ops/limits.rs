//! What a GPU cannot bind or compute is refused with numbers.

use pesi::{
    Error, ErrorKind,
    engine::{Engine, Outputs},
    gpu::{
        GpuEngine,
        context::{AdapterHints, Context},
        ops::{Target, experts::Scratch},
        tuning::Tuning,
    },
    ops::{Buffer, BufferId, Linear, Op, Plan, Then, rope::RopeTable},
    weights::{Grouping, Layout, Precision, WeightId, WeightTable},
};

use super::{
    data::{Matrix, Random},
    device::allocate,
};

fn context(max_binding: Option<u64>) -> Context {
    let hints = AdapterHints { max_binding, ..Default::default() };
    pollster::block_on(Context::request(&hints)).unwrap()
}

#[track_caller]
fn assert_beyond_binding(error: &Error, needed: u64, limit: u64) {
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert_eq!(error.detail("needed"), Some(&needed.into()));
    assert_eq!(error.detail("limit"), Some(&limit.into()));
}

#[test]
fn an_expert_larger_than_a_binding_is_refused() {
    let grouping = Grouping::Experts(2);
    let matrix = Matrix::random(Layout::Fp4, 400, 64, grouping, &mut Random::new(15));
    let Err(error) = allocate(&context(Some(4096)), &matrix.weight) else {
        panic!("it does not fit")
    };
    assert_beyond_binding(&error, 200 * (32 + 4), 4096 - 512);
}

/// Shaders read a vector as a whole, also that of all experts.
#[test]
fn a_vector_larger_than_a_binding_is_refused() {
    let mut vector = Matrix::vector(&[1.0; 1200]);
    for grouping in [Grouping::Rows, Grouping::Experts(3)] {
        vector.weight.grouping = grouping;
        let Err(error) = allocate(&context(Some(4096)), &vector.weight) else {
            panic!("it does not fit")
        };
        assert_beyond_binding(&error, 4 * 1200, 4096 - 512);
        assert_eq!(allocate(&context(Some(8192)), &vector.weight).unwrap().pages.len(), 1);
    }
}

/// These are more bytes than 32 bits count.
#[test]
fn products_with_experts_larger_than_a_binding_are_refused() {
    let context = context(None);
    let limit = context.capabilities.max_binding;
    let tuning = Tuning::for_adapter(&context.capabilities);
    let target = Target { capabilities: &context.capabilities, tuning: &tuning };
    let width = limit as usize;
    let Err(error) = Scratch::new(&context, &target, [2000, 1000, width]) else {
        panic!("it does not fit")
    };
    assert_beyond_binding(&error, 4 * u64::from(tuning.max_chunk) * 1000 * limit, limit);
    assert_eq!(context.allocated(), 0);
}

/// A plan that does no more than route to `n_used` experts.
fn routing(n_used: usize) -> Plan {
    let matrix = Matrix::random(Layout::F32, 4, 32, Grouping::Rows, &mut Random::new(16));
    let [x, out, logits, routing] = [0, 1, 2, 3].map(BufferId);
    Plan {
        weights: WeightTable { weights: vec![matrix.weight] },
        precision: Precision::Exact,
        buffers: vec![
            Buffer { name: "hidden", width: 32 },
            Buffer { name: "logits", width: 4 },
            Buffer { name: "router", width: 2048 },
            Buffer { name: "routing", width: 2 * n_used },
        ],
        caches: Vec::new(),
        rope: RopeTable { frequencies: Vec::new(), magnitude: 1.0 },
        layers: vec![Op::Route { logits, n_used, out: routing }],
        layer_ends: Vec::new(),
        head: Linear { weight: WeightId(0), bias: None, norm: None, x, out, then: Then::Store },
        n_vocab: 4,
    }
}

/// Every device has 16 KiB of workgroup memory; some have more.
#[test]
fn more_choices_than_workgroup_memory_holds_are_refused() {
    let create = |n_used| pollster::block_on(GpuEngine::new(context(None), routing(n_used), 1));
    pollster::block_on(create(3840).unwrap().extend(&[0], 0, Outputs::All)).unwrap();
    let Err(error) = create(3841) else { panic!("they do not fit") };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.detail("found"), Some(&3841_u64.into()));
    assert_eq!(error.detail("limit"), Some(&3840_u64.into()));
}

/// Weights may be written before the device has answered for pipelines. Then it does, as often as it is asked.
#[test]
fn pipelines_that_a_device_rejects_are_errors_of_each_chunk() {
    let context = context(None);
    let tuning = Tuning::for_adapter(&context.capabilities);
    let too_large = Tuning { matvec_workgroup: 1 << 20, ..tuning };
    let created = GpuEngine::with_tuning(context, routing(1), 1, too_large);
    let mut engine = pollster::block_on(created).unwrap();
    for _ in 0..2 {
        let error = pollster::block_on(engine.extend(&[0], 0, Outputs::All)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gpu, "{error}");
    }
}
