//! A folder that keeps nothing: models that are not stored are checked on their way all the same.

use super::{Access, StorageFile, StorageFolder};
use crate::{error::Result, source::LocalFuture};

/// A folder without files, in which whatever is written is lost.
pub struct Nowhere;

impl StorageFolder for Nowhere {
    fn read_all<'a>(&'a self, _: &'a str) -> LocalFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async { Ok(None) })
    }

    fn open<'a>(
        &'a self,
        _: &'a str,
        access: Access,
    ) -> LocalFuture<'a, Result<Option<Box<dyn StorageFile>>>> {
        let file: Option<Box<dyn StorageFile>> = match access {
            Access::Read => None,
            Access::Write => Some(Box::new(Lost)),
        };
        Box::pin(async { Ok(file) })
    }

    fn clear(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

struct Lost;

impl StorageFile for Lost {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
