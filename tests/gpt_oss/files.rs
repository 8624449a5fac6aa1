//! Models as files in memory.

use std::{collections::BTreeMap, rc::Rc};

use pesi::{
    Error, ErrorKind, Result,
    session::{Description, Entry},
    source::{Folder, LocalFuture, Source},
    weights::Precision,
};

/// Files in memory, by name.
#[derive(Clone, Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

struct Bytes(Vec<u8>);

impl Source for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let start = offset as usize;
            let bytes = self.0.get(start..start + buffer.len());
            let end = || Error::new(ErrorKind::Storage, "read past the end").with("offset", offset);
            buffer.copy_from_slice(bytes.ok_or_else(end)?);
            Ok(())
        })
    }
}

impl Folder for Files {
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
        let file = self.0.get(name).map(|bytes| Rc::new(Bytes(bytes.clone())) as Rc<dyn Source>);
        Box::pin(async { Ok(file) })
    }
}

impl Files {
    /// Reads what the files say, up to the plan.
    pub fn open(&self, entry: &Entry) -> Result<()> {
        pollster::block_on(async {
            let opened = Description::open(self, entry).await?;
            opened.description.plan(Precision::Compact).map(drop)
        })
    }
}

/// Fails unless the files are refused with `kind` and a message that has all of `named`.
#[track_caller]
pub fn refused(files: &Files, entry: &Entry, kind: ErrorKind, named: &[&str]) {
    let error = files.open(entry).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for named in named {
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}
