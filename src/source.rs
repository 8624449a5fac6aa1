//! Bytes by range, from wherever they are. Sources know no format.

use std::{future::Future, pin::Pin, rc::Rc};

use crate::error::Result;

/// A future that stays on its thread, as everything in a browser does.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Something of known size that can be read by range.
///
/// Several reads may be under way at once. Readers ask for ranges in rising order where they can: a
/// server that knows no ranges then serves them from one stream.
pub trait Source {
    /// Size in bytes.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset`.
    ///
    /// # Errors
    /// `network` or `storage` when the bytes cannot be had; `invalid_model` when the source ends
    /// before the buffer is full.
    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>>;

    /// What the place calls this version of the bytes, where it does.
    fn version(&self) -> Option<String> {
        None
    }

    /// Lets go of what is held between reads, such as a connection: the next read may be far off.
    fn rest(&self) {}
}

/// A place with files, of which some make a model.
pub trait Folder {
    /// The file called `name`, if there is one.
    ///
    /// # Errors
    /// `network` or `storage` when that cannot be told.
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>>;
}

#[cfg(not(target_arch = "wasm32"))]
pub use file::{FileSource, LocalFolder};

#[cfg(not(target_arch = "wasm32"))]
mod file {
    use std::{
        fs::File,
        io::{self, Read, Seek, SeekFrom},
        path::{Path, PathBuf},
        rc::Rc,
    };

    use super::{Folder, LocalFuture, Source};
    use crate::error::{Error, ErrorKind, Result};

    /// A local file.
    pub struct FileSource {
        file: File,
        len: u64,
        name: String,
    }

    impl FileSource {
        /// Opens the file at `path`.
        ///
        /// # Errors
        /// `storage`, with the path.
        pub fn open(path: &Path) -> Result<Self> {
            let name = path.display().to_string();
            let failed = |error: io::Error| {
                Error::new(ErrorKind::Storage, format!("cannot open the model file: {error}"))
                    .with("file", name.as_str())
            };
            let file = File::open(path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if !metadata.is_file() {
                return Err(Error::new(ErrorKind::Storage, "the model path is not a file")
                    .with("file", name));
            }
            Ok(Self { len: metadata.len(), file, name })
        }
    }

    impl Source for FileSource {
        fn len(&self) -> u64 {
            self.len
        }

        fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
            Box::pin(async move {
                let mut file = &self.file;
                file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer)).map_err(
                    |error| {
                        Error::new(ErrorKind::Storage, format!("cannot read: {error}"))
                            .with("file", self.name.as_str())
                            .with("offset", offset)
                            .with("needed", buffer.len())
                    },
                )
            })
        }
    }

    /// A folder on disk.
    pub struct LocalFolder(pub PathBuf);

    impl Folder for LocalFolder {
        fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
            Box::pin(async move {
                let path = self.0.join(name);
                if !path.exists() {
                    return Ok(None);
                }
                Ok(Some(Rc::new(FileSource::open(&path)?) as Rc<dyn Source>))
            })
        }
    }
}
