//! A file that the user picked, as a source.

use js_sys::Uint8Array;
use wasm_bindgen_futures::JsFuture;
use web_sys::File;

use super::error::from_thrown;
use crate::{
    error::{Error, ErrorKind, Result},
    source::{LocalFuture, Source},
};

/// A picked file.
pub struct BlobSource(pub File);

impl Source for BlobSource {
    fn len(&self) -> u64 {
        self.0.size() as u64
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let end = offset as f64 + buffer.len() as f64;
            let failed = |thrown| from_thrown(ErrorKind::Storage, "cannot read the file", &thrown);
            let slice = self.0.slice_with_f64_and_f64(offset as f64, end).map_err(failed)?;
            let bytes =
                Uint8Array::new(&JsFuture::from(slice.array_buffer()).await.map_err(failed)?);
            if bytes.length() as usize != buffer.len() {
                return Err(Error::invalid("the file ends early")
                    .with("offset", offset)
                    .with("needed", buffer.len())
                    .with("found", bytes.length()));
            }
            bytes.copy_to(buffer);
            Ok(())
        })
    }
}
