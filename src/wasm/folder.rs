//! Folders at a URL, and files that the user picked, as folders.

use std::rc::Rc;

use web_sys::{AbortSignal, File};

use super::{
    file::BlobSource,
    http::{HttpSource, OnBytes},
};
use crate::{
    error::{Detail, ErrorKind, Result},
    source::{Folder, LocalFuture, Source},
    store::{Reason, StoredFile},
};

/// What a server answers for a file that is not there.
const NOT_FOUND: [u64; 2] = [404, 410];

/// Files whose URLs begin alike.
pub struct UrlFolder {
    /// What comes before a file's name, with a slash at its end.
    base: String,
    /// What comes after it: nothing, or a query.
    query: String,
    signal: AbortSignal,
    on_bytes: OnBytes,
}

impl UrlFolder {
    /// The folder at `base`, which ends with a slash.
    pub fn new(base: &str, signal: &AbortSignal, on_bytes: OnBytes) -> Self {
        Self { base: base.to_owned(), query: String::new(), signal: signal.clone(), on_bytes }
    }

    /// The folder of the file at `url`, and the file's name in it.
    pub fn of_file(url: &str, signal: &AbortSignal, on_bytes: OnBytes) -> (Self, String) {
        let path_len = url.find('?').unwrap_or(url.len());
        let (path, query) = url.split_at(path_len);
        let name_start = path.rfind('/').map_or(0, |slash| slash + 1);
        let (base, name) = path.split_at(name_start);
        let (base, query) = (base.to_owned(), query.to_owned());
        (Self { base, query, signal: signal.clone(), on_bytes }, name.to_owned())
    }

    fn url(&self, name: &str) -> String {
        format!("{}{name}{}", self.base, self.query)
    }
}

impl KnownFolder for UrlFolder {
    fn known(&self, file: &StoredFile) -> Result<Rc<dyn Source>> {
        let (url, version) = (self.url(&file.name), file.version.clone());
        let on_bytes = self.on_bytes.clone();
        Ok(Rc::new(HttpSource::known(&url, file.len, version, &self.signal, on_bytes)))
    }
}

impl Folder for UrlFolder {
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
        Box::pin(async move {
            match HttpSource::open(&self.url(name), &self.signal, self.on_bytes.clone()).await {
                Ok(source) => Ok(Some(Rc::new(source) as Rc<dyn Source>)),
                Err(error) => match error.detail("status") {
                    Some(Detail::Number(status)) if NOT_FOUND.contains(status) => Ok(None),
                    _ => Err(error),
                },
            }
        })
    }
}

/// A folder whose files may be known already.
pub trait KnownFolder: Folder {
    /// The file that was stored as `file`, without asking for it.
    ///
    /// # Errors
    /// `invalid_argument` when it is seen to be another one now.
    fn known(&self, file: &StoredFile) -> Result<Rc<dyn Source>>;
}

/// Files that the user picked.
pub struct PickedFiles(pub Vec<File>);

impl KnownFolder for PickedFiles {
    fn known(&self, file: &StoredFile) -> Result<Rc<dyn Source>> {
        let picked = self.0.iter().find(|picked| picked.name() == file.name);
        match picked.filter(|picked| picked.size() as u64 == file.len) {
            Some(picked) => Ok(Rc::new(BlobSource(picked.clone()))),
            None => {
                let message = "the file is not among those picked, or has changed";
                let error = Reason::Changed.error(ErrorKind::InvalidArgument, message);
                Err(error.with("file", file.name.as_str()))
            }
        }
    }
}

impl Folder for PickedFiles {
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
        let file = self.0.iter().find(|file| file.name() == name);
        let source = file.map(|file| Rc::new(BlobSource(file.clone())) as Rc<dyn Source>);
        Box::pin(async { Ok(source) })
    }
}
