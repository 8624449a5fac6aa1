//! Stored models under crashes, full disks, flipped bits, and files that change: what is loaded is
//! right or there is an error, and the next load goes on from what is stored.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    ops::Range,
    path::Path,
    rc::Rc,
};

use pesi::{
    Error, ErrorKind, Result,
    ops::Plan,
    session::{Description, Entry as FileEntry, Heads, Host, Opened},
    source::{LocalFolder, LocalFuture, Source},
    store::{
        Access, Entry, JOURNAL, MANIFESTS, Manifest, PACKING, Reason, StorageFile, StorageFolder,
        Store, StoredFile, heads_hash,
    },
    weights::{
        Keeper, Loaded, Piece, Pieces, Precision, Section, Sink, WeightId, fetch_missing,
        load_pieces,
    },
};
use sha2::{Digest, Sha256};

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

/// A folder in memory, in which writing may fail.
#[derive(Clone, Default)]
struct Disk {
    files: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    /// Bytes that can still be written before `failure`.
    room: Rc<Cell<Option<u64>>>,
    /// Whether a write that fails leaves its first bytes.
    crashes: Rc<Cell<bool>>,
}

struct DiskFile(Disk, String);

impl StorageFolder for Disk {
    fn read_all<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async move { Ok(self.files.borrow().get(name).cloned()) })
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        access: Access,
    ) -> LocalFuture<'a, Result<Option<Box<dyn StorageFile>>>> {
        Box::pin(async move {
            let mut files = self.files.borrow_mut();
            match access {
                Access::Read if !files.contains_key(name) => return Ok(None),
                Access::Read => {}
                Access::Write => drop(files.entry(name.to_owned()).or_default()),
            }
            let file = DiskFile(self.clone(), name.to_owned());
            Ok(Some(Box::new(file) as Box<dyn StorageFile>))
        })
    }

    fn clear(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async {
            self.files.borrow_mut().clear();
            Ok(())
        })
    }
}

impl StorageFile for DiskFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let files = self.0.files.borrow();
        let bytes = files[&self.1].get(offset as usize..).unwrap_or_default();
        let n_bytes = bytes.len().min(buffer.len());
        buffer[..n_bytes].copy_from_slice(&bytes[..n_bytes]);
        Ok(n_bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = match self.0.room.get() {
            Some(room) if room < bytes.len() as u64 => {
                self.0.room.set(Some(0));
                if self.0.crashes.get() { room as usize } else { 0 }
            }
            room => {
                self.0.room.set(room.map(|room| room - bytes.len() as u64));
                bytes.len()
            }
        };
        let mut files = self.0.files.borrow_mut();
        let file = files.get_mut(&self.1).expect("opened files are there");
        let end = offset as usize + written;
        file.resize(file.len().max(end), 0);
        file[offset as usize..end].copy_from_slice(&bytes[..written]);
        match written == bytes.len() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::QuotaExceeded, "the disk is full")),
        }
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

struct Still;

impl Host for Still {
    fn now(&self) -> f64 {
        0.0
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A source that counts what is read, and can be made to give wrong bytes.
struct Counted {
    inner: Rc<dyn Source>,
    n_bytes: Rc<Cell<u64>>,
    /// A byte of the file that comes out wrong.
    wrong: Rc<Cell<Option<u64>>>,
}

impl Source for Counted {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.inner.read(offset, buffer).await?;
            self.n_bytes.set(self.n_bytes.get() + buffer.len() as u64);
            if let Some(wrong) = self.wrong.get()
                && let Some(byte) = wrong.checked_sub(offset)
                && let Some(byte) = buffer.get_mut(byte as usize)
            {
                *byte ^= 0x10;
            }
            Ok(())
        })
    }
}

/// Everything written, by weight, segment and section.
#[derive(Default, PartialEq)]
struct Written(HashMap<(usize, usize, bool), Vec<u8>>);

impl Sink for Written {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        let row_bytes = bytes.len() / rows.len();
        let kept = self.0.entry((id.0, segment, section == Section::Scales)).or_default();
        kept.resize(kept.len().max(rows.end * row_bytes), 0);
        kept[rows.start * row_bytes..rows.end * row_bytes].copy_from_slice(bytes);
        Ok(())
    }
}

/// A model that can be loaded over and over.
struct Model {
    heads: Heads,
    plan: Plan,
    pieces: Pieces,
    sources: Vec<Rc<dyn Source>>,
    n_bytes: Rc<Cell<u64>>,
    wrong: Rc<Cell<Option<u64>>>,
    manifest: Manifest,
    /// What a load without storage writes.
    right: Written,
}

impl Model {
    fn open(folder: &str, entry: FileEntry) -> Self {
        pollster::block_on(async {
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt-oss").join(folder);
            let Opened { description, heads, sources } =
                Description::open(&LocalFolder(path.clone()), &entry).await.unwrap();
            let plan = description.plan(Precision::Compact).unwrap();
            let names = description.tensors.file_names();
            let pieces = description.pieces(&plan, &heads);
            let n_bytes = Rc::new(Cell::new(0));
            let wrong = Rc::new(Cell::new(None));
            let counted = |inner: Rc<dyn Source>| {
                let (n_bytes, wrong) = (n_bytes.clone(), wrong.clone());
                Rc::new(Counted { inner, n_bytes, wrong }) as Rc<dyn Source>
            };
            let sources: Vec<_> = sources.into_iter().map(counted).collect();
            let file = |(index, name): (usize, &String)| {
                assert!(pieces.files()[index].is_covered, "{name}");
                let bytes = std::fs::read(path.join(name)).unwrap();
                let sum: String =
                    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                StoredFile {
                    name: name.clone(),
                    len: bytes.len() as u64,
                    version: None,
                    sha256: Some(sum),
                }
            };
            let manifest = Manifest {
                packing: PACKING,
                id: folder.to_owned(),
                precision: Precision::Compact,
                name: None,
                architecture: "gpt-oss".to_owned(),
                parameters: plan.weights.n_elements(),
                origin: None,
                files: names.iter().enumerate().map(file).collect(),
                n_pieces: pieces.len() as u32,
                source_bytes: pieces.source_bytes(),
                packed_bytes: pieces.packed_bytes(),
                heads_bytes: heads.len() as u64,
                heads_hash: heads_hash(&heads.to_bytes()),
                rope_divisors: None,
                created_at: 0.0,
            };
            let mut right = Written::default();
            pesi::weights::load(&sources, &plan.weights, &mut right).await.unwrap();
            n_bytes.set(0);
            Self { heads, plan, pieces, sources, n_bytes, wrong, manifest, right }
        })
    }

    /// Loads from `disk` and, as a writer, from the files; returns what was written, and the bytes read.
    fn load(&self, disk: &Disk, access: Access) -> (Result<Written>, u64) {
        self.n_bytes.set(0);
        let written = pollster::block_on(async {
            let entry = match Entry::read(disk).await? {
                Some(entry) if entry.heads.is_some() => entry,
                Some(entry) => {
                    let (manifest, heads) = (self.manifest.clone(), self.heads.clone());
                    entry.renew(disk, manifest, heads, &self.pieces).await?
                }
                None => Entry::create(disk, self.manifest.clone(), self.heads.clone()).await?,
            };
            let mut store = Store::open(disk, entry, &self.pieces, access, Rc::new(Still)).await?;
            let mut written = Written::default();
            let mut progress = |_: Loaded| Ok(());
            let (table, pieces) = (&self.plan.weights, &self.pieces);
            load_pieces(&self.sources, table, pieces, &mut store, &mut written, &mut progress)
                .await?;
            Ok(written)
        });
        (written, self.n_bytes.get())
    }

    fn is_whole(&self, disk: &Disk) -> bool {
        let entry = pollster::block_on(Entry::read(disk)).unwrap();
        entry.is_some_and(|entry| entry.is_whole() && entry.is_verified())
    }

    fn largest_piece(&self) -> u64 {
        self.pieces.iter().map(Piece::source_bytes).max().unwrap()
    }
}

fn models() -> Vec<Model> {
    let gguf = |name: &str| FileEntry::Gguf(name.to_owned());
    vec![
        Model::open("a1-basic", FileEntry::Safetensors),
        Model::open("gguf", gguf("a2-ratios.bf16.gguf")),
    ]
}

#[test]
fn a_whole_model_is_loaded_from_storage_alone() {
    for model in models() {
        let disk = Disk::default();
        let (written, n_bytes) = model.load(&disk, Access::Write);
        assert!(written.unwrap() == model.right);
        assert_eq!(n_bytes, model.pieces.source_bytes());
        assert!(model.is_whole(&disk));
        for access in [Access::Read, Access::Write] {
            let (written, n_bytes) = model.load(&disk, access);
            assert!(written.unwrap() == model.right);
            assert_eq!(n_bytes, 0);
        }
    }
}

/// Writing stops at any byte, in the middle of a piece or a record; what was written stays.
#[test]
fn a_crash_at_any_moment_costs_no_more_than_the_pieces_in_flight() {
    let mut random = Random(1);
    for model in models() {
        let to_write = model.manifest.packed_bytes + 144 * model.pieces.len() as u64;
        for _ in 0..150 {
            let disk = Disk::default();
            disk.crashes.set(true);
            let mut n_bytes = 0;
            for _ in 0..1 + random.below(3) {
                disk.room.set(Some(random.below(to_write)));
                let (written, n_read) = model.load(&disk, Access::Write);
                n_bytes += n_read;
                if written.is_err() {
                    assert!(!model.is_whole(&disk));
                }
            }
            disk.room.set(None);
            let stored = pollster::block_on(Entry::read(&disk)).unwrap();
            let stored = stored.map_or(0, |entry| {
                entry.journal.stored().map(|noted| u64::from(noted.source_bytes)).sum()
            });
            let (written, n_read) = model.load(&disk, Access::Write);
            assert!(written.unwrap() == model.right);
            assert_eq!(
                n_read,
                model.pieces.source_bytes() - stored,
                "what is stored is not fetched"
            );
            assert!(model.is_whole(&disk));
            let lost = n_bytes + n_read - model.pieces.source_bytes();
            assert!(lost <= 3 * 4 * model.largest_piece(), "{lost} bytes were fetched twice");
        }
    }
}

#[test]
fn a_full_disk_says_what_is_needed_and_stored_and_the_next_load_goes_on() {
    let mut random = Random(2);
    for model in models() {
        for _ in 0..60 {
            let disk = Disk::default();
            let heads = model.heads.to_bytes().len() as u64 + 4096;
            disk.room.set(Some(heads + random.below(model.manifest.packed_bytes)));
            let (written, _) = model.load(&disk, Access::Write);
            let error = written.err().expect("there is no room");
            assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
            let entry = pollster::block_on(Entry::read(&disk)).unwrap().unwrap();
            let stored = entry.stored_bytes();
            assert_eq!(error.detail("stored"), Some(&stored.into()));
            let needed = model.manifest.packed_bytes - stored;
            assert_eq!(error.detail("needed"), Some(&needed.into()));
            disk.room.set(None);
            let (written, n_read) = model.load(&disk, Access::Write);
            assert!(written.unwrap() == model.right);
            assert!(n_read <= model.pieces.source_bytes() - entry.downloaded_bytes() + heads);
        }
    }
}

/// Any one bit of any stored file.
#[test]
fn a_flipped_bit_is_found_and_costs_one_piece() {
    let mut random = Random(3);
    for model in models() {
        let sound = Disk::default();
        model.load(&sound, Access::Write).0.unwrap();
        let total: usize = sound.files.borrow().values().map(Vec::len).sum();
        for round in 0..300 {
            let disk = Disk::default();
            disk.files.replace(sound.files.borrow().clone());
            let mut place = random.below(total as u64) as usize;
            // Small files are hit in turn, since few random places are in them.
            let small = [JOURNAL, MANIFESTS[0], MANIFESTS[1], "heads.bin"];
            let wanted = (round % 3 == 0).then(|| small[round / 3 % small.len()]);
            for (name, bytes) in disk.files.borrow_mut().iter_mut() {
                match wanted {
                    Some(wanted) if wanted != name => continue,
                    Some(_) => place %= bytes.len(),
                    None => {}
                }
                if place < bytes.len() {
                    bytes[place] ^= 1 << random.below(8);
                    break;
                }
                place -= bytes.len();
            }
            // A reader that cannot mend it says so, or was not touched.
            if model.is_whole(&disk) {
                match model.load(&disk, Access::Read).0 {
                    Ok(written) => assert!(written == model.right),
                    Err(error) => assert!(Reason::Damaged.is_of(&error), "{error}"),
                }
            }
            let (written, n_read) = model.load(&disk, Access::Write);
            assert!(written.unwrap() == model.right);
            assert!(n_read <= model.largest_piece(), "{n_read} bytes");
            assert!(model.is_whole(&disk));
            let entry = pollster::block_on(Entry::read(&disk)).unwrap().unwrap();
            assert_eq!(entry.n_damaged(), 0);
        }
    }
}

#[test]
fn wrong_bytes_are_refused_and_the_file_is_fetched_again() {
    let mut random = Random(4);
    for model in models() {
        for _ in 0..40 {
            let disk = Disk::default();
            let file = &model.pieces.files()[0].pieces;
            let start = model.pieces.get(file.start).source.start;
            let end = model.pieces.get(file.end - 1).source.end;
            model.wrong.set(Some(start + random.below(end - start)));
            let error = model.load(&disk, Access::Write).0.err().expect("the file is not right");
            assert_eq!(error.kind(), ErrorKind::InvalidModel);
            assert!(error.detail("expected").is_some() && error.detail("found").is_some());
            assert!(!model.is_whole(&disk));
            model.wrong.set(None);
            assert!(model.load(&disk, Access::Write).0.unwrap() == model.right);
            assert!(model.is_whole(&disk));
        }
    }
}

#[test]
fn a_piece_that_comes_back_as_another_is_not_stored() {
    for model in models() {
        let disk = Disk::default();
        model.load(&disk, Access::Write).0.unwrap();
        let piece = model.pieces.get(0);
        disk.files.borrow_mut().get_mut("shard-0000.bin").unwrap()[5] ^= 1;
        // In the middle of the piece's rows: its beginning may be padding.
        model.wrong.set(Some((piece.source.start + piece.source.end) / 2));
        let error = model.load(&disk, Access::Write).0.err().expect("the piece is not right");
        assert!(Reason::Changed.is_of(&error), "{error}");
        model.wrong.set(None);
        let (written, n_read) = model.load(&disk, Access::Write);
        assert!(written.unwrap() == model.right);
        assert_eq!(n_read, piece.source_bytes());
    }
}

#[test]
fn what_is_missing_is_fetched_without_reading_the_rest() {
    let model = Model::open("a1-basic", FileEntry::Safetensors);
    let disk = Disk::default();
    model.load(&disk, Access::Write).0.unwrap();
    disk.files.borrow_mut().get_mut("shard-0000.bin").unwrap()[5] ^= 1;
    let n_fetched = pollster::block_on(async {
        let entry = Entry::read(&disk).await.unwrap().unwrap();
        let host = Rc::new(Still);
        let mut store =
            Store::open(&disk, entry, &model.pieces, Access::Write, host).await.unwrap();
        let mut packed = vec![0; model.pieces.get(0).packed_bytes];
        assert!(!store.check(0, &mut packed).await.unwrap());
        store.forget(0).unwrap();
        let mut n_fetched = 0;
        let mut progress = |loaded: Loaded| {
            assert_eq!(loaded, Loaded { piece: 0, was_kept: false });
            n_fetched += 1;
            Ok(())
        };
        let (table, pieces) = (&model.plan.weights, &model.pieces);
        fetch_missing(&model.sources, table, pieces, &mut store, &mut progress).await.unwrap();
        assert!(store.has(0) && store.check(0, &mut packed).await.unwrap());
        n_fetched
    });
    assert_eq!(n_fetched, 1);
    assert!(model.is_whole(&disk));
}

/// Whatever is in the files, there is an answer.
#[test]
fn hostile_folders_are_no_models_or_are_mended() {
    let mut random = Random(5);
    let model = Model::open("a1-basic", FileEntry::Safetensors);
    let sound = Disk::default();
    model.load(&sound, Access::Write).0.unwrap();
    for _ in 0..200 {
        let disk = Disk::default();
        disk.files.replace(sound.files.borrow().clone());
        for _ in 0..1 + random.below(3) {
            let mut files = disk.files.borrow_mut();
            let names: Vec<_> = files.keys().cloned().collect();
            let name = &names[random.below(names.len() as u64) as usize];
            let len = files[name].len() as u64;
            match random.below(4) {
                0 => drop(files.remove(name)),
                1 => files.get_mut(name).unwrap().truncate(random.below(len) as usize),
                2 => files.get_mut(name).unwrap().fill(random.below(256) as u8),
                _ => {
                    let start = random.below(len) as usize;
                    let bytes = files.get_mut(name).unwrap();
                    bytes[start..].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
                }
            }
        }
        assert!(model.load(&disk, Access::Write).0.unwrap() == model.right);
        assert!(model.is_whole(&disk));
    }
}
