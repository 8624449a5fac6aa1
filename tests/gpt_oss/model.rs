//! The models on devices, and their golden files.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use pesi::{
    engine::{DeviceKind, Engine, create_engine},
    gpu::context::AdapterHints,
    ops::{CacheNumbers, Plan},
    session::{Description, Entry, Host, Opened, Session},
    source::{LocalFolder, LocalFuture},
    weights::{Precision, load},
};
use safetensors::SafeTensors;

/// Positions to make room for: prompts of 70 tokens and 32 more.
pub const CONTEXT: usize = 128;

/// Surroundings without a clock.
pub struct NoHost;

impl Host for NoHost {
    fn now(&self) -> f64 {
        0.0
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Every kind of device: the CPU, and the GPU with the sizes for software and for real adapters, without
/// f16 and subgroups, and with bindings so small that experts take several pages.
pub fn devices() -> Vec<DeviceKind> {
    let gpu = |hints: AdapterHints| DeviceKind::Gpu(hints);
    vec![
        DeviceKind::Cpu,
        gpu(AdapterHints::default()),
        gpu(AdapterHints { software: Some(false), ..Default::default() }),
        gpu(AdapterHints {
            software: Some(false),
            no_f16: true,
            no_subgroups: true,
            ..Default::default()
        }),
        gpu(AdapterHints { max_binding: Some(66_000), ..Default::default() }),
    ]
}

/// A folder of golden files.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt-oss").join(name)
}

/// Opens the files at `path`, a folder or a .gguf file.
pub async fn describe(path: &Path) -> pesi::Result<Opened> {
    if path.is_dir() {
        return Description::open(&LocalFolder(path.to_owned()), &Entry::Safetensors).await;
    }
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let folder = LocalFolder(path.parent().unwrap().to_owned());
    Description::open(&folder, &Entry::Gguf(name)).await
}

/// Puts the model at `path` on a device.
pub fn engine(path: &Path, device: &DeviceKind, precision: Precision) -> Box<dyn Engine> {
    open(path, device, precision, CONTEXT).0
}

/// The model at `path` as a session.
pub fn session(
    path: &Path,
    device: &DeviceKind,
    precision: Precision,
    context_length: usize,
) -> Session {
    let (engine, description) = open(path, device, precision, context_length);
    Session::new(engine, description, context_length)
}

/// As [`session`] of an exact model, with caches that hold `numbers`.
pub fn session_with_caches(
    path: &Path,
    device: &DeviceKind,
    numbers: CacheNumbers,
    context_length: usize,
) -> Session {
    pollster::block_on(async {
        let opened = describe(path).await.unwrap();
        let plan = opened.description.plan(Precision::Exact).unwrap().with_cache_numbers(numbers);
        let (engine, description) = put_plan(opened, &plan, device, context_length).await;
        Session::new(engine, description, context_length)
    })
}

/// The model at `path` on a device, and what it is.
pub fn open(
    path: &Path,
    device: &DeviceKind,
    precision: Precision,
    context_length: usize,
) -> (Box<dyn Engine>, Description) {
    pollster::block_on(async {
        put(describe(path).await.unwrap(), device, precision, context_length).await
    })
}

/// Puts an opened model on a device.
pub async fn put(
    opened: Opened,
    device: &DeviceKind,
    precision: Precision,
    context_length: usize,
) -> (Box<dyn Engine>, Description) {
    let plan = opened.description.plan(precision).unwrap();
    put_plan(opened, &plan, device, context_length).await
}

/// As [`put`], with a plan of its own.
pub async fn put_plan(
    Opened { description, sources, .. }: Opened,
    plan: &Plan,
    device: &DeviceKind,
    context_length: usize,
) -> (Box<dyn Engine>, Description) {
    let mut engine = create_engine(device, plan, context_length)
        .await
        .expect("these tests need a GPU adapter; a software one will do");
    load(&sources, &plan.weights, engine.as_mut()).await.unwrap();
    (engine, description)
}

/// The tensors of a golden file.
pub struct Golden {
    tensors: HashMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Golden {
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
            .collect();
        Self { tensors }
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].0
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.tensors[name].1)
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.tensors[name].1)
    }
}

/// Squared error of `found` relative to the energy of `expected`.
pub fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let pairs = found.iter().zip(expected);
    let error: f64 = pairs.map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    error / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()
}
