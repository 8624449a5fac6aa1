//! The command-line program: runs, measures, inspects and makes up models natively.

mod bench;
mod commands;
mod open;
mod synth;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use pesi::{ops::CacheNumbers, weights::Precision};

/// Runs open-weight language models on this machine.
#[derive(Parser)]
#[command(name = "pesi", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate text after a prompt.
    Generate(GenerateArgs),
    /// Write the logits after each of some tokens.
    Logits(LogitsArgs),
    /// Measure loading, prefill and decode; prints one JSON object.
    Bench(BenchArgs),
    /// Tell what loading would take and how fast decoding would be; prints one JSON object.
    Forecast(ModelArgs),
    /// Show what a model file holds.
    Inspect(InspectArgs),
    /// Write a model of published shapes with random weights.
    Synth(synth::SynthArgs),
    /// Print every shader variant as a browser gets it, as JSON lines.
    Shaders,
}

/// Which model, and where it runs.
#[derive(Args)]
struct ModelArgs {
    /// A .gguf file, the first one of a split set, or a folder with config.json and safetensors.
    #[arg(long)]
    model: PathBuf,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "gpu")]
    device: Device,
    /// How dense 16-bit matrices are held.
    #[arg(long, value_enum, default_value = "compact")]
    precision: PrecisionArg,
    /// What keys and values are held as: floats, or 8-bit integers in half the memory.
    #[arg(long, value_enum, default_value = "full")]
    kv_cache: KvCacheArg,
    /// Positions to make room for; the model's own context, at most 4096, when absent.
    #[arg(long)]
    context_length: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    Gpu,
    Cpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Compact,
    Exact,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Compact => Self::Compact,
            PrecisionArg::Exact => Self::Exact,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum KvCacheArg {
    Full,
    Int8,
}

impl From<KvCacheArg> for CacheNumbers {
    fn from(numbers: KvCacheArg) -> Self {
        match numbers {
            KvCacheArg::Full => Self::Full,
            KvCacheArg::Int8 => Self::Int8,
        }
    }
}

#[derive(Args)]
struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue; special tokens in it are recognised.
    #[arg(long, conflicts_with_all = ["tokens", "chat"])]
    prompt: Option<String>,
    /// A message to answer, put into the model's chat format.
    #[arg(long, conflicts_with = "tokens")]
    chat: Option<String>,
    /// How much to think before answering with --chat: low, medium or high.
    #[arg(long, requires = "chat")]
    effort: Option<String>,
    /// Token ids to continue.
    #[arg(long, value_delimiter = ',')]
    tokens: Vec<u32>,
    /// Most tokens to generate.
    #[arg(long)]
    max_tokens: Option<usize>,
    /// 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Draw from the likeliest tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draw from this many likeliest tokens; 0 means all.
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Draw from tokens with at least this fraction of the likeliest one's probability.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Treat tokens that end a turn like any other.
    #[arg(long)]
    ignore_eos: bool,
    /// Print one JSON object with tokens and text.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids.
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// A .safetensors file to write: "logits" [n, vocab] f32.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Tokens to generate.
    #[arg(long = "gen", default_value_t = 128)]
    generate: usize,
    /// Position at which the kernels of a decoded token are measured; the end of the prompt when absent.
    #[arg(long)]
    position: Option<usize>,
    /// Runs, of which the medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Try sizes of kernels for one token first, and take the fastest.
    #[arg(long)]
    tune: bool,
    /// Measure instead what looking tokens up in the prompt is worth, for a text that is edited and one
    /// that is made up.
    #[arg(long)]
    lookup: bool,
}

#[derive(Args)]
struct InspectArgs {
    /// A .gguf file, the first one of a split set, or a folder with config.json and safetensors.
    #[arg(long)]
    model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = pollster::block_on(async {
        match cli.command {
            Command::Generate(args) => commands::generate(args).await,
            Command::Logits(args) => commands::logits(args).await,
            Command::Bench(args) => bench::bench(args).await,
            Command::Forecast(args) => bench::forecast(args).await,
            Command::Inspect(args) => commands::inspect(args).await,
            Command::Synth(args) => synth::synth(&args),
            Command::Shaders => commands::shaders(),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pesi: {}: {error}", error.kind().as_str());
            ExitCode::FAILURE
        }
    }
}
