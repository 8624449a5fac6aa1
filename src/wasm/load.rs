//! Loads a model: what is stored of it from storage, the rest from its source and into storage.
//!
//! One tab writes a model's storage at a time; others wait, and are told how far it is. Readers load
//! side by side.

use std::{collections::HashMap, rc::Rc};

use sha2::{Digest, Sha256};

use super::{
    host::WorkerHost,
    http::OnBytes,
    lock::{Channel, Lock},
    opfs::{Models, PrivateFolder, tunings},
    options::{Info, LoadOptions, Memory, SourceOptions, Target, heap_bytes},
    reporter::Reporter,
};
use crate::{
    chat::ChatFormat,
    engine::{DeviceKind, Engine, create_engine},
    error::{Error, Result},
    ops::Plan,
    session::{Description, Heads, Opened, Session, default_context_length, tune},
    source::Source,
    store::{
        Access, Entry, Manifest, Nowhere, PACKING, Reason, StorageFolder, Store, StoredFile,
        heads_hash, hex,
    },
    weights::{Keeper, Loaded as LoadedPiece, Pieces, load_pieces},
};

/// A model ready to use.
pub struct Loaded {
    /// The model on its device.
    pub session: Session,
    /// What it is.
    pub info: Info,
}

/// A model on its device, of which nothing is compiled yet.
struct OnDevice {
    description: Description,
    plan: Plan,
    engine: Box<dyn Engine>,
    context_length: usize,
    from_storage: bool,
}

/// One load.
struct Load<'a> {
    source: &'a SourceOptions,
    options: &'a LoadOptions,
    host: &'a Rc<WorkerHost>,
    reporter: Rc<Reporter>,
}

/// Loads the model at `source`.
///
/// # Errors
/// Those of the source, the device and the file; `quota_exceeded` when storage is full, what has been
/// stored then stays; `aborted`. Where the browser has no storage at all the model is not stored, which
/// the result tells.
pub async fn load(
    source: &SourceOptions,
    options: &LoadOptions,
    host: &Rc<WorkerHost>,
) -> Result<Loaded> {
    let reporter = Reporter::new(&options.on_progress, &options.target.signal, host);
    let load = Load { source, options, host, reporter };
    let models = match options.cache {
        true => Some(Models::open().await),
        false => None,
    };
    let mut storage_error = None;
    let on_device = match models {
        Some(Ok(models)) => {
            load.stored(&models.folder(&source.id, options.target.precision)).await?
        }
        Some(Err(error)) => {
            storage_error = Some(error.to_string());
            load.download(&Nowhere, None).await?
        }
        None => load.download(&Nowhere, None).await?,
    };
    let mut loaded = load.finish(on_device).await?;
    loaded.info.storage_error = storage_error;
    Ok(loaded)
}

impl Load<'_> {
    /// Loads the model that `folder` is for.
    async fn stored(&self, folder: &PrivateFolder) -> Result<OnDevice> {
        let mut is_damaged = false;
        loop {
            if !is_damaged {
                let _lock = self.wait(folder, Access::Read).await?;
                if let Some(entry) = self.entry(folder).await?.filter(Entry::is_whole) {
                    match self.resume(folder, entry, Access::Read).await {
                        Err(error)
                            if Reason::Damaged.is_of(&error) || Reason::Changed.is_of(&error) => {}
                        result => return result,
                    }
                    is_damaged = true;
                }
            }
            let _lock = self.wait(folder, Access::Write).await?;
            let entry = self.entry(folder).await?;
            if !is_damaged && entry.as_ref().is_some_and(Entry::is_whole) {
                // Another tab has finished it meanwhile.
                continue;
            }
            self.reporter.share(Some(Channel::speaking(folder.name())));
            let result = match self.download(folder, entry).await {
                Err(error) if Reason::Changed.is_of(&error) => {
                    folder.clear().await?;
                    self.download(folder, None).await
                }
                result => result,
            };
            self.reporter.share(None);
            return result;
        }
    }

    async fn entry(&self, folder: &PrivateFolder) -> Result<Option<Entry>> {
        Entry::read_of(folder, &self.source.id, self.options.target.precision).await
    }

    /// Waits for the lock of a folder, and reports what the tab says that holds it.
    async fn wait(&self, folder: &PrivateFolder, access: Access) -> Result<Lock> {
        let on_progress = self.options.on_progress.clone();
        let _channel = Channel::listening(folder.name(), move |progress| {
            // The page's own callback may throw: that is reported when it is called next.
            let _ = on_progress.call1(&wasm_bindgen::JsValue::NULL, progress);
        });
        Lock::wait(folder.name(), access, &self.options.target.signal).await
    }

    /// Loads what `folder` has of the model, and the rest from its source.
    async fn download(&self, folder: &dyn StorageFolder, entry: Option<Entry>) -> Result<OnDevice> {
        let entry = match entry {
            Some(entry) if entry.heads.is_some() => {
                return self.resume(folder, entry, Access::Write).await;
            }
            entry => entry,
        };
        let Opened { description, heads, sources } =
            self.source.open(&self.options.target.signal, self.on_bytes()).await?;
        let Target { precision, kv_cache, .. } = self.options.target;
        let plan = description.plan(precision)?.with_cache_numbers(kv_cache);
        let pieces = description.pieces(&plan, &heads);
        let sums = match &self.source.sums {
            Some(sums) => sums.fetch(&self.options.target.signal).await,
            None => HashMap::new(),
        };
        check_small_files(&heads, &sums)?;
        // Ahead of storage: a model that the device has no room for is not stored.
        let (engine, context_length) = self.engine(&description, &plan).await?;
        let manifest = Manifest {
            packing: PACKING,
            id: self.source.id.clone(),
            precision,
            name: description.config.name.clone(),
            architecture: description.config.architecture.name().to_owned(),
            parameters: plan.weights.n_elements(),
            origin: self.source.origin(),
            files: stored_files(&description, &sources, &sums, &pieces),
            n_pieces: pieces.len() as u32,
            source_bytes: pieces.source_bytes(),
            packed_bytes: pieces.packed_bytes(),
            heads_bytes: heads.len() as u64,
            heads_hash: heads_hash(&heads.to_bytes()),
            rope_divisors: description.rope_divisors.clone(),
            created_at: js_sys::Date::now(),
        };
        // Where only the heads were in doubt, and are the same, pieces stay.
        let entry = match entry.filter(|entry| entry.manifest.heads_hash == manifest.heads_hash) {
            Some(entry) => entry.renew(folder, manifest, heads, &pieces).await?,
            None => Entry::create(folder, manifest, heads).await?,
        };
        let on_device = OnDevice { description, plan, engine, context_length, from_storage: false };
        self.fill(folder, entry, &pieces, sources, Access::Write, on_device).await
    }

    /// Goes on with `entry`.
    async fn resume(
        &self,
        folder: &dyn StorageFolder,
        entry: Entry,
        access: Access,
    ) -> Result<OnDevice> {
        let heads = entry.heads.as_ref().expect("callers have looked");
        let (description, plan, pieces) = entry.manifest.describe(heads)?;
        let plan = plan.with_cache_numbers(self.options.target.kv_cache);
        let files = self.source.folder(&self.options.target.signal, self.on_bytes()).0;
        let known = |file| files.known(file);
        let sources = match access {
            Access::Read => Vec::new(),
            Access::Write => entry.manifest.files.iter().map(known).collect::<Result<_>>()?,
        };
        let (engine, context_length) = self.engine(&description, &plan).await?;
        let from_storage = access == Access::Read;
        let on_device = OnDevice { description, plan, engine, context_length, from_storage };
        self.fill(folder, entry, &pieces, sources, access, on_device).await
    }

    /// Streams all pieces to the device.
    async fn fill(
        &self,
        folder: &dyn StorageFolder,
        entry: Entry,
        pieces: &Pieces,
        sources: Vec<Rc<dyn Source>>,
        access: Access,
        mut on_device: OnDevice,
    ) -> Result<OnDevice> {
        let names: Vec<_> = entry.manifest.files.iter().map(|file| file.name.clone()).collect();
        let mut store = Store::open(folder, entry, pieces, access, self.host.clone()).await?;
        let is_whole = (0..pieces.len()).all(|index| store.has(index));
        let phase = if is_whole { "load" } else { "download" };
        self.reporter.begin(phase, &self.source.id, pieces.source_bytes())?;
        let mut progress = |LoadedPiece { piece, was_kept }| {
            let piece = pieces.get(piece);
            self.reporter.done(
                piece.source_bytes(),
                names.get(piece.file).map(String::as_str),
                was_kept,
            )
        };
        let OnDevice { plan, engine, .. } = &mut on_device;
        let sink = engine.as_mut();
        let result =
            load_pieces(&sources, &plan.weights, pieces, &mut store, sink, &mut progress).await;
        self.reporter.pause();
        result?;
        if access == Access::Write {
            store.flush()?;
        }
        Ok(on_device)
    }

    fn on_bytes(&self) -> OnBytes {
        let reporter = self.reporter.clone();
        Rc::new(move |bytes| reporter.arrived(bytes))
    }

    async fn engine(
        &self,
        description: &Description,
        plan: &Plan,
    ) -> Result<(Box<dyn Engine>, usize)> {
        let context_length = context_length(description, self.options.target.context_length)?;
        let engine = create_engine(&self.options.target.device, plan, context_length).await?;
        Ok((engine, context_length))
    }

    async fn finish(&self, on_device: OnDevice) -> Result<Loaded> {
        let OnDevice { description, plan, mut engine, context_length, from_storage } = on_device;
        self.reporter.begin("compile", &self.source.id, 1)?;
        engine.warm_up().await?;
        let is_on_gpu = matches!(self.options.target.device, DeviceKind::Gpu(_));
        if is_on_gpu
            && self.options.cache
            && let Ok(folder) = tunings().await
        {
            tune(engine.as_mut(), &folder, self.host.as_ref()).await?;
        }
        self.reporter.done(1, None, false)?;
        let engine_memory = engine.memory();
        let session = Session::new(engine, description, context_length);
        let config = session.config();
        let info = Info {
            id: self.source.id.clone(),
            architecture: config.architecture.name(),
            name: config.name.clone(),
            parameters: plan.weights.n_elements(),
            context_length,
            vocabulary_size: config.n_vocab,
            device: match self.options.target.device {
                DeviceKind::Cpu | DeviceKind::Threads(_) => "cpu",
                DeviceKind::Gpu(_) => "webgpu",
            },
            memory: Memory::new(engine_memory, Some(heap_bytes())),
            from_storage,
            storage_error: None,
            chat_template: session.chat().is_some(),
            chat_format: session.chat().map_or("none", ChatFormat::name),
            layers: config.n_layers,
            hidden_size: config.n_embd,
        };
        Ok(Loaded { session, info })
    }
}

/// The context length that was asked for, or the usual one.
///
/// # Errors
/// `invalid_argument` when the model has no such context.
pub fn context_length(description: &Description, wanted: Option<usize>) -> Result<usize> {
    let longest = description.config.context_length;
    let context_length = wanted.unwrap_or(default_context_length(longest));
    if context_length == 0 || context_length > longest {
        return Err(Error::argument("context length is beyond the model's")
            .with("parameter", "contextLength")
            .with("found", context_length)
            .with("limit", longest));
    }
    Ok(context_length)
}

/// The files with tensors, as far as they are known. A published sum counts where all of the file is
/// fetched.
fn stored_files(
    description: &Description,
    sources: &[Rc<dyn Source>],
    sums: &HashMap<String, String>,
    pieces: &Pieces,
) -> Vec<StoredFile> {
    let names = description.tensors.file_names().iter().enumerate();
    let file = |(index, name): (usize, &String)| {
        let is_covered = pieces.files().get(index).is_some_and(|file| file.is_covered);
        StoredFile {
            name: name.clone(),
            len: sources[index].len(),
            version: sources[index].version(),
            sha256: sums.get(name).filter(|_| is_covered).cloned(),
        }
    };
    names.map(file).collect()
}

/// Compares the files that have been read whole with what was published.
fn check_small_files(heads: &Heads, sums: &HashMap<String, String>) -> Result<()> {
    for head in heads.0.iter().filter(|head| head.bytes.len() as u64 == head.len) {
        let Some(expected) = sums.get(&head.name) else { continue };
        let found = hex(&Sha256::digest(&head.bytes));
        if !found.eq_ignore_ascii_case(expected) {
            return Err(Error::invalid("the file is not the one that was published")
                .with("file", head.name.as_str())
                .with("expected", expected.as_str())
                .with("found", found));
        }
    }
    Ok(())
}
