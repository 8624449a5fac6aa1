//! From command-line arguments to a session.

use std::{path::Path, rc::Rc, time::Instant};

use pesi::{
    Error, Result,
    cpu::Threads,
    engine::{DeviceKind, MemoryUse, create_engine},
    gpu::context::AdapterHints,
    session::{Description, Entry, Host, Opened, Session, default_context_length},
    source::{LocalFolder, LocalFuture},
    weights::load,
};

use crate::{Device, ModelArgs};

/// A thread of a process: nothing to yield to.
pub struct NativeHost(Instant);

impl NativeHost {
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Host for NativeHost {
    fn now(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1e3
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// What loading took.
pub struct Loaded {
    pub session: Session,
    pub load_ms: f64,
    pub memory: MemoryUse,
    pub weight_bytes_per_token: u64,
}

/// Opens the files of the model at `path`: a .gguf file, the first of a split set, or a folder with
/// config.json and safetensors.
pub async fn describe(path: &Path) -> Result<Opened> {
    if path.is_dir() {
        return Description::open(&LocalFolder(path.to_owned()), &Entry::Safetensors).await;
    }
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::argument("the model path names no file").with("file", path.display().to_string())
    })?;
    let folder = LocalFolder(path.parent().unwrap_or(Path::new("")).to_owned());
    Description::open(&folder, &Entry::Gguf(name.to_owned())).await
}

/// Loads the model that `args` name.
pub async fn open(args: &ModelArgs, host: &NativeHost) -> Result<Loaded> {
    let started = host.now();
    let Opened { description, sources, .. } = describe(&args.model).await?;
    let plan = description.plan(args.precision.into())?.with_cache_numbers(args.kv_cache.into());
    let context_length = context_length(args, &description)?;
    let mut engine = create_engine(&args.device.kind(), &plan, context_length).await?;
    load(&sources, &plan.weights, engine.as_mut()).await?;
    engine.warm_up().await?;
    let memory = engine.memory();
    let session = Session::new(engine, description, context_length);
    let weight_bytes_per_token = plan.weight_bytes_per_token();
    Ok(Loaded { session, load_ms: host.now() - started, memory, weight_bytes_per_token })
}

/// The positions to make room for.
pub fn context_length(args: &ModelArgs, description: &Description) -> Result<usize> {
    let longest = description.config.context_length;
    let context_length = args.context_length.unwrap_or(default_context_length(longest));
    if context_length == 0 || context_length > longest {
        return Err(Error::argument("context length is beyond the model's")
            .with("found", context_length)
            .with("limit", longest));
    }
    Ok(context_length)
}

impl Device {
    pub fn kind(self) -> DeviceKind {
        match self {
            Self::Cpu => DeviceKind::Threads(Rc::new(Threads::of_machine())),
            Self::Gpu => DeviceKind::Gpu(AdapterHints::default()),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}
