//! What is in storage: a list of it, its removal, and its verification.

use std::rc::Rc;

use js_sys::Function;
use serde::{Deserialize, Serialize};
use web_sys::AbortSignal;

use super::{
    host::WorkerHost,
    lock::Lock,
    opfs::{Models, PrivateFolder},
    options::SourceOptions,
    reporter::Reporter,
};
use crate::{
    error::{Error, ErrorKind, Result},
    store::{Access, Entry, StorageFolder, Store},
    weights::{Keeper, Loaded, Precision, fetch_missing},
};

/// Options of listing models.
#[derive(Deserialize)]
pub struct ListOptions {
    incomplete: bool,
}

/// A stored model.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredModel {
    id: String,
    precision: Precision,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    architecture: String,
    parameters: u64,
    complete: bool,
    stored_bytes: u64,
    total_bytes: u64,
    downloaded_bytes: u64,
    download_bytes: u64,
    verified: bool,
    from_files: bool,
    created_at: f64,
}

/// Which models are meant.
#[derive(Deserialize)]
pub struct ModelOptions {
    id: String,
    precision: Option<Precision>,
}

/// What removing freed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    removed_bytes: u64,
}

/// Options of a verification beside the model.
#[derive(Deserialize)]
pub struct VerifyOptions {
    /// Whether damaged pieces are fetched again.
    pub repair: bool,
}

/// What a verification found.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    id: String,
    ok: bool,
    checked_bytes: u64,
    damaged_pieces: usize,
    repaired_pieces: usize,
}

impl From<&Entry> for StoredModel {
    fn from(entry: &Entry) -> Self {
        let manifest = &entry.manifest;
        Self {
            id: manifest.id.clone(),
            precision: manifest.precision,
            name: manifest.name.clone(),
            architecture: manifest.architecture.clone(),
            parameters: manifest.parameters,
            complete: entry.is_whole(),
            stored_bytes: entry.stored_bytes(),
            total_bytes: manifest.packed_bytes,
            downloaded_bytes: entry.downloaded_bytes(),
            download_bytes: manifest.source_bytes + manifest.heads_bytes,
            verified: entry.is_verified(),
            from_files: manifest.origin.is_none(),
            created_at: manifest.created_at,
        }
    }
}

/// The models in storage. What is no model of this version is removed, unless a tab uses it.
///
/// # Errors
/// `storage`.
pub async fn list(options: &ListOptions) -> Result<Vec<StoredModel>> {
    let mut models = Vec::new();
    let all = Models::open().await?;
    for folder in all.folders().await? {
        let entry = Entry::read(&folder).await?.filter(|entry| {
            all.folder(&entry.manifest.id, entry.manifest.precision).name() == folder.name()
        });
        match entry {
            Some(entry) => {
                let model = StoredModel::from(&entry);
                if model.complete || options.incomplete {
                    models.push(model);
                }
            }
            None => {
                if let Some(_lock) = Lock::try_take(folder.name(), Access::Write).await? {
                    // A file that cannot be removed now is tried again with the next list.
                    let _ = folder.clear().await;
                }
            }
        }
    }
    models.sort_by(|a, b| a.created_at.total_cmp(&b.created_at));
    Ok(models)
}

/// Removes the model that is meant, in the precision that is or in both.
///
/// # Errors
/// `storage`, also when a tab loads the model.
pub async fn remove(options: &ModelOptions) -> Result<Removed> {
    let mut removed_bytes = 0;
    for folder in folders(options).await? {
        let Some(_lock) = Lock::try_take(folder.name(), Access::Write).await? else {
            let message = "the model is being loaded, so it cannot be removed now";
            return Err(Error::new(ErrorKind::Storage, message).with("model", options.id.as_str()));
        };
        removed_bytes += Entry::read(&folder).await?.map_or(0, |entry| entry.stored_bytes());
        folder.clear().await?;
    }
    Ok(Removed { removed_bytes })
}

/// Checks every stored piece of the model that is meant; what is damaged counts as missing from then
/// on, and is fetched again where that is asked for and the model came from an address.
///
/// # Errors
/// `storage` when no such model is stored; `aborted`; those of the source.
pub async fn verify(
    options: &ModelOptions,
    repair: bool,
    signal: &AbortSignal,
    on_progress: &Function,
    host: &Rc<WorkerHost>,
) -> Result<Verification> {
    let mut sum = Verification { id: options.id.clone(), ok: true, ..Default::default() };
    let mut n_found = 0;
    for folder in folders(options).await? {
        let reporter = Reporter::new(on_progress, signal, host);
        let run = Run { folder, reporter, repair, signal, host };
        if let Some(found) = run.verify().await? {
            n_found += 1;
            sum.ok &= found.ok;
            sum.checked_bytes += found.checked_bytes;
            sum.damaged_pieces += found.damaged_pieces;
            sum.repaired_pieces += found.repaired_pieces;
        }
    }
    if n_found == 0 {
        return Err(Error::new(ErrorKind::Storage, "no such model is stored")
            .with("model", options.id.as_str()));
    }
    Ok(sum)
}

/// The folders for the model that is meant.
async fn folders(options: &ModelOptions) -> Result<Vec<PrivateFolder>> {
    let models = Models::open().await?;
    let precisions = match options.precision {
        Some(precision) => vec![precision],
        None => vec![Precision::Compact, Precision::Exact],
    };
    Ok(precisions.into_iter().map(|precision| models.folder(&options.id, precision)).collect())
}

/// The verification of one stored model.
struct Run<'a> {
    folder: PrivateFolder,
    reporter: Rc<Reporter>,
    repair: bool,
    signal: &'a AbortSignal,
    host: &'a Rc<WorkerHost>,
}

impl Run<'_> {
    async fn verify(&self) -> Result<Option<Verification>> {
        let lock = Lock::wait(self.folder.name(), Access::Read, self.signal).await?;
        let Some(entry) = Entry::read(&self.folder).await? else { return Ok(None) };
        let known = entry.journal.n_damaged();
        let mut found =
            Verification { damaged_pieces: entry.n_damaged() + known, ..Default::default() };
        let n_missing = entry.manifest.n_pieces as usize - entry.journal.stored().count();
        // Where records are damaged, what they were about seems missing.
        let was_complete = n_missing <= entry.journal.unsound.len() + known;
        let mut damaged = Vec::new();
        if entry.heads.is_some() {
            (damaged, found.checked_bytes) = self.check(entry).await?;
        }
        found.damaged_pieces += damaged.len();
        drop(lock);
        if found.damaged_pieces == 0 {
            found.ok = was_complete;
            return Ok(Some(found));
        }

        let _lock = Lock::wait(self.folder.name(), Access::Write, self.signal).await?;
        let Some(entry) = Entry::read(&self.folder).await? else { return Ok(None) };
        let is_whole = self.mend(entry, &damaged, was_complete).await?;
        found.ok = is_whole;
        found.repaired_pieces = if is_whole { found.damaged_pieces } else { 0 };
        Ok(Some(found))
    }

    /// Which stored pieces are damaged, and how many bytes were checked.
    async fn check(&self, entry: Entry) -> Result<(Vec<usize>, u64)> {
        let heads = entry.heads.as_ref().expect("callers have looked");
        let (_, _, pieces) = entry.manifest.describe(heads)?;
        self.reporter.begin("verify", &entry.manifest.id, entry.stored_bytes())?;
        let mut store =
            Store::open(&self.folder, entry, &pieces, Access::Read, self.host.clone()).await?;
        let (mut damaged, mut checked, mut packed) = (Vec::new(), 0, Vec::new());
        for (index, piece) in pieces.iter().enumerate() {
            if store.has(index) {
                packed.resize(piece.packed_bytes, 0);
                if !store.check(index, &mut packed).await? {
                    damaged.push(index);
                }
                checked += piece.packed_bytes as u64;
                self.reporter.done(piece.packed_bytes as u64, None, true)?;
            }
        }
        self.reporter.pause();
        Ok((damaged, checked))
    }

    /// Notes what is damaged, mends it if that is asked for, and tells whether the model is whole.
    async fn mend(&self, entry: Entry, damaged: &[usize], was_complete: bool) -> Result<bool> {
        let origin = entry.manifest.origin.clone().filter(|_| self.repair && was_complete);
        let source =
            origin.map(|origin| SourceOptions::at(&entry.manifest.id, origin)).transpose()?;
        let fetched = match (&entry.heads, &source) {
            (Some(_), _) => None,
            (None, Some(source)) => Some(source.open(self.signal, Rc::new(|_| ())).await?.heads),
            (None, None) => return Ok(false),
        };
        if fetched.as_ref().is_some_and(|heads| !entry.manifest.is_of(heads)) {
            return Ok(false);
        }
        let heads = entry.heads.as_ref().or(fetched.as_ref()).expect("stored, or fetched above");
        let (_, plan, pieces) = entry.manifest.describe(heads)?;
        let entry = match fetched {
            None => entry,
            Some(heads) => {
                let manifest = entry.manifest.clone();
                entry.renew(&self.folder, manifest, heads, &pieces).await?
            }
        };
        let files = entry.manifest.files.clone();
        let mut store =
            Store::open(&self.folder, entry, &pieces, Access::Write, self.host.clone()).await?;
        damaged.iter().try_for_each(|index| store.forget(*index))?;
        if let Some(source) = source {
            let reporter = self.reporter.clone();
            let (folder, _) = source.folder(self.signal, Rc::new(move |n| reporter.arrived(n)));
            let sources: Vec<_> =
                files.iter().map(|file| folder.known(file)).collect::<Result<_>>()?;
            let missing = pieces.iter().enumerate().filter(|(index, _)| !store.has(*index));
            let n_bytes = missing.map(|(_, piece)| piece.source_bytes()).sum();
            self.reporter.begin("download", &store.entry().manifest.id.clone(), n_bytes)?;
            let mut progress = |Loaded { piece, .. }| {
                let piece = pieces.get(piece);
                self.reporter.done(piece.source_bytes(), None, false)
            };
            fetch_missing(&sources, &plan.weights, &pieces, &mut store, &mut progress).await?;
        }
        store.flush()?;
        Ok(store.entry().is_whole())
    }
}
