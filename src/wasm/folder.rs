//! Folders at a URL, and files that the user picked, as folders.

use std::rc::Rc;

use web_sys::{AbortSignal, File};

use super::{file::BlobSource, http::HttpSource};
use crate::{
    error::{Detail, Result},
    source::{Folder, LocalFuture, Source},
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
}

impl UrlFolder {
    /// The folder at `base`, which ends with a slash.
    pub fn new(base: &str, signal: &AbortSignal) -> Self {
        Self { base: base.to_owned(), query: String::new(), signal: signal.clone() }
    }

    /// The folder of the file at `url`, and the file's name in it.
    pub fn of_file(url: &str, signal: &AbortSignal) -> (Self, String) {
        let path_len = url.find('?').unwrap_or(url.len());
        let (path, query) = url.split_at(path_len);
        let name_start = path.rfind('/').map_or(0, |slash| slash + 1);
        let (base, name) = path.split_at(name_start);
        let (base, query) = (base.to_owned(), query.to_owned());
        (Self { base, query, signal: signal.clone() }, name.to_owned())
    }
}

impl Folder for UrlFolder {
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
        Box::pin(async move {
            let url = format!("{}{name}{}", self.base, self.query);
            match HttpSource::open(&url, &self.signal).await {
                Ok(source) => Ok(Some(Rc::new(source) as Rc<dyn Source>)),
                Err(error) => match error.detail("status") {
                    Some(Detail::Number(status)) if NOT_FOUND.contains(status) => Ok(None),
                    _ => Err(error),
                },
            }
        })
    }
}

/// Files that the user picked.
pub struct PickedFiles(pub Vec<File>);

impl Folder for PickedFiles {
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
        let file = self.0.iter().find(|file| file.name() == name);
        let source = file.map(|file| Rc::new(BlobSource(file.clone())) as Rc<dyn Source>);
        Box::pin(async { Ok(source) })
    }
}
