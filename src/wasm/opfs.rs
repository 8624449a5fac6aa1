//! Packed models in the origin private file system.
//!
//! A model is a folder: the heads of its files, its image in shards, and a manifest, which is written last
//! and makes it whole. A folder without a manifest that fits is no model; it is emptied before it is
//! used again.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

use js_sys::{Function, Object, Promise, Reflect};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemReadWriteOptions, FileSystemRemoveOptions,
    FileSystemSyncAccessHandle, WorkerGlobalScope,
};

use super::{
    error::{cast, from_thrown},
    host::WorkerHost,
};
use crate::{
    error::{Error, ErrorKind, Result},
    session::{Heads, Host},
    source::LocalFuture,
    weights::{Image, Precision, SHARD_BYTES, Section, Shards, Sink, WeightId},
};

/// Version of the packed layout. Another version is no model and is fetched again.
const PACKING: u32 = 2;

const MODELS: &str = "pesi-models";
const MANIFEST: &str = "manifest.json";
const HEADS: &str = "heads.bin";

/// Bytes read between two turns for the worker's messages.
const BYTES_A_TURN: u64 = 16 << 20;

/// What is known of a stored model before its shards are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    packing: u32,
    /// Identity of the model.
    pub id: String,
    /// Size of the image.
    pub image_bytes: u64,
    /// Divisors of the rotary frequencies.
    pub rope_divisors: Option<Vec<f32>>,
}

impl Manifest {
    /// The manifest of a model that is about to be stored.
    pub fn new(id: &str, image_bytes: u64, divisors: Option<Vec<f32>>) -> Self {
        let id = id.to_owned();
        Self { packing: PACKING, id, image_bytes, rope_divisors: divisors }
    }
}

/// The folder of one model.
pub struct Folder {
    models: FileSystemDirectoryHandle,
    name: String,
}

impl Folder {
    /// The folder for a model, whether or not it is stored.
    ///
    /// # Errors
    /// `storage` where the browser has no private file system.
    pub async fn of(id: &str, precision: Precision) -> Result<Self> {
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let directory = JsFuture::from(scope.navigator().storage().get_directory());
        let root: FileSystemDirectoryHandle = settle("browser storage", directory).await?;
        let models = directory_in(&root, MODELS).await?;
        let digest = Sha256::digest(format!("{id}\n{precision:?}").as_bytes());
        let name = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { models, name })
    }

    /// The stored model, if there is a whole one.
    ///
    /// # Errors
    /// `storage`.
    pub async fn open(&self, id: &str, host: &Rc<WorkerHost>) -> Result<Option<Stored>> {
        let Ok(directory) = self.directory(false).await else { return Ok(None) };
        let Ok(bytes) = read_file(&directory, MANIFEST).await else { return Ok(None) };
        let manifest: Manifest = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(_) => return Ok(None),
        };
        if manifest.packing != PACKING || manifest.id != id {
            return Ok(None);
        }
        let heads = Heads::from_bytes(&read_file(&directory, HEADS).await?)?;
        let mut shards = Vec::new();
        for (index, bytes) in shard_sizes(manifest.image_bytes).enumerate() {
            let shard = AccessFile::open(&directory, &shard_name(index), Mode::Read).await?;
            if shard.len()? != bytes {
                return Ok(None);
            }
            shards.push(shard);
        }
        let shards = StoredShards { shards, host: host.clone(), unyielded: Cell::new(0) };
        Ok(Some(Stored { manifest, heads, shards }))
    }

    /// Empties the folder and makes room for an image.
    ///
    /// # Errors
    /// `storage`, also when another tab writes to the folder; `quota_exceeded`.
    pub async fn create(
        &self,
        manifest: Manifest,
        heads: &Heads,
        image: Image,
    ) -> Result<StoreSink> {
        self.remove().await?;
        let directory = self.directory(true).await?;
        let mut shards = Vec::new();
        for (index, _) in shard_sizes(image.len).enumerate() {
            shards.push(AccessFile::open(&directory, &shard_name(index), Mode::Write).await?);
        }
        AccessFile::open(&directory, HEADS, Mode::Write).await?.write(0, &heads.to_bytes())?;
        Ok(StoreSink { directory, manifest, image, shards, failure: RefCell::new(None) })
    }

    /// Removes what the folder holds.
    ///
    /// # Errors
    /// `storage`, when it is in use.
    pub async fn remove(&self) -> Result<()> {
        if self.directory(false).await.is_err() {
            return Ok(());
        }
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        let removal = self.models.remove_entry_with_options(&self.name, &options);
        JsFuture::from(removal).await.map_err(|thrown| {
            from_thrown(ErrorKind::Storage, "cannot remove the stored model", &thrown)
        })?;
        Ok(())
    }

    async fn directory(&self, create: bool) -> Result<FileSystemDirectoryHandle> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(create);
        let handle = self.models.get_directory_handle_with_options(&self.name, &options);
        settle("a model's folder", JsFuture::from(handle)).await
    }
}

/// A whole model in storage.
pub struct Stored {
    /// What is known of it.
    pub manifest: Manifest,
    /// The heads of its files.
    pub heads: Heads,
    /// Its image.
    pub shards: StoredShards,
}

/// The image of a stored model.
pub struct StoredShards {
    shards: Vec<AccessFile>,
    host: Rc<WorkerHost>,
    unyielded: Cell<u64>,
}

impl Shards for StoredShards {
    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let end = offset + buffer.len() as u64;
            for (index, range) in shard_ranges(offset..end) {
                let start = (index as u64 * SHARD_BYTES + range.start - offset) as usize;
                let len = (range.end - range.start) as usize;
                let shard = self.shards.get(index).ok_or_else(|| short(offset, end))?;
                if shard.read(range.start, &mut buffer[start..start + len])? != len {
                    return Err(short(offset, end));
                }
            }
            let unyielded = self.unyielded.get() + buffer.len() as u64;
            self.unyielded.set(unyielded % BYTES_A_TURN);
            if unyielded >= BYTES_A_TURN {
                self.host.yield_now().await;
            }
            Ok(())
        })
    }
}

fn short(offset: u64, end: u64) -> Error {
    Error::new(ErrorKind::Storage, "a stored shard is shorter than it was")
        .with("offset", offset)
        .with("needed", end - offset)
}

/// Writes packed rows into shards.
///
/// A failure, such as a full disk, does not fail the load: the model then is on the device only.
pub struct StoreSink {
    directory: FileSystemDirectoryHandle,
    manifest: Manifest,
    image: Image,
    shards: Vec<AccessFile>,
    failure: RefCell<Option<Error>>,
}

impl StoreSink {
    /// Makes the model whole.
    ///
    /// # Errors
    /// The first failure of a write; `storage`.
    pub async fn finish(self) -> Result<()> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        for (shard, bytes) in self.shards.iter().zip(shard_sizes(self.image.len)) {
            shard.truncate(bytes)?;
            shard.flush()?;
        }
        let manifest = serde_json::to_vec(&self.manifest)
            .map_err(|error| Error::new(ErrorKind::Storage, error.to_string()))?;
        let file = AccessFile::open(&self.directory, MANIFEST, Mode::Write).await?;
        file.write(0, &manifest)?;
        file.flush()
    }

    fn write_range(&self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        for (index, part) in shard_ranges(range.clone()) {
            let start = (index as u64 * SHARD_BYTES + part.start - range.start) as usize;
            let len = (part.end - part.start) as usize;
            self.shards[index].write(part.start, &bytes[start..start + len])?;
        }
        Ok(())
    }
}

impl Sink for StoreSink {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        if self.failure.borrow().is_none() {
            let range = self.image.section(id, segment).range(section, &rows);
            *self.failure.borrow_mut() = self.write_range(range, bytes).err();
        }
        Ok(())
    }
}

fn shard_name(index: usize) -> String {
    format!("shard-{index:04}.bin")
}

/// Sizes of the shards of an image.
fn shard_sizes(image_bytes: u64) -> impl Iterator<Item = u64> {
    (0..image_bytes.div_ceil(SHARD_BYTES))
        .map(move |index| (image_bytes - index * SHARD_BYTES).min(SHARD_BYTES))
}

/// The shards that hold `range` of the image, each with its part of the range.
fn shard_ranges(range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> {
    let shards = range.start / SHARD_BYTES..range.end.div_ceil(SHARD_BYTES);
    shards.map(move |index| {
        let first = index * SHARD_BYTES;
        let start = range.start.max(first) - first;
        let end = range.end.min(first + SHARD_BYTES) - first;
        (index as usize, start..end.max(start))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
}

/// A file with synchronous access, closed when dropped.
struct AccessFile(FileSystemSyncAccessHandle);

impl AccessFile {
    async fn open(directory: &FileSystemDirectoryHandle, name: &str, mode: Mode) -> Result<Self> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(mode == Mode::Write);
        let handle = directory.get_file_handle_with_options(name, &options);
        let file: FileSystemFileHandle = settle(name, JsFuture::from(handle)).await?;
        // The bindings know no options of this call: the mode lets several tabs read one file.
        let options = Object::new();
        let access = match mode {
            Mode::Read => "read-only",
            Mode::Write => "readwrite",
        };
        let failed = |thrown: JsValue| from_thrown(ErrorKind::Storage, name, &thrown);
        Reflect::set(&options, &"mode".into(), &access.into()).map_err(failed)?;
        let create = Reflect::get(&file, &"createSyncAccessHandle".into()).map_err(failed)?;
        let create: Function = cast(ErrorKind::Storage, "createSyncAccessHandle", create)?;
        let opened: Promise =
            cast(ErrorKind::Storage, name, create.call1(&file, &options).map_err(failed)?)?;
        settle(name, JsFuture::from(opened)).await.map(Self)
    }

    fn len(&self) -> Result<u64> {
        self.0.get_size().map(|size| size as u64).map_err(|thrown| failure("size", &thrown))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0
            .read_with_u8_array_and_options(buffer, &at(offset))
            .map(|n_bytes| n_bytes as usize)
            .map_err(|thrown| failure("read", &thrown))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self
            .0
            .write_with_u8_array_and_options(bytes, &at(offset))
            .map_err(|thrown| failure("write", &thrown))?;
        if written as usize == bytes.len() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::QuotaExceeded, "browser storage takes no more bytes")
            .with("needed", bytes.len())
            .with("found", written as u64))
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        self.0.truncate_with_f64(bytes as f64).map_err(|thrown| failure("truncate", &thrown))
    }

    fn flush(&self) -> Result<()> {
        self.0.flush().map_err(|thrown| failure("flush", &thrown))
    }
}

impl Drop for AccessFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn at(offset: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(offset as f64);
    options
}

fn failure(what: &str, thrown: &JsValue) -> Error {
    from_thrown(ErrorKind::Storage, &format!("cannot {what} a stored file"), thrown)
}

async fn settle<T: JsCast>(what: &str, future: JsFuture<impl JsCast + 'static>) -> Result<T> {
    let value = future.await.map_err(|thrown| from_thrown(ErrorKind::Storage, what, &thrown))?;
    cast(ErrorKind::Storage, what, value.into())
}

async fn directory_in(
    parent: &FileSystemDirectoryHandle,
    name: &str,
) -> Result<FileSystemDirectoryHandle> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(true);
    let handle = parent.get_directory_handle_with_options(name, &options);
    settle(name, JsFuture::from(handle)).await
}

async fn read_file(directory: &FileSystemDirectoryHandle, name: &str) -> Result<Vec<u8>> {
    let file = AccessFile::open(directory, name, Mode::Read).await?;
    let mut bytes = vec![0; file.len()? as usize];
    let n_bytes = file.read(0, &mut bytes)?;
    bytes.truncate(n_bytes);
    Ok(bytes)
}
