//! `bench` and `forecast`: medians of some runs, and what is known ahead of any, as one JSON object.

use pesi::{
    Error, Result,
    forecast::{Forecast, forecast as foretell},
    gpu::profile::KernelTime,
    sampler::SamplingParams,
    session::{Guessing, Host, Request, Session, Summary},
};
use serde_json::{Value, json};

use crate::{
    BenchArgs, ModelArgs,
    commands::print,
    open::{NativeHost, context_length, describe, open},
};

pub async fn bench(args: BenchArgs) -> Result<()> {
    let host = NativeHost::new();
    let loaded = open(&args.model, &host).await?;
    let mut session = loaded.session;
    if let Some(position) = args.position.filter(|position| *position >= session.context_length) {
        return Err(Error::argument("the position is beyond the context length")
            .with("found", position)
            .with("limit", session.context_length));
    }
    let mut sizes = None;
    if args.tune
        && let Some(engine) = session.engine().gpu()
        && engine.is_tunable()
    {
        sizes = Some(engine.tune(&|| host.now()).await?);
    }
    if args.lookup {
        return lookup(&args, &mut session, &host).await;
    }
    // Steps of one token are measured.
    session.guessing = Guessing::Never;
    let n_vocab = session.config().n_vocab;
    let request = Request {
        // Any tokens do: the work is the same.
        tokens: (0..args.prompt.max(1)).map(|i| (i * 7919 % n_vocab) as u32).collect(),
        ..request(&args)
    };
    let mut runs: Vec<Summary> = Vec::new();
    for _ in 0..args.rounds.max(1) {
        runs.push(session.generate(&request, &host, &|| false, &mut |_| Ok(())).await?);
    }
    let first_token_ms = median(&runs, |run| run.first_token_ms);
    let decode_rate = median(&runs, decode_rate);
    let token_bytes = loaded.weight_bytes_per_token as f64;
    let weight_rate = decode_rate * token_bytes;
    let mut object = json!({
        "model": args.model.model,
        "device": args.model.device.name(),
        "device_name": session.device_name(),
        "rounds": runs.len(),
        "load_ms": loaded.load_ms,
        "prompt_tokens": request.tokens.len(),
        "first_token_ms": first_token_ms,
        "prefill_tokens_per_second": request.tokens.len() as f64 / (first_token_ms / 1e3),
        "generated_tokens": runs[0].completion_tokens,
        "decode_tokens_per_second": decode_rate,
        "weight_bytes_per_token": loaded.weight_bytes_per_token,
        "weight_gigabytes_per_second": weight_rate / 1e9,
        "weights_bytes": loaded.memory.weights,
        "caches_bytes": loaded.memory.caches,
        "scratch_bytes": loaded.memory.scratch,
    });
    if let Some(engine) = session.engine().gpu() {
        let profile = engine.profile(args.position.unwrap_or(args.prompt)).await?;
        let [kernels, chunk_kernels] = [&profile.kernels, &profile.chunk_kernels]
            .map(|kernels| kernels.iter().map(kernel).collect::<Vec<_>>());
        let measured = json!({
            "dispatches_per_token": profile.n_dispatches,
            "sizes": sizes,
            "copy_gigabytes_per_second": profile.copied_per_second / 1e9,
            "read_gigabytes_per_second": profile.read_per_second / 1e9,
            "share_of_copy_bandwidth": weight_rate / profile.copied_per_second,
            "share_of_read_bandwidth": weight_rate / profile.read_per_second,
            "kernels": kernels,
            "chunk": profile.chunk,
            "chunk_kernels": chunk_kernels,
        });
        if let (Value::Object(object), Value::Object(measured)) = (&mut object, measured) {
            object.extend(measured);
        }
    }
    print(&format!("{object}\n"))
}

/// A request for as many tokens as `args` say.
fn request(args: &BenchArgs) -> Request {
    Request { max_tokens: Some(args.generate.max(2)), ignore_eos: true, ..Default::default() }
}

fn decode_rate(run: &Summary) -> f64 {
    (run.completion_tokens - 1) as f64 / (run.decode_ms / 1e3)
}

fn median(runs: &[Summary], value: impl Fn(&Summary) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const STORY: &str = "Peter lived in a small house at the edge of the forest. Every morning Peter walked \
    down to the river to fetch water, and every evening Peter sat by the fire and read old books about \
    the sea. One day Peter found a letter under the door. It said that a ship would come in the spring \
    and take Peter to an island that nobody had seen before. Peter packed a bag, closed the windows of \
    the house, and went to the harbour to wait. The harbour was empty but for one grey cat.";

/// Decoding with what is looked up and without, in turn.
async fn lookup(args: &BenchArgs, session: &mut Session, host: &NativeHost) -> Result<()> {
    let edited = format!("{STORY}\n\nThe same story with Anna in place of Peter:\n\nAnna lived");
    let made_up = "Once upon a time".to_owned();
    for (name, prompt, temperature) in
        [("edited", &edited, 0.0), ("made up", &made_up, 0.0), ("drawn", &made_up, 1.0)]
    {
        let tokens = session.description.prompt_tokens(prompt)?;
        let sampling = SamplingParams { temperature, ..SamplingParams::default() };
        let request = Request { tokens, sampling, ..request(args) };
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..args.rounds.max(1) {
            for (guessing, runs) in
                [Guessing::Never, Guessing::WherePays].into_iter().zip(&mut runs)
            {
                session.guessing = guessing;
                runs.push(session.generate(&request, host, &|| false, &mut |_| Ok(())).await?);
            }
        }
        let [without, with] = runs.each_ref().map(|runs| median(runs, decode_rate));
        let object = json!({
            "text": name,
            "decode_tokens_per_second": with,
            "without_lookup": without,
            "ratio": with / without,
            "guessed_tokens": median(&runs[1], |run| run.guessed_tokens as f64),
            "accepted_tokens": median(&runs[1], |run| run.accepted_tokens as f64),
        });
        print(&format!("{object}\n"))?;
    }
    Ok(())
}

fn kernel(kernel: &KernelTime) -> Value {
    json!({
        "name": kernel.name,
        "dispatches": kernel.n_dispatches,
        "microseconds": kernel.microseconds,
    })
}

pub async fn forecast(args: ModelArgs) -> Result<()> {
    let description = describe(&args.model).await?.description;
    let plan = description.plan(args.precision.into())?.with_cache_numbers(args.kv_cache.into());
    let asked = context_length(&args, &description)?;
    let longest = description.config.context_length;
    let host = NativeHost::new();
    let Forecast { memory, context_length, largest_context, refusal, tokens_per_second } =
        foretell(&args.device.kind(), &plan, asked, longest, &host).await?;
    let object = json!({
        "model": args.model,
        "device": args.device.name(),
        "context_length": context_length,
        "weights_bytes": memory.map(|memory| memory.weights),
        "caches_bytes": memory.map(|memory| memory.caches),
        "scratch_bytes": memory.map(|memory| memory.scratch),
        "largest_context": largest_context,
        "refusal": refusal.map(|refusal| refusal.to_string()),
        "decode_tokens_per_second": tokens_per_second,
        "forecast_ms": host.now(),
    });
    print(&format!("{object}\n"))
}
