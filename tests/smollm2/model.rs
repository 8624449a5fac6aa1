//! The model on a device.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use pesi::{
    engine::{DeviceKind, create_engine},
    gpu::context::AdapterHints,
    ops::Plan,
    session::{Host, ModelFile, Session},
    source::{FileSource, LocalFuture},
    weights::{Precision, load},
};

/// A host whose clock counts from its making.
pub struct TestHost(Instant);

impl TestHost {
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Host for TestHost {
    fn now(&self) -> f64 {
        Duration::as_secs_f64(&self.0.elapsed()) * 1e3
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// The devices that the tests run on.
pub fn devices() -> [DeviceKind; 2] {
    [DeviceKind::Cpu, DeviceKind::Gpu(AdapterHints::default())]
}

fn source() -> FileSource {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    FileSource::open(&path).expect("`npm test` fetches the model")
}

/// The model without its weights.
pub async fn describe() -> (ModelFile, Plan) {
    let (file, _) = ModelFile::open(&source()).await.unwrap();
    let plan = file.plan(Precision::Compact).unwrap();
    (file, plan)
}

/// Loads the model with room for `context_length` positions.
pub fn open(device: &DeviceKind, context_length: usize) -> Session {
    pollster::block_on(async {
        let (file, plan) = describe().await;
        let mut engine = create_engine(device, &plan, context_length)
            .await
            .expect("these tests need a GPU adapter; a software one will do");
        load(&source(), &plan.weights, engine.as_mut(), &mut |_| Ok(())).await.unwrap();
        engine.warm_up().await.unwrap();
        Session::new(engine, file, context_length)
    })
}
