//! The model on a device.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pesi::{
    engine::{DeviceKind, create_engine},
    gpu::context::AdapterHints,
    ops::Plan,
    session::{Description, Entry, Host, Opened, Session},
    source::{LocalFolder, LocalFuture},
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

/// Where the set-up puts models.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models")
}

/// The model's file there.
pub const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model without its weights.
pub async fn describe() -> (Opened, Plan) {
    let folder = LocalFolder(models());
    let entry = Entry::Gguf(FILE.to_owned());
    let opened = Description::open(&folder, &entry).await.expect("`npm test` fetches the model");
    let plan = opened.description.plan(Precision::Compact).unwrap();
    (opened, plan)
}

/// Loads the model with room for `context_length` positions.
pub fn open(device: &DeviceKind, context_length: usize) -> Session {
    pollster::block_on(async {
        let (opened, plan) = describe().await;
        put(opened, &plan, device, context_length).await
    })
}

/// Puts an opened model on a device.
pub async fn put(
    opened: Opened,
    plan: &Plan,
    device: &DeviceKind,
    context_length: usize,
) -> Session {
    let mut engine = create_engine(device, plan, context_length)
        .await
        .expect("these tests need a GPU adapter; a software one will do");
    load(&opened.sources, &plan.weights, engine.as_mut()).await.unwrap();
    engine.warm_up().await.unwrap();
    Session::new(engine, opened.description, context_length)
}
