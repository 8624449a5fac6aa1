//! Stored models: packed pieces in shards, a journal of which are there, and what the model is.
//!
//! Everything stored is checked when it is read. A piece that is not what it was counts as missing and
//! is fetched again, alone; a model is whole when its journal has every piece, and every file that has a
//! published SHA-256 has matched it.
//!
//! [`StorageFolder`] is where this is kept: the origin private file system in a browser.

mod journal;
mod manifest;
mod nowhere;

use std::{ops::Range, rc::Rc};

use sha2::{Digest, Sha256};

use self::journal::piece_hash;
pub use self::{
    journal::{Journal, RECORD_BYTES, Record},
    manifest::{Manifest, Origin, PACKING, StoredFile, heads_hash},
    nowhere::Nowhere,
};
use crate::{
    error::{Error, ErrorKind, Result},
    session::{Heads, Host},
    source::LocalFuture,
    weights::{Keeper, Pieces, Precision},
};

/// The copies of the manifest.
pub const MANIFESTS: [&str; 2] = ["manifest-a.json", "manifest-b.json"];

/// The file of the heads.
pub const HEADS: &str = "heads.bin";

/// The file of the journal.
pub const JOURNAL: &str = "journal.bin";

/// Bytes after which a shard takes no further piece.
const SHARD_BYTES: u64 = 64 << 20;

/// Bytes read between two turns for the worker's messages.
const BYTES_A_TURN: usize = 16 << 20;

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Beside other readers.
    Read,
    /// Alone; the file is made where there is none.
    Write,
}

/// The files of one model.
pub trait StorageFolder {
    /// All of the file called `name`, if there is one, whoever writes it meanwhile.
    ///
    /// # Errors
    /// `storage`.
    fn read_all<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Vec<u8>>>>;

    /// The file called `name`; `None` where it is to be read and is not there.
    ///
    /// # Errors
    /// `storage`, also when another tab holds the file.
    fn open<'a>(
        &'a self,
        name: &'a str,
        access: Access,
    ) -> LocalFuture<'a, Result<Option<Box<dyn StorageFile>>>>;

    /// Removes all files.
    ///
    /// # Errors
    /// `storage`, when one is in use.
    fn clear(&self) -> LocalFuture<'_, Result<()>>;
}

/// An open file.
pub trait StorageFile {
    /// Reads from `offset`; returns how many bytes there were.
    ///
    /// # Errors
    /// `storage`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// `quota_exceeded` when there is no room; `storage`.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Hands what was written to the disk.
    ///
    /// # Errors
    /// `storage`.
    fn flush(&self) -> Result<()>;
}

/// Why a load has to begin again; the fact `reason` of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The files are not those that were stored from.
    Changed,
    /// Something stored is not sound, and must not be written by a reader.
    Damaged,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Damaged => "damaged",
        }
    }

    /// An error for this reason.
    pub fn error(self, kind: ErrorKind, message: &'static str) -> Error {
        Error::new(kind, message).with("reason", self.name())
    }

    /// Whether `error` came for this reason.
    pub fn is_of(self, error: &Error) -> bool {
        error.detail("reason") == Some(&self.name().into())
    }
}

/// A model in storage, whole or not.
pub struct Entry {
    /// What it is.
    pub manifest: Manifest,
    /// The heads of its files; `None` where they are damaged, or a file was found not to be the
    /// published one: its head is not either, then.
    pub heads: Option<Heads>,
    /// Which pieces are there.
    pub journal: Journal,
    /// Copies of the manifest that are damaged.
    damaged_manifests: Vec<&'static str>,
}

impl Entry {
    /// What `folder` holds; `None` where that is no model of this version.
    ///
    /// # Errors
    /// `storage`.
    pub async fn read(folder: &dyn StorageFolder) -> Result<Option<Self>> {
        let mut manifest = None;
        let mut damaged_manifests = Vec::new();
        for name in MANIFESTS {
            let bytes = folder.read_all(name).await?;
            match bytes.as_deref().and_then(Manifest::from_bytes) {
                Some(sound) => manifest = manifest.or(Some(sound)),
                None => damaged_manifests.push(name),
            }
        }
        let Some(manifest) = manifest else { return Ok(None) };
        let journal = folder.read_all(JOURNAL).await?.unwrap_or_default();
        let journal = Journal::from_bytes(&journal);
        let heads = folder.read_all(HEADS).await?.filter(|_| journal.refused.is_empty());
        let heads = heads.and_then(|bytes| manifest.heads(&bytes).ok());
        Ok(Some(Self { manifest, heads, journal, damaged_manifests }))
    }

    /// What `folder` holds, if that is the model called `id` in this precision.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_of(
        folder: &dyn StorageFolder,
        id: &str,
        precision: Precision,
    ) -> Result<Option<Self>> {
        let entry = Self::read(folder).await?;
        Ok(entry.filter(|entry| entry.manifest.id == id && entry.manifest.precision == precision))
    }

    /// Makes `folder` hold a model of which no piece is there yet.
    ///
    /// # Errors
    /// `storage`, `quota_exceeded`.
    pub async fn create(
        folder: &dyn StorageFolder,
        manifest: Manifest,
        heads: Heads,
    ) -> Result<Self> {
        folder.clear().await?;
        write_all(folder, HEADS, &heads.to_bytes()).await?;
        for name in MANIFESTS {
            write_all(folder, name, &manifest.to_bytes()).await?;
        }
        let journal = Journal::default();
        Ok(Self { manifest, heads: Some(heads), journal, damaged_manifests: Vec::new() })
    }

    /// Goes on with a model whose heads had to be fetched again, and are the same. Pieces of files
    /// that were refused, or of which `manifest` says something else now, count no longer.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Panics
    /// When the manifest is not of the same heads.
    pub async fn renew(
        mut self,
        folder: &dyn StorageFolder,
        manifest: Manifest,
        heads: Heads,
        pieces: &Pieces,
    ) -> Result<Self> {
        assert_eq!(self.manifest.heads_hash, manifest.heads_hash);
        let journal_file = open_to_write(folder, JOURNAL).await?;
        for (index, (before, now)) in self.manifest.files.iter().zip(&manifest.files).enumerate() {
            let of_file = pieces.files().get(index).map_or(0..0, |file| file.pieces.clone());
            if before != now || self.journal.refused.contains(&(index as u32)) {
                let record = Record::Dropped {
                    file: index as u32,
                    first: of_file.start as u32,
                    end: of_file.end as u32,
                };
                self.journal.append(record, journal_file.as_ref())?;
            }
        }
        for name in MANIFESTS {
            write_all(folder, name, &manifest.to_bytes()).await?;
        }
        write_all(folder, HEADS, &heads.to_bytes()).await?;
        let journal = self.journal;
        Ok(Self { manifest, heads: Some(heads), journal, damaged_manifests: Vec::new() })
    }

    /// Whether the model can be loaded from here alone.
    pub fn is_whole(&self) -> bool {
        self.heads.is_some()
            && (0..self.manifest.n_pieces as usize).all(|index| self.journal.has(index))
            && self.unverified().next().is_none()
    }

    /// Whether every file has matched its published SHA-256.
    pub fn is_verified(&self) -> bool {
        self.manifest.files.iter().all(|file| file.sha256.is_some())
            && self.unverified().next().is_none()
    }

    /// Bytes of the files that need not be fetched any more.
    pub fn downloaded_bytes(&self) -> u64 {
        let pieces = self.journal.stored().map(|noted| u64::from(noted.source_bytes)).sum::<u64>();
        pieces + if self.heads.is_some() { self.manifest.heads_bytes } else { 0 }
    }

    /// Bytes of the packed pieces that are stored.
    pub fn stored_bytes(&self) -> u64 {
        self.journal.stored().map(|noted| u64::from(noted.packed_bytes)).sum()
    }

    /// How much beside pieces is damaged: copies of the manifest, heads, records.
    pub fn n_damaged(&self) -> usize {
        let heads = usize::from(self.heads.is_none() && self.journal.refused.is_empty());
        self.damaged_manifests.len() + heads + self.journal.unsound.len()
    }

    /// Files that have not matched their published SHA-256 yet.
    fn unverified(&self) -> impl Iterator<Item = usize> {
        self.manifest.files.iter().enumerate().filter_map(|(index, file)| {
            let is_verified = self.journal.verified.contains(&(index as u32));
            (file.sha256.is_some() && !is_verified).then_some(index)
        })
    }
}

async fn write_all(folder: &dyn StorageFolder, name: &'static str, bytes: &[u8]) -> Result<()> {
    let file = open_to_write(folder, name).await?;
    file.write(0, bytes)?;
    file.flush()
}

async fn open_to_write(folder: &dyn StorageFolder, name: &str) -> Result<Box<dyn StorageFile>> {
    folder.open(name, Access::Write).await?.ok_or_else(|| {
        Error::new(ErrorKind::Storage, "a file could not be made").with("file", name)
    })
}

/// The pieces of a stored model.
pub struct Store<'a> {
    entry: Entry,
    pieces: &'a Pieces,
    /// The shard of each piece, and where the piece begins in it.
    places: Vec<(usize, u64)>,
    shards: Vec<Option<Box<dyn StorageFile>>>,
    /// `None` for readers.
    journal_file: Option<Box<dyn StorageFile>>,
    /// By file, where a published SHA-256 is to be checked.
    file_hashes: Vec<Option<FileHash>>,
    host: Rc<dyn Host>,
    unyielded: usize,
}

/// A SHA-256 under way.
struct FileHash {
    state: Sha256,
    /// The piece that continues it.
    next: usize,
}

impl<'a> Store<'a> {
    /// Opens the pieces of `entry`. A writer mends what it can: copies of the manifest, heads, and the
    /// journal.
    ///
    /// # Errors
    /// `storage`, also when another tab holds a file; for a reason of [`Reason::Changed`] when the
    /// stored pieces are not those of `pieces`; `invalid_model` when a file that was stored is not the
    /// one that was published.
    pub async fn open(
        folder: &dyn StorageFolder,
        mut entry: Entry,
        pieces: &'a Pieces,
        access: Access,
        host: Rc<dyn Host>,
    ) -> Result<Self> {
        if !entry.manifest.fits(pieces) {
            let message = "the stored model is cut into other pieces";
            return Err(Reason::Changed.error(ErrorKind::Storage, message));
        }
        let mut journal_file = None;
        if access == Access::Write {
            for name in std::mem::take(&mut entry.damaged_manifests) {
                write_all(folder, name, &entry.manifest.to_bytes()).await?;
            }
            let file = open_to_write(folder, JOURNAL).await?;
            for index in std::mem::take(&mut entry.journal.unsound) {
                file.write((index * RECORD_BYTES) as u64, &Record::Void.to_bytes())?;
            }
            journal_file = Some(file);
        }
        let places = places(pieces);
        let mut shards = Vec::new();
        for index in 0..places.last().map_or(0, |(shard, _)| shard + 1) {
            shards.push(folder.open(&shard_name(index), access).await?);
        }
        let file_hashes = file_hashes(&entry, pieces);
        let mut store =
            Self { entry, pieces, places, shards, journal_file, file_hashes, host, unyielded: 0 };
        if access == Access::Write {
            for file in 0..store.file_hashes.len() {
                store.check_file(file)?;
            }
        }
        Ok(store)
    }

    /// What is stored.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whether piece `index` is stored and sound; fills `packed` with it.
    ///
    /// # Errors
    /// `storage`.
    pub async fn check(&mut self, index: usize, packed: &mut [u8]) -> Result<bool> {
        let (shard, offset) = self.places[index];
        let n_read = match &self.shards[shard] {
            Some(file) => file.read(offset, packed)?,
            None => 0,
        };
        self.unyielded += packed.len();
        if self.unyielded >= BYTES_A_TURN {
            self.unyielded = 0;
            self.host.yield_now().await;
        }
        let noted = self.entry.journal.noted(index);
        Ok(n_read == packed.len() && noted.is_some_and(|noted| noted.hash == piece_hash(packed)))
    }

    /// Notes that piece `index` is damaged, so that it is fetched again.
    ///
    /// # Errors
    /// `storage`; for a reader, for a reason of [`Reason::Damaged`].
    pub fn forget(&mut self, index: usize) -> Result<()> {
        let Some(noted) = self.entry.journal.noted(index) else { return Ok(()) };
        let hash = noted.hash;
        self.note(Record::Damaged { piece: index as u32, hash })
    }

    /// Hands everything to the disk.
    ///
    /// # Errors
    /// `storage`.
    pub fn flush(&self) -> Result<()> {
        self.shards.iter().flatten().try_for_each(|shard| shard.flush())?;
        self.journal_file.as_ref().map_or(Ok(()), |file| file.flush())
    }

    fn note(&mut self, record: Record) -> Result<()> {
        let Some(file) = &self.journal_file else {
            let message = "a stored piece is damaged";
            return Err(Reason::Damaged.error(ErrorKind::Storage, message));
        };
        self.entry.journal.append(record, file.as_ref())
    }

    /// Continues the SHA-256 of the file of piece `index`; returns it as it is to be noted.
    fn hash_file(&mut self, index: usize, source: &[u8]) -> Option<Box<Sha256>> {
        let hash = self.file_hashes[self.pieces.get(index).file].as_mut()?;
        if hash.next != index {
            return None;
        }
        hash.state.update(source);
        hash.next += 1;
        Some(Box::new(hash.state.clone()))
    }

    /// Compares a file all of whose pieces have been hashed with what was published.
    fn check_file(&mut self, file: usize) -> Result<()> {
        let range = self.pieces.files()[file].pieces.clone();
        let Some(hash) = &self.file_hashes[file] else { return Ok(()) };
        if hash.next != range.end || self.entry.journal.verified.contains(&(file as u32)) {
            return Ok(());
        }
        let stored = &self.entry.manifest.files[file];
        let expected = stored.sha256.clone().unwrap_or_default();
        let name = stored.name.clone();
        let found = hex(&hash.state.clone().finalize());
        if found.eq_ignore_ascii_case(&expected) {
            return self.note(Record::Verified { file: file as u32 });
        }
        self.note(Record::Refused {
            file: file as u32,
            first: range.start as u32,
            end: range.end as u32,
        })?;
        self.file_hashes = file_hashes(&self.entry, self.pieces);
        Err(Error::invalid("the file's SHA-256 is not the published one: it will be fetched again")
            .with("file", name)
            .with("expected", expected)
            .with("found", found))
    }

    /// Adds what is stored and what is missing to an error of storage.
    fn with_room(&self, error: Error, index: usize) -> Error {
        if error.kind() != ErrorKind::QuotaExceeded {
            return error;
        }
        let stored = self.entry.stored_bytes();
        let needed =
            self.entry.manifest.packed_bytes - stored.min(self.entry.manifest.packed_bytes);
        Error::new(ErrorKind::QuotaExceeded, "browser storage has no room for the model")
            .with("needed", needed)
            .with("stored", stored)
            .with("piece", index)
    }
}

impl Keeper for Store<'_> {
    fn has(&self, index: usize) -> bool {
        self.entry.journal.has(index)
    }

    fn take<'a>(&'a mut self, index: usize, packed: &'a mut [u8]) -> LocalFuture<'a, Result<bool>> {
        Box::pin(async move {
            let is_sound = self.check(index, packed).await?;
            if !is_sound {
                self.forget(index)?;
            }
            Ok(is_sound)
        })
    }

    fn keep(&mut self, index: usize, source: &[u8], packed: &[u8]) -> Result<()> {
        let hash = piece_hash(packed);
        if self.entry.journal.noted(index).is_some_and(|noted| noted.hash != hash) {
            let message = "a piece is not what it was when it was first fetched";
            return Err(Reason::Changed.error(ErrorKind::Network, message).with("piece", index));
        }
        let (shard, offset) = self.places[index];
        let shard = self.shards[shard].as_ref().expect("a writer has all shards");
        shard.write(offset, packed).map_err(|error| self.with_room(error, index))?;
        let file_hash = self.hash_file(index, source);
        let record = Record::Stored {
            piece: index as u32,
            source_bytes: source.len() as u32,
            packed_bytes: packed.len() as u32,
            hash,
            file_hash,
        };
        self.note(record).map_err(|error| self.with_room(error, index))?;
        self.check_file(self.pieces.get(index).file)
    }
}

/// Where each file's SHA-256 stands, by what the journal has of it.
fn file_hashes(entry: &Entry, pieces: &Pieces) -> Vec<Option<FileHash>> {
    let hash_of = |(file, of_file): (usize, &crate::weights::FilePieces)| {
        let stored = entry.manifest.files.get(file)?;
        stored.sha256.as_ref()?;
        let range: Range<usize> = of_file.pieces.clone();
        let last = range.clone().rev().find_map(|index| {
            let state = entry.journal.noted(index)?.file_hash.as_ref()?;
            Some(FileHash { state: (**state).clone(), next: index + 1 })
        });
        last.or_else(|| {
            let head = entry.heads.as_ref()?.get(&stored.name)?;
            let state = Sha256::new().chain_update(&head.bytes);
            Some(FileHash { state, next: range.start })
        })
    };
    pieces.files().iter().enumerate().map(hash_of).collect()
}

/// The shard of each piece, and where in it the piece begins.
fn places(pieces: &Pieces) -> Vec<(usize, u64)> {
    let (mut shard, mut end) = (0, 0);
    let place = |piece: &crate::weights::Piece| {
        if end >= SHARD_BYTES {
            (shard, end) = (shard + 1, 0);
        }
        let start = end;
        end += piece.packed_bytes as u64;
        (shard, start)
    };
    pieces.iter().map(place).collect()
}

fn shard_name(index: usize) -> String {
    format!("shard-{index:04}.bin")
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
