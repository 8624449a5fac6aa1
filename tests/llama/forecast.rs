//! Forecasts against loads, and what is said of contexts that no binding holds.

use std::cell::Cell;

use pesi::{
    Error, ErrorKind,
    checkpoint::DType,
    engine::{DeviceKind, MemoryUse, create_engine},
    forecast::forecast,
    gpu::context::AdapterHints,
    ops::Plan,
    session::{Description, Host, Opened},
    source::LocalFuture,
    weights::{Precision, load},
};

use super::tiny::{Bytes, HEAD_DIM, Kind, N_KV_HEADS, Random, write};

/// The context that the file states.
const LONGEST: usize = 1024;

/// A clock by which two seconds pass between any two looks.
#[derive(Default)]
struct FastClock(Cell<u32>);

impl Host for FastClock {
    fn now(&self) -> f64 {
        self.0.set(self.0.get() + 1);
        2000.0 * f64::from(self.0.get())
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Surroundings without a clock.
struct NoClock;

impl Host for NoClock {
    fn now(&self) -> f64 {
        0.0
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

async fn describe(kind: &Kind, precision: Precision) -> (Opened, Plan) {
    let bytes = write(kind, &mut Random(7));
    let (folder, entry) = Bytes(bytes).in_folder();
    let opened = Description::open(&folder, &entry).await.unwrap();
    let plan = opened.description.plan(precision).unwrap();
    (opened, plan)
}

async fn loaded(device: &DeviceKind, opened: &Opened, plan: &Plan, length: usize) -> MemoryUse {
    let mut engine = create_engine(device, plan, length).await.unwrap();
    load(&opened.sources, &plan.weights, engine.as_mut()).await.unwrap();
    engine.warm_up().await.unwrap();
    engine.memory()
}

fn pages(max_binding: u64) -> DeviceKind {
    DeviceKind::Gpu(AdapterHints { max_binding: Some(max_binding), ..Default::default() })
}

#[test]
fn every_kind_of_llama_takes_what_was_forecast() {
    use DType::*;
    let devices = [DeviceKind::Cpu, DeviceKind::Gpu(AdapterHints::default()), pages(140_000)];
    let kinds = [F32, F16, Q4_0, Q5_1, Q8_0, Q6K].map(Kind::of).into_iter().chain([
        Kind {
            types: [Q4K, Q4K, Q6K, Q4K, Q4K, Q8_0, Q6K, Q4K, Q6K],
            tied: false,
            ..Kind::of(Q4K)
        },
        Kind { biases: true, tied: false, scaling: Some("yarn"), ..Kind::of(Bf16) },
    ]);
    for kind in kinds {
        for precision in [Precision::Exact, Precision::Compact] {
            for device in &devices {
                pollster::block_on(async {
                    let (opened, plan) = describe(&kind, precision).await;
                    let clock = FastClock::default();
                    let told = forecast(device, &plan, 200, 200, &clock).await.unwrap();
                    let loaded = loaded(device, &opened, &plan, 200).await;
                    assert_eq!(told.memory, Some(loaded), "{kind:?}, {precision:?}, {device:?}");
                    // One token by that clock.
                    assert_eq!(told.tokens_per_second, Some(0.5));
                });
            }
        }
    }
}

#[test]
fn without_a_clock_no_speed_is_told() {
    pollster::block_on(async {
        let (_, plan) = describe(&Kind::of(DType::Q8_0), Precision::Compact).await;
        let told = forecast(&DeviceKind::Cpu, &plan, LONGEST, LONGEST, &NoClock).await.unwrap();
        assert_eq!(told.tokens_per_second, None);
        assert_eq!(told.largest_context, LONGEST);
        // Nor where there is no room for a second token.
        let told = forecast(&DeviceKind::Cpu, &plan, 1, 1, &FastClock::default()).await.unwrap();
        assert_eq!(told.tokens_per_second, None);
        assert!(told.memory.is_some());
    });
}

#[test]
fn the_largest_context_that_can_be_bound_is_found() {
    const MAX_BINDING: u64 = 140_000;
    // Keys of a layer in f16.
    let largest = MAX_BINDING as usize / (N_KV_HEADS * HEAD_DIM * 2);
    let device = pages(MAX_BINDING);
    pollster::block_on(async {
        let (opened, plan) = describe(&Kind::of(DType::Q4_0), Precision::Compact).await;
        let host = FastClock::default();

        let told = forecast(&device, &plan, 100, LONGEST, &host).await.unwrap();
        assert_eq!(told.memory, Some(loaded(&device, &opened, &plan, 100).await));
        assert_eq!((told.context_length, told.largest_context), (100, largest));
        assert_eq!(told.refusal, None);

        let told = forecast(&device, &plan, LONGEST, LONGEST, &host).await.unwrap();
        assert_eq!(told.memory, Some(loaded(&device, &opened, &plan, largest).await));
        assert_eq!((told.context_length, told.largest_context), (largest, largest));
        assert_eq!(told.tokens_per_second, Some(0.5));
        let needed = (LONGEST * N_KV_HEADS * HEAD_DIM * 2) as u64;
        assert_refused(told.refusal.as_ref(), needed, MAX_BINDING);

        let told = forecast(&device, &plan, largest, LONGEST, &host).await.unwrap();
        assert_eq!(told.largest_context, largest);
    });
}

#[track_caller]
fn assert_refused(refusal: Option<&Error>, needed: u64, limit: u64) {
    let refusal = refusal.expect("it does not fit");
    assert_eq!(refusal.kind(), ErrorKind::OutOfMemory);
    assert_eq!(refusal.detail("needed"), Some(&needed.into()));
    assert_eq!(refusal.detail("limit"), Some(&limit.into()));
}

#[test]
fn a_model_that_does_not_fit_at_all_is_refused_with_numbers() {
    pollster::block_on(async {
        let (_, plan) = describe(&Kind::of(DType::F32), Precision::Exact).await;
        for context_length in [1, LONGEST] {
            let device = pages(1000);
            let run = forecast(&device, &plan, context_length, LONGEST, &NoClock);
            let told = run.await.unwrap();
            assert_eq!((told.memory, told.tokens_per_second), (None, None));
            assert_eq!((told.context_length, told.largest_context), (context_length, 0));
            // A row of 256 floats.
            assert_refused(told.refusal.as_ref(), 1024, 1000 - 512);
        }
    });
}

#[test]
fn what_a_device_cannot_compute_is_an_error() {
    pollster::block_on(async {
        let (_, mut plan) = describe(&Kind::of(DType::F32), Precision::Exact).await;
        plan.caches.iter_mut().for_each(|cache| cache.heads.head_dim = 24);
        let device = DeviceKind::Gpu(AdapterHints::default());
        let error = forecast(&device, &plan, 100, LONGEST, &NoClock).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}
