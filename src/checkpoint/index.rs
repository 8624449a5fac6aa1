//! `model.safetensors.index.json`: which file of a model in several holds which tensor.
//!
//! In: the file, whole. Out: a [`ShardIndex`] whose file names can be put after the address of a
//! folder: none of them leads out of it.

use std::{borrow::Cow, collections::BTreeSet};

use serde::Deserialize;

use super::{
    Safetensors,
    json::{Pairs, excerpt, malformed},
};
use crate::{Error, Result};

/// The name of the file among those of a model.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// The largest index that is read, in bytes. That of gpt-oss-120b, which names 687 tensors, takes
/// less than 100 KB.
const MAX_INDEX_BYTES: usize = 64 << 20;

/// The most files that a model is spread over.
const MAX_SHARDS: usize = 4096;

/// The longest name of a file, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

const EXTENSION: &str = ".safetensors";

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    weight_map: Pairs<'a>,
}

/// The files of a model, and which of them holds each tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    /// In the order of the names, each at most once.
    shards: Vec<String>,
    /// Names of tensors in their order, and indices into `shards`.
    tensors: Vec<(String, u32)>,
}

impl ShardIndex {
    /// Parses an index. Memory in use stays below sixteen times `json.len()` and a few KiB.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) if the JSON is malformed, has no tensors,
    /// names one twice, or names a file that is not a plain name ending in `.safetensors`; the
    /// details name the `tensor` and the `file`. [`Unsupported`](crate::ErrorKind::Unsupported)
    /// for more than 64 MiB or 4096 files.
    pub fn parse(json: &[u8]) -> Result<Self> {
        if json.len() > MAX_INDEX_BYTES {
            return Err(Error::unsupported("the index of the model is too large")
                .with("needed", json.len())
                .with("limit", MAX_INDEX_BYTES));
        }
        let file: File<'_> = serde_json::from_slice(json)
            .map_err(|error| malformed("the index of the model", &error))?;
        let mut entries = file.weight_map.0;
        if entries.is_empty() {
            return Err(Error::invalid("the index of the model names no tensors"));
        }
        entries.sort_unstable();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::invalid("the index names a tensor twice")
                .with("tensor", excerpt(&pair[0].0)));
        }
        let shards = list_shards(&entries)?;
        let shard_of = |name: &str| {
            let found = shards.binary_search_by(|shard| shard.as_str().cmp(name));
            found.expect("every file is in the list") as u32
        };
        let tensors = entries
            .into_iter()
            .map(|(tensor, file)| {
                let shard = shard_of(&file);
                (tensor.into_owned(), shard)
            })
            .collect();
        Ok(Self { shards, tensors })
    }

    /// The names of the files, sorted.
    pub fn shards(&self) -> &[String] {
        &self.shards
    }

    /// Every tensor and the index of its file in [`shards`](Self::shards), sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.tensors.iter().map(|(name, shard)| (name.as_str(), *shard as usize))
    }

    /// The index in [`shards`](Self::shards) of the file that holds `tensor`.
    pub fn shard_of(&self, tensor: &str) -> Option<usize> {
        let found = self.tensors.binary_search_by(|(name, _)| name.as_str().cmp(tensor)).ok()?;
        Some(self.tensors[found].1 as usize)
    }

    /// Checks that `files`, the names of files that are there, have every shard among them.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) with the first `file` that is missing.
    pub fn check_files(&self, files: &[&str]) -> Result<()> {
        match self.shards.iter().find(|shard| !files.contains(&shard.as_str())) {
            None => Ok(()),
            Some(shard) => Err(Error::invalid("a file that the index names is missing")
                .with("file", shard.as_str())),
        }
    }

    /// Checks that each of `headers`, those of the shards in order, has the tensors that the index
    /// says, and no others.
    ///
    /// # Errors
    /// [`InvalidModel`](crate::ErrorKind::InvalidModel) with the `tensor` and the `file`.
    ///
    /// # Panics
    /// If there are not as many headers as shards.
    pub fn check_headers(&self, headers: &[Safetensors]) -> Result<()> {
        assert_eq!(headers.len(), self.shards.len(), "a header for each file");
        for (tensor, shard) in self.tensors() {
            if headers[shard].tensor(tensor).is_none() {
                return Err(Error::invalid("a tensor is not in the file that the index names")
                    .with("tensor", tensor)
                    .with("file", self.shards[shard].as_str()));
            }
        }
        for (shard, header) in headers.iter().enumerate() {
            let stray = |name: &str| self.shard_of(name) != Some(shard);
            if let Some(tensor) = header.tensors.iter().find(|tensor| stray(&tensor.name)) {
                return Err(Error::invalid("a file has a tensor that the index does not name")
                    .with("tensor", tensor.name.as_str())
                    .with("file", self.shards[shard].as_str()));
            }
        }
        Ok(())
    }
}

/// The files of `entries`, which are tensors and their files, in order and once each.
fn list_shards(entries: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<Vec<String>> {
    let mut shards: BTreeSet<&str> = BTreeSet::new();
    for (tensor, file) in entries {
        if shards.contains(&**file) {
            continue;
        }
        if !is_plain_name(file) {
            return Err(Error::invalid(
                "the index names a file that is no .safetensors file of the folder",
            )
            .with("tensor", excerpt(tensor))
            .with("file", excerpt(file)));
        }
        shards.insert(file);
        if shards.len() > MAX_SHARDS {
            return Err(Error::unsupported("the model is spread over too many files")
                .with("limit", MAX_SHARDS));
        }
    }
    Ok(shards.into_iter().map(str::to_owned).collect())
}

/// Whether `name` means a file of the folder at hand on every system and in every address: letters,
/// digits, hyphens, underscores and single dots, of which none is the first.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= MAX_FILE_NAME_BYTES
        && name.bytes().all(is_plain)
        && !name.starts_with('.')
        && !name.contains("..")
        && name.ends_with(EXTENSION)
}
