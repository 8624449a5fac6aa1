//! The origin private file system: a folder for each model, and one for what was found out about devices.

use js_sys::{AsyncIterator, Function, Object, Promise, Reflect, Uint8Array};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, DomException, FileSystemDirectoryHandle, FileSystemFileHandle,
    FileSystemGetDirectoryOptions, FileSystemGetFileOptions, FileSystemReadWriteOptions,
    FileSystemRemoveOptions, FileSystemSyncAccessHandle, WorkerGlobalScope,
};

use super::error::{cast, from_thrown};
use crate::{
    error::{Error, ErrorKind, Result},
    source::LocalFuture,
    store::{Access, StorageFile, StorageFolder, hex},
    weights::Precision,
};

const MODELS: &str = "pesi-models";

const TUNINGS: &str = "pesi-tuning";

/// All stored models.
pub struct Models(FileSystemDirectoryHandle);

impl Models {
    /// The place of stored models, made where there is none.
    ///
    /// # Errors
    /// `storage` where the browser has no private file system.
    pub async fn open() -> Result<Self> {
        let root = root().await?;
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(true);
        let handle = root.get_directory_handle_with_options(MODELS, &options);
        settle(MODELS, JsFuture::from(handle)).await.map(Self)
    }

    /// The folder for a model, whether or not it is stored.
    pub fn folder(&self, id: &str, precision: Precision) -> PrivateFolder {
        let digest = Sha256::digest(format!("{id}\n{precision:?}").as_bytes());
        PrivateFolder { parent: self.0.clone(), name: hex(&digest[..16]) }
    }

    /// The folders of all models.
    ///
    /// # Errors
    /// `storage`.
    pub async fn folders(&self) -> Result<Vec<PrivateFolder>> {
        let failed =
            |thrown: JsValue| from_thrown(ErrorKind::Storage, "cannot list models", &thrown);
        let names: AsyncIterator = cast(ErrorKind::Storage, "keys", self.0.keys().into())?;
        let mut folders = Vec::new();
        loop {
            let next = JsFuture::from(names.next().map_err(failed)?).await.map_err(failed)?;
            if Reflect::get(&next, &"done".into()).map_err(failed)?.is_truthy() {
                return Ok(folders);
            }
            let name = Reflect::get(&next, &"value".into()).map_err(failed)?;
            let name = name.as_string().unwrap_or_default();
            folders.push(PrivateFolder { parent: self.0.clone(), name });
        }
    }
}

/// The folder with the sizes of kernels that were found by trial.
///
/// # Errors
/// `storage` where the browser has no private file system.
pub async fn tunings() -> Result<PrivateFolder> {
    Ok(PrivateFolder { parent: root().await?, name: TUNINGS.to_owned() })
}

async fn root() -> Result<FileSystemDirectoryHandle> {
    let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
    let directory = JsFuture::from(scope.navigator().storage().get_directory());
    settle("browser storage", directory).await
}

/// A folder with files in it: that of a model, or of tunings.
#[derive(Clone)]
pub struct PrivateFolder {
    parent: FileSystemDirectoryHandle,
    name: String,
}

impl PrivateFolder {
    /// What the folder is called, also between tabs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself, if it is there.
    async fn directory(&self, create: bool) -> Result<Option<FileSystemDirectoryHandle>> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(create);
        let handle = self.parent.get_directory_handle_with_options(&self.name, &options);
        found(&self.name, JsFuture::from(handle).await)
    }

    async fn file(&self, name: &str, create: bool) -> Result<Option<FileSystemFileHandle>> {
        let Some(directory) = self.directory(create).await? else { return Ok(None) };
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        let handle = directory.get_file_handle_with_options(name, &options);
        found(name, JsFuture::from(handle).await)
    }
}

impl StorageFolder for PrivateFolder {
    fn read_all<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            let Some(file) = self.file(name, false).await? else { return Ok(None) };
            let failed = |thrown: JsValue| from_thrown(ErrorKind::Storage, name, &thrown);
            let blob: Blob = settle(name, JsFuture::from(file.get_file())).await?;
            let bytes = JsFuture::from(blob.array_buffer()).await.map_err(failed)?;
            Ok(Some(Uint8Array::new(&bytes).to_vec()))
        })
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        access: Access,
    ) -> LocalFuture<'a, Result<Option<Box<dyn StorageFile>>>> {
        Box::pin(async move {
            let file = self.file(name, access == Access::Write).await?;
            let Some(file) = file else { return Ok(None) };
            Ok(Some(Box::new(AccessFile::open(&file, name, access).await?) as Box<dyn StorageFile>))
        })
    }

    fn clear(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            let options = FileSystemRemoveOptions::new();
            options.set_recursive(true);
            let removal = self.parent.remove_entry_with_options(&self.name, &options);
            found::<JsValue>(&self.name, JsFuture::from(removal).await).map(drop)
        })
    }
}

/// A file with synchronous access, closed when dropped.
struct AccessFile(FileSystemSyncAccessHandle);

impl AccessFile {
    async fn open(file: &FileSystemFileHandle, name: &str, access: Access) -> Result<Self> {
        // The bindings know no options of this call: the mode lets several tabs read one file.
        let options = Object::new();
        let mode = match access {
            Access::Read => "read-only",
            Access::Write => "readwrite",
        };
        let failed = |thrown: JsValue| from_thrown(ErrorKind::Storage, name, &thrown);
        Reflect::set(&options, &"mode".into(), &mode.into()).map_err(failed)?;
        let create = Reflect::get(file, &"createSyncAccessHandle".into()).map_err(failed)?;
        let create: Function = cast(ErrorKind::Storage, "createSyncAccessHandle", create)?;
        let opened: Promise =
            cast(ErrorKind::Storage, name, create.call1(file, &options).map_err(failed)?)?;
        settle(name, JsFuture::from(opened)).await.map(Self)
    }
}

impl StorageFile for AccessFile {
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

/// What a look-up gave; `None` where nothing is there.
fn found<T: JsCast>(what: &str, result: Result<impl Into<JsValue>, JsValue>) -> Result<Option<T>> {
    match result {
        Ok(value) => cast(ErrorKind::Storage, what, value.into()).map(Some),
        Err(thrown) => match thrown.dyn_ref::<DomException>() {
            Some(exception) if exception.name() == "NotFoundError" => Ok(None),
            _ => Err(from_thrown(ErrorKind::Storage, what, &thrown)),
        },
    }
}
