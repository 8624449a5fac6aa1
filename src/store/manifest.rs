//! What is known of a stored model beside its pieces.
//!
//! It is written twice before the first piece, each time with a checksum, so that neither a crash nor a
//! damaged byte loses a model.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    error::{Error, ErrorKind, Result},
    ops::Plan,
    session::{Description, Heads},
    weights::{Pieces, Precision},
};

/// Version of what is stored: packed layouts, pieces, shards, records. Another version is no model,
/// and is fetched again.
pub const PACKING: u32 = 3;

/// One of the files with tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredFile {
    /// The file's name.
    pub name: String,
    /// Its size.
    pub len: u64,
    /// What its server calls this version of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its published SHA-256, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What a model is, and what is to be stored of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`PACKING`] of whoever wrote it.
    pub packing: u32,
    /// Identity of the model.
    pub id: String,
    /// How dense matrices are held.
    pub precision: Precision,
    /// The model's name, where its metadata give one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The architecture's name.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Where its files are; `None` where they were picked by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The files with tensors.
    pub files: Vec<StoredFile>,
    /// Number of pieces.
    pub n_pieces: u32,
    /// Bytes that pieces take of the files.
    pub source_bytes: u64,
    /// Bytes of the packed pieces.
    pub packed_bytes: u64,
    /// Bytes that heads take of the files.
    pub heads_bytes: u64,
    /// Hash of the stored heads, in hexadecimal.
    pub heads_hash: String,
    /// Divisors of the rotary frequencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_divisors: Option<Vec<f32>>,
    /// When the download began, in milliseconds since 1970.
    pub created_at: f64,
}

/// An address that a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// `url` or `folder`.
    pub kind: String,
    /// The address of the file or the folder.
    pub url: String,
}

impl Manifest {
    /// The manifest as it is stored: JSON, and a line with its hash.
    ///
    /// # Panics
    /// Never: names and numbers are JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("names and numbers are JSON");
        let hash = xxh3_128(&bytes);
        bytes.extend(format!("\n{hash:032x}\n").bytes());
        bytes
    }

    /// Reads a manifest; `None` where it is not sound or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = bytes.strip_suffix(b"\n")?;
        let (json, hash) = text.split_at(text.iter().rposition(|byte| *byte == b'\n')?);
        if hash[1..] != *format!("{:032x}", xxh3_128(json)).as_bytes() {
            return None;
        }
        let manifest: Self = serde_json::from_slice(json).ok()?;
        (manifest.packing == PACKING).then_some(manifest)
    }

    /// What the model is by its `heads`, how it is computed, and its pieces.
    ///
    /// # Errors
    /// Those of [`Description::new`] and [`Description::plan`].
    pub fn describe(&self, heads: &Heads) -> Result<(Description, Plan, Pieces)> {
        let description = Description::new(heads, self.rope_divisors.clone())?;
        let plan = description.plan(self.precision)?;
        let pieces = description.pieces(&plan, heads);
        Ok((description, plan, pieces))
    }

    /// Whether the pieces are those that this manifest counts.
    pub fn fits(&self, pieces: &Pieces) -> bool {
        self.n_pieces as usize == pieces.len()
            && self.source_bytes == pieces.source_bytes()
            && self.packed_bytes == pieces.packed_bytes()
    }

    /// Whether `heads` are those that were stored.
    pub fn is_of(&self, heads: &Heads) -> bool {
        heads_hash(&heads.to_bytes()) == self.heads_hash
    }

    /// The heads in `bytes`, if they are those that were stored.
    ///
    /// # Errors
    /// `storage` when they are not.
    pub fn heads(&self, bytes: &[u8]) -> Result<Heads> {
        if heads_hash(bytes) != self.heads_hash {
            return Err(Error::new(ErrorKind::Storage, "the stored heads of files are damaged"));
        }
        Heads::from_bytes(bytes)
    }
}

/// The hash that tells whether stored heads are what they were.
pub fn heads_hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn manifest() -> Manifest {
        Manifest {
            packing: PACKING,
            id: "a\nb\"c".to_owned(),
            precision: Precision::Compact,
            name: None,
            architecture: "llama".to_owned(),
            parameters: 1 << 40,
            origin: Some(Origin { kind: "url".to_owned(), url: "https://a/b.gguf".to_owned() }),
            files: vec![StoredFile {
                name: "b.gguf".to_owned(),
                len: 5,
                version: Some("\"e\"".to_owned()),
                sha256: None,
            }],
            n_pieces: 2,
            source_bytes: 10,
            packed_bytes: 20,
            heads_bytes: 3,
            heads_hash: heads_hash(b"abc"),
            rope_divisors: Some(vec![1.5]),
            created_at: 1.25e12,
        }
    }

    #[test]
    fn a_manifest_comes_back_and_any_damage_is_noticed() {
        let whole = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&whole), Some(manifest()));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::from_bytes(&flipped), None, "bit {bit}");
        }
        for len in 0..whole.len() {
            assert_eq!(Manifest::from_bytes(&whole[..len]), None);
        }
        let other = Manifest { packing: PACKING + 1, ..manifest() };
        assert_eq!(Manifest::from_bytes(&other.to_bytes()), None);
    }
}
