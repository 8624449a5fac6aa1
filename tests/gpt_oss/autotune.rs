//! Sizes of kernels found by trial, where a software adapter computes as real ones do.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Instant,
};

use pesi::{
    Error,
    engine::{DeviceKind, Engine, Outputs},
    error::ErrorKind,
    gpu::{GpuEngine, Sizes, context::AdapterHints},
    session::{Host, tune},
    source::LocalFuture,
    store::{Access, StorageFile, StorageFolder},
    weights::Precision,
};

use super::model::{Golden, devices, engine, folder, nmse};

const MODEL: &str = "a1-basic";

fn open(device: &DeviceKind) -> Box<dyn Engine> {
    engine(&folder(MODEL), device, Precision::Exact)
}

fn sized_for_hardware() -> Box<dyn Engine> {
    open(&DeviceKind::Gpu(AdapterHints { software: Some(false), ..Default::default() }))
}

/// How far the logits after the longest prompt, of which the last tokens are computed one by one, are from the golden's.
/// Its keys are more than the smallest split has.
fn error(engine: &mut dyn Engine) -> f64 {
    let golden = Golden::read(&folder(&format!("{MODEL}/golden.safetensors")));
    let prompts = (0..5).map(|prompt| (prompt, golden.ids(&format!("p{prompt}.ids"))));
    let (prompt, tokens) = prompts.max_by_key(|(_, tokens)| tokens.len()).unwrap();
    assert!(tokens.len() > 68, "{}", tokens.len());
    let (together, alone) = tokens.split_at(tokens.len() - 4);
    pollster::block_on(async {
        for (index, chunk) in together.chunks(engine.max_chunk()).enumerate() {
            engine.extend(chunk, index * engine.max_chunk(), Outputs::All).await.unwrap();
        }
        for (index, token) in alone.iter().enumerate() {
            engine.extend(&[*token], together.len() + index, Outputs::All).await.unwrap();
        }
        let found = engine.logits().await.unwrap();
        let [whole, last] = ["logits", "logits_last"].map(|name| format!("p{prompt}.{name}"));
        let expected = golden.floats(if golden.has(&whole) { &whole } else { &last });
        nmse(&found, &expected[expected.len() - found.len()..])
    })
}

#[test]
fn every_size_that_a_trial_may_choose_gives_the_same_logits() {
    let mut engine = sized_for_hardware();
    let known = |engine: &mut dyn Engine| engine.gpu().unwrap().sizes();
    let usual = known(engine.as_mut());
    let smallest = Sizes {
        matvec_lanes: 4,
        matvec_rows: 2,
        expert_gates: 1,
        busy_threads: 16_384,
        split_keys: 64,
    };
    let largest = Sizes {
        matvec_lanes: 64,
        matvec_rows: 8,
        expert_gates: 4,
        busy_threads: 262_144,
        split_keys: 512,
    };
    for sizes in [usual, smallest, largest] {
        assert!(sizes.are_known());
        pollster::block_on(engine.gpu().unwrap().set_sizes(sizes)).unwrap();
        assert_eq!(known(engine.as_mut()), sizes);
        let error = error(engine.as_mut());
        assert!(error <= 1e-4, "{sizes:?}: {error:.2e}");
    }
}

#[test]
fn sizes_that_no_trial_chooses_are_not_known() {
    let usual = sized_for_hardware().gpu().map(|gpu: &mut GpuEngine| gpu.sizes()).unwrap();
    for sizes in [
        Sizes { matvec_lanes: 3, ..usual },
        Sizes { matvec_rows: 0, ..usual },
        Sizes { expert_gates: u32::MAX, ..usual },
        Sizes { busy_threads: 1, ..usual },
        Sizes { split_keys: 0, ..usual },
    ] {
        assert!(!sizes.are_known(), "{sizes:?}");
    }
}

/// A folder in memory.
#[derive(Default)]
struct Shelf {
    files: Rc<RefCell<HashMap<String, Vec<u8>>>>,
    is_full: bool,
}

struct ShelfFile {
    files: Rc<RefCell<HashMap<String, Vec<u8>>>>,
    name: String,
    is_full: bool,
}

impl StorageFolder for Shelf {
    fn read_all<'a>(&'a self, name: &'a str) -> LocalFuture<'a, pesi::Result<Option<Vec<u8>>>> {
        Box::pin(async { Ok(self.files.borrow().get(name).cloned()) })
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        _: Access,
    ) -> LocalFuture<'a, pesi::Result<Option<Box<dyn StorageFile>>>> {
        let (files, name) = (self.files.clone(), name.to_owned());
        let file: Box<dyn StorageFile> = Box::new(ShelfFile { files, name, is_full: self.is_full });
        Box::pin(async { Ok(Some(file)) })
    }

    fn clear(&self) -> LocalFuture<'_, pesi::Result<()>> {
        unreachable!("tunings stay")
    }
}

impl StorageFile for ShelfFile {
    fn read(&self, _: u64, _: &mut [u8]) -> pesi::Result<usize> {
        unreachable!("tunings are read as a whole")
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> pesi::Result<()> {
        if self.is_full {
            return Err(Error::new(ErrorKind::QuotaExceeded, "the shelf is full"));
        }
        let mut files = self.files.borrow_mut();
        let file = files.entry(self.name.clone()).or_default();
        let end = offset as usize + bytes.len();
        file.resize(end.max(file.len()), 0);
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> pesi::Result<()> {
        Ok(())
    }
}

/// A host with a clock that counts how often it is read.
struct Clock(Instant, Cell<u32>);

impl Clock {
    fn new() -> Self {
        Self(Instant::now(), Cell::new(0))
    }
}

impl Host for Clock {
    fn now(&self) -> f64 {
        self.1.set(self.1.get() + 1);
        self.0.elapsed().as_secs_f64() * 1e3
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Tunes with what is on `shelf`; tells the sizes that are used then, and whether they took a trial.
fn tuned(engine: &mut dyn Engine, shelf: &Shelf) -> (Sizes, bool) {
    let clock = Clock::new();
    pollster::block_on(tune(engine, shelf, &clock)).unwrap();
    (engine.gpu().unwrap().sizes(), clock.1.get() > 0)
}

#[test]
fn a_trial_is_made_once_and_leaves_a_model_that_computes_the_same() {
    let mut engine = sized_for_hardware();
    assert!(engine.gpu().unwrap().is_tunable());
    let shelf = Shelf::default();
    let (found, was_tried) = tuned(engine.as_mut(), &shelf);
    assert!(was_tried && found.are_known(), "{found:?}");
    let error = error(engine.as_mut());
    assert!(error <= 1e-4, "{found:?}: {error:.2e}");
    assert_eq!(shelf.files.borrow().len(), 1);

    // What is kept is taken, by another engine too, unless it is no size that a trial chooses.
    let [name] = shelf.files.borrow().keys().cloned().collect::<Vec<_>>().try_into().unwrap();
    let keep = |text: &str| shelf.files.borrow_mut().insert(name.clone(), text.into());
    let kept = r#"{"matvec_lanes":8,"matvec_rows":2,"busy_threads":32768,"expert_gates":4,"split_keys":64}"#;
    keep(kept);
    let mut other = sized_for_hardware();
    let (taken, was_tried) = tuned(other.as_mut(), &shelf);
    assert!(!was_tried);
    assert_eq!(serde_json::to_string(&taken).unwrap(), kept);
    for damaged in [kept.replace(":8", ":7"), "{".repeat(200), String::new()] {
        keep(&damaged);
        assert!(tuned(other.as_mut(), &shelf).1, "{damaged}");
        assert!(!tuned(other.as_mut(), &shelf).1, "after {damaged}");
    }
}

#[test]
fn a_trial_that_cannot_be_kept_counts_all_the_same() {
    let shelf = Shelf { is_full: true, ..Default::default() };
    assert!(tuned(sized_for_hardware().as_mut(), &shelf).1);
}

#[test]
fn sizes_for_software_adapters_are_not_tried() {
    let mut engine = open(&devices()[1]);
    let before = engine.gpu().unwrap().sizes();
    assert!(!engine.gpu().unwrap().is_tunable());
    let shelf = Shelf::default();
    assert_eq!(tuned(engine.as_mut(), &shelf), (before, false));
    assert!(shelf.files.borrow().is_empty());
}
