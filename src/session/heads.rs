//! What must be known of a model's files before its weights are read: small files whole, and the
//! beginnings of those with tensors. Storage keeps them, so that a stored model is opened as the files
//! would be.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::{Gguf, Parsed},
    error::{Error, ErrorKind, Result},
    source::{Folder, Source},
};

/// Bytes of a file that are read first when looking for its header.
const FIRST_HEADER_BYTES: u64 = 256 << 10;

/// The largest file that is read whole, in bytes: tokenizers have 30 MB.
const MAX_SMALL_FILE: u64 = 128 << 20;

/// The beginning of a file, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The file's name.
    pub name: String,
    /// The file's size.
    pub len: u64,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

/// The heads of a model's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(pub Vec<Head>);

/// A head without its bytes, as stored.
#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    len: u64,
    head_len: u64,
}

impl Heads {
    /// Bytes of all heads.
    pub fn len(&self) -> usize {
        self.0.iter().map(|head| head.bytes.len()).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The head of the file called `name`.
    pub fn get(&self, name: &str) -> Option<&Head> {
        self.0.iter().find(|head| head.name == name)
    }

    /// One sequence of bytes: the length of a directory (u32), the directory as JSON, the heads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|head| Entry {
                name: head.name.clone(),
                len: head.len,
                head_len: head.bytes.len() as u64,
            })
            .collect();
        let directory = serde_json::to_vec(&entries).expect("names and numbers are JSON");
        let mut bytes = Vec::with_capacity(4 + directory.len() + self.len());
        bytes.extend((directory.len() as u32).to_le_bytes());
        bytes.extend(directory);
        self.0.iter().for_each(|head| bytes.extend(&head.bytes));
        bytes
    }

    /// Undoes [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// `storage` when `bytes` are not what it wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Storage, "the stored heads of files are damaged");
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (directory, mut rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let entries: Vec<Entry> = serde_json::from_slice(directory).map_err(|_| damaged())?;
        let mut heads = Vec::with_capacity(entries.len());
        for Entry { name, len, head_len } in entries {
            let head_len = usize::try_from(head_len).map_err(|_| damaged())?;
            let (head, after) = rest.split_at_checked(head_len).ok_or_else(damaged)?;
            heads.push(Head { name, len, bytes: head.to_vec() });
            rest = after;
        }
        Ok(Self(heads))
    }
}

/// How far a parser came with the beginning of a file.
pub(super) enum Progress {
    /// The header has this many bytes.
    Complete(u64),
    /// It needs at least this many.
    NeedMore(u64),
}

/// How far the header of a GGUF file goes.
pub(super) fn gguf_progress(prefix: &[u8], len: u64) -> Result<Progress> {
    Ok(match Gguf::parse(prefix, len)? {
        Parsed::Complete(gguf) => Progress::Complete(gguf.header_len),
        Parsed::NeedMore { at_least } => Progress::NeedMore(at_least),
    })
}

/// Reads the header of the file at `source`.
///
/// # Errors
/// Those of the source and of `parse`.
pub(super) async fn read_header(
    name: &str,
    source: &dyn Source,
    parse: impl Fn(&[u8], u64) -> Result<Progress>,
) -> Result<Head> {
    let len = source.len();
    let mut bytes = Vec::new();
    let mut target = FIRST_HEADER_BYTES.min(len);
    loop {
        let start = bytes.len();
        let needed = usize::try_from(target).map_err(|_| {
            Error::invalid("header does not fit into memory").with("needed", target)
        })?;
        bytes.resize(needed, 0);
        source.read(start as u64, &mut bytes[start..]).await?;
        match parse(&bytes, len).map_err(|error| error.with("file", name))? {
            Progress::Complete(header_len) => {
                bytes.truncate(header_len as usize);
                bytes.shrink_to_fit();
                source.rest();
                return Ok(Head { name: name.to_owned(), len, bytes });
            }
            // Growing fast keeps the number of requests small; what is read too much is used later.
            Progress::NeedMore(at_least) => {
                target = at_least.max(target.saturating_mul(4)).min(len);
            }
        }
    }
}

/// Reads all of the file called `name`, if there is one.
///
/// # Errors
/// Those of the folder and the source; `invalid_model` when the file is too large.
pub(super) async fn read_small(folder: &dyn Folder, name: &str) -> Result<Option<Head>> {
    let Some(source) = folder.open(name).await? else { return Ok(None) };
    let len = source.len();
    if len > MAX_SMALL_FILE {
        return Err(Error::invalid("file is too large")
            .with("file", name)
            .with("found", len)
            .with("limit", MAX_SMALL_FILE));
    }
    let mut bytes = vec![0; len as usize];
    source.read(0, &mut bytes).await?;
    source.rest();
    Ok(Some(Head { name: name.to_owned(), len, bytes }))
}

/// The file called `name`, which must be there.
///
/// # Errors
/// Those of the folder; `invalid_model` when there is no such file.
pub(super) async fn open_required(folder: &dyn Folder, name: &str) -> Result<Rc<dyn Source>> {
    folder.open(name).await?.ok_or_else(|| missing(name))
}

/// The error for a file that is not there.
pub(super) fn missing(name: &str) -> Error {
    Error::invalid("a file of the model is missing").with("file", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_storage_and_damage_is_noticed() {
        let head = |name: &str, len, bytes: &[u8]| Head {
            name: name.to_owned(),
            len,
            bytes: bytes.to_vec(),
        };
        let heads =
            Heads(vec![head("config.json", 2, b"{}"), head("a \"b\".gguf", 1 << 40, b"GG")]);
        let bytes = heads.to_bytes();
        assert_eq!(Heads::from_bytes(&bytes).unwrap(), heads);
        for len in 0..bytes.len() {
            let error = Heads::from_bytes(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage);
        }
    }
}
