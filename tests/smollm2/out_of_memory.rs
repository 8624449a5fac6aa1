//! A GPU that refuses memory: what is told, what stays behind, what fits afterwards.

use pesi::{
    Error, ErrorKind,
    engine::{DeviceKind, Engine, Outputs, create_engine},
    error::Detail,
    gpu::{
        GpuEngine,
        context::{AdapterHints, Context, Guard},
    },
    sampler::SamplingParams,
};

use super::{
    limited::with_addresses,
    model::{TestHost, describe, put},
};

const GIGABYTE: u64 = 1 << 30;

/// Positions whose keys and values are 6.4 GiB, in pieces that can be bound.
const TOO_LONG: usize = 300_000;

fn context() -> Context {
    pollster::block_on(Context::request(&AdapterHints::default())).unwrap()
}

/// The bytes needed and those granted, which are within what the process has.
#[track_caller]
fn shortage(error: &Error) -> [u64; 2] {
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    let [needed, granted] = ["needed", "granted"].map(|name| match error.detail(name) {
        Some(Detail::Number(number)) => *number,
        _ => panic!("{error} does not tell {name}"),
    });
    assert!(granted > GIGABYTE && granted < 6 * GIGABYTE, "{error}");
    [needed, granted]
}

#[test]
fn a_context_that_a_gpu_refuses_leaves_room_for_a_smaller_one() {
    let name = "out_of_memory::a_context_that_a_gpu_refuses_leaves_room_for_a_smaller_one";
    with_addresses(6, name, || {
        pollster::block_on(async {
            let (opened, plan) = describe().await;
            let context = context();
            let create = |length| GpuEngine::new(context.clone(), plan.clone(), length);
            // The need of a context that fits, and what more positions add.
            let small = create(512).await.unwrap();
            let positions = (TOO_LONG - 512) as u64;
            let expected = small.memory().total() + positions * small.memory().caches / 512;
            drop(small);
            for _ in 0..2 {
                let error = create(TOO_LONG).await.err().expect("6.4 GiB are not there");
                let [needed, _] = shortage(&error);
                // Tables of rotations grow a little, too.
                assert!(needed.abs_diff(expected) < 1 << 20, "{error}, expected {expected}");
                assert_eq!(context.allocated(), 0, "nothing stays behind");
            }

            // On the same device.
            let mut engine = create(512).await.unwrap();
            engine.start(&SamplingParams::default(), &[]).unwrap();
            engine.extend(&[1, 2, 3], 0, Outputs::All).await.unwrap();
            let drawn = engine.decode(4).await.unwrap();
            assert_eq!(drawn.len(), 4);
            drop(engine);
            assert_eq!(context.allocated(), 0);

            // On a new one.
            let kind = DeviceKind::Gpu(AdapterHints::default());
            shortage(&create_engine(&kind, &plan, TOO_LONG).await.err().unwrap());
            let mut session = put(opened, &plan, &kind, 512).await;
            let logits = session.logits(&[1, 2, 3], &TestHost::new(), &|| false).await.unwrap();
            assert!(logits.iter().all(|logit| logit.is_finite()));
        });
    });
}

/// A device that has refused is not asked for the thousands of buffers that would follow.
#[test]
fn a_refusal_ends_an_allocation_soon() {
    let name = "out_of_memory::a_refusal_ends_an_allocation_soon";
    with_addresses(6, name, || {
        const PIECE: u64 = 1 << 20;
        let context = context();
        let mut guard = Guard::new(&context);
        guard.will_hold(10_000 * PIECE);
        let mut held = Vec::new();
        let refusal = pollster::block_on(async {
            for _ in 0..10_000 {
                match guard.storage("piece", PIECE).await {
                    Ok(buffer) => held.push(buffer),
                    Err(error) => return Some(error),
                }
            }
            None
        });
        let [needed, granted] = shortage(&refusal.expect("10 GB are not there"));
        assert_eq!(needed, 10_000 * PIECE);
        let asked_in_vain = held.len() as u64 * PIECE - granted;
        assert!(asked_in_vain <= 256 << 20, "{asked_in_vain} bytes");
        held.clear();
        assert_eq!(context.allocated(), 0);

        // What nobody guards is noticed with the next check.
        let large: Vec<_> = (0..60).map(|_| context.storage("large", 100 * PIECE)).collect();
        let error = context.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert_eq!(error.detail("needed"), Some(&Detail::Number(6000 * PIECE)));
        drop(large);
        context.check().unwrap();
    });
}
