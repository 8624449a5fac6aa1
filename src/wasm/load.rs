//! Loads a model: from storage if it is there, else from its source, and into storage on the way.

use std::{collections::VecDeque, rc::Rc};

use js_sys::Function;
use wasm_bindgen::JsValue;
use web_sys::AbortSignal;

use super::{
    host::WorkerHost,
    opfs::{Folder, Manifest, StoreSink, Stored},
    options::{Info, LoadOptions, Memory, Progress, SourceOptions, to_plain_js},
};
use crate::{
    chat::ChatFormat,
    engine::{DeviceKind, Engine, create_engine},
    error::{Error, ErrorKind, Result},
    ops::Plan,
    session::{Description, Host, Opened, Session, default_context_length},
    weights::{Image, Tee, load as load_weights, load_image},
};

/// Time over which the speed is taken, in milliseconds.
const SPEED_WINDOW_MS: f64 = 3000.0;

/// Time between two reports, in milliseconds.
const REPORT_INTERVAL_MS: f64 = 50.0;

/// A model ready to use.
pub struct Loaded {
    /// The model on its device.
    pub session: Session,
    /// What it is.
    pub info: Info,
}

/// Loads the model at `source`.
///
/// # Errors
/// Those of the source, the device and the file; `aborted`. Failures of storage only mean that the model
/// is not stored, which the result tells.
pub async fn load(
    source: &SourceOptions,
    options: &LoadOptions,
    host: &Rc<WorkerHost>,
) -> Result<Loaded> {
    let folder = match options.cache {
        true => Some(Folder::of(&source.id, options.precision).await),
        false => None,
    };
    let mut storage_error = None;
    if let Some(Ok(folder)) = &folder {
        match from_storage(folder, source, options, host).await {
            Ok(Some(loaded)) => return Ok(loaded),
            Ok(None) => {}
            // Only what storage itself says is a reason to read the source again.
            Err(error) if is_about_storage(&error) => storage_error = Some(error),
            Err(error) => return Err(error),
        }
    }
    let folder = match folder {
        Some(Ok(folder)) => Some(folder),
        Some(Err(error)) => {
            storage_error = Some(error);
            None
        }
        None => None,
    };
    from_source(folder.as_ref(), source, options, host, storage_error).await
}

fn is_about_storage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Storage | ErrorKind::InvalidModel)
}

async fn from_storage(
    folder: &Folder,
    source: &SourceOptions,
    options: &LoadOptions,
    host: &Rc<WorkerHost>,
) -> Result<Option<Loaded>> {
    let Some(Stored { manifest, heads, shards }) = folder.open(&source.id, host).await? else {
        return Ok(None);
    };
    let description = Description::new(&heads, manifest.rope_divisors)?;
    drop(heads);
    let plan = description.plan(options.precision)?;
    if Image::new(&plan.weights).len != manifest.image_bytes {
        return Ok(None);
    }
    let (mut engine, context_length) = engine(&description, &plan, options).await?;
    let total = plan.weights.packed_bytes();
    let mut reporter = Reporter::new("load", &source.id, total, options, host);
    load_image(&shards, &plan.weights, engine.as_mut(), &mut |bytes| reporter.report(bytes))
        .await?;
    drop(shards);
    finish(description, &plan, engine, context_length, source, options, host).await.map(
        |mut loaded| {
            loaded.info.from_storage = true;
            Some(loaded)
        },
    )
}

async fn from_source(
    folder: Option<&Folder>,
    source: &SourceOptions,
    options: &LoadOptions,
    host: &Rc<WorkerHost>,
    mut storage_error: Option<Error>,
) -> Result<Loaded> {
    let (files, entry) = source.folder(&options.signal);
    let Opened { description, heads, sources } = Description::open(files.as_ref(), &entry).await?;
    let plan = description.plan(options.precision)?;
    let (mut engine, context_length) = engine(&description, &plan, options).await?;

    let mut store: Option<StoreSink> = None;
    if let Some(folder) = folder {
        let image = Image::new(&plan.weights);
        let divisors = description.rope_divisors.clone();
        let manifest = Manifest::new(&source.id, image.len, divisors);
        match folder.create(manifest, &heads, image).await {
            Ok(sink) => store = Some(sink),
            Err(error) => storage_error = Some(error),
        }
    }
    drop(heads);
    let total = plan.weights.source_bytes();
    let mut reporter = Reporter::new("download", &source.id, total, options, host);
    let mut report = |bytes| reporter.report(bytes);
    match &mut store {
        Some(store) => {
            let mut sink = Tee(engine.as_mut(), store);
            load_weights(&sources, &plan.weights, &mut sink, &mut report).await?;
        }
        None => load_weights(&sources, &plan.weights, engine.as_mut(), &mut report).await?,
    }
    if let (Some(store), Some(folder)) = (store, folder) {
        storage_error = store.finish().await.err();
        if storage_error.is_some() {
            // What cannot be removed now is emptied before the next use.
            let _ = folder.remove().await;
        }
    }
    finish(description, &plan, engine, context_length, source, options, host).await.map(
        |mut loaded| {
            loaded.info.storage_error = storage_error.map(|error| error.to_string());
            loaded
        },
    )
}

async fn engine(
    description: &Description,
    plan: &Plan,
    options: &LoadOptions,
) -> Result<(Box<dyn Engine>, usize)> {
    let longest = description.config.context_length;
    let context_length = options.context_length.unwrap_or(default_context_length(longest));
    if context_length == 0 || context_length > longest {
        return Err(Error::argument("context length is beyond the model's")
            .with("parameter", "contextLength")
            .with("found", context_length)
            .with("limit", longest));
    }
    let engine = create_engine(&options.device, plan, context_length).await?;
    Ok((engine, context_length))
}

async fn finish(
    description: Description,
    plan: &Plan,
    mut engine: Box<dyn Engine>,
    context_length: usize,
    source: &SourceOptions,
    options: &LoadOptions,
    host: &Rc<WorkerHost>,
) -> Result<Loaded> {
    let mut reporter = Reporter::new("compile", &source.id, 1, options, host);
    reporter.report(0)?;
    engine.warm_up().await?;
    reporter.report(1)?;
    let memory = engine.memory();
    let session = Session::new(engine, description, context_length);
    let config = session.config();
    let info = Info {
        id: source.id.clone(),
        architecture: config.architecture.name(),
        name: config.name.clone(),
        parameters: plan.weights.n_elements(),
        context_length,
        vocabulary_size: config.n_vocab,
        device: match options.device {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu(_) => "webgpu",
        },
        memory: Memory {
            weights_bytes: memory.weights,
            cache_bytes: memory.caches,
            scratch_bytes: memory.scratch,
            total_bytes: memory.total(),
            // Pages of 64 KiB; a module's memory never shrinks.
            heap_bytes: core::arch::wasm32::memory_size::<0>() as u64 * (64 << 10),
        },
        from_storage: false,
        storage_error: None,
        chat_template: session.chat().is_some(),
        chat_format: session.chat().map_or("none", ChatFormat::name),
        layers: config.n_layers,
        hidden_size: config.n_embd,
    };
    Ok(Loaded { session, info })
}

/// Tells the page how far a phase is.
struct Reporter<'a> {
    progress: Progress,
    /// Times and bytes within the window.
    samples: VecDeque<(f64, u64)>,
    reported_at: f64,
    on_progress: &'a Function,
    signal: &'a AbortSignal,
    host: &'a WorkerHost,
}

impl<'a> Reporter<'a> {
    fn new(
        phase: &'static str,
        file: &str,
        total_bytes: u64,
        options: &'a LoadOptions,
        host: &'a WorkerHost,
    ) -> Self {
        Self {
            progress: Progress {
                phase,
                file: file.to_owned(),
                loaded_bytes: 0,
                total_bytes,
                bytes_per_second: 0.0,
                eta_seconds: 0.0,
            },
            samples: VecDeque::from([(host.now(), 0)]),
            reported_at: f64::NEG_INFINITY,
            on_progress: &options.on_progress,
            signal: &options.signal,
            host,
        }
    }

    fn report(&mut self, loaded_bytes: u64) -> Result<()> {
        if self.signal.aborted() {
            return Err(Error::new(ErrorKind::Aborted, "cancelled by the caller"));
        }
        let now = self.host.now();
        self.samples.push_back((now, loaded_bytes));
        while self.samples.len() > 2 && now - self.samples[0].0 > SPEED_WINDOW_MS {
            self.samples.pop_front();
        }
        let progress = &mut self.progress;
        if now - self.reported_at < REPORT_INTERVAL_MS && loaded_bytes < progress.total_bytes {
            return Ok(());
        }
        self.reported_at = now;
        let (then, bytes) = self.samples[0];
        let seconds = (now - then) / 1e3;
        progress.loaded_bytes = loaded_bytes;
        if seconds > 0.0 && loaded_bytes > bytes {
            progress.bytes_per_second = (loaded_bytes - bytes) as f64 / seconds;
            let left = progress.total_bytes.saturating_sub(loaded_bytes);
            progress.eta_seconds = left as f64 / progress.bytes_per_second;
        }
        let event = to_plain_js(progress)?;
        self.on_progress
            .call1(&JsValue::NULL, &event)
            .map(drop)
            .map_err(|thrown| Error::argument(format!("the progress callback failed: {thrown:?}")))
    }
}
