//! `generate`, `logits` and `inspect`.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use pesi::{
    Error, ErrorKind, Result,
    chat::{
        ChatFormat,
        harmony::{ChatRequest, MessageKind},
    },
    gpu::{
        context::Capabilities,
        ops::{Target, variants},
        shader::Dialect,
        tuning::Tuning,
    },
    sampler::SamplingParams,
    session::{Demands, FinishReason, Opened, Request, Session},
    weights::Precision,
};
use serde_json::json;

use crate::{
    GenerateArgs, InspectArgs, LogitsArgs,
    open::{NativeHost, describe, open},
};

pub async fn generate(args: GenerateArgs) -> Result<()> {
    let host = NativeHost::new();
    let mut session = open(&args.model, &host).await?.session;
    let tokens = prompt_tokens(&args, &session)?;
    let request = Request {
        tokens,
        max_tokens: args.max_tokens,
        sampling: SamplingParams {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            seed: args.seed,
            ..Default::default()
        },
        stop: Vec::new(),
        ignore_eos: args.ignore_eos,
        reuse_prefix: false,
        chat: args.chat.is_some(),
        demands: Demands::default(),
    };
    let (mut tokens, mut text, mut reasoning) = (Vec::new(), String::new(), String::new());
    let summary = session
        .generate(&request, &host, &|| false, &mut |events| {
            for event in events {
                tokens.push(event.token);
                for piece in [&event.piece].into_iter().chain(&event.further) {
                    let message = piece.message.as_ref();
                    let is_thought = message
                        .is_some_and(|message| message.header.kind() == MessageKind::Analysis);
                    if is_thought {
                        reasoning.push_str(&piece.text);
                    } else {
                        text.push_str(&piece.text);
                    }
                    match (args.json, is_thought) {
                        (true, _) => {}
                        (false, true) => eprint!("{}", piece.text),
                        (false, false) => print(&piece.text)?,
                    }
                }
            }
            Ok(())
        })
        .await?;
    if !args.json {
        return print("\n");
    }
    let finish_reason = match summary.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    };
    let seconds = summary.decode_ms / 1e3;
    let object = json!({
        "text": text,
        "reasoning": reasoning,
        "tokens": tokens,
        "finish_reason": finish_reason,
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "first_token_ms": summary.first_token_ms,
        "decode_tokens_per_second":
            (seconds > 0.0).then(|| (summary.completion_tokens - 1) as f64 / seconds),
    });
    print(&format!("{object}\n"))
}

fn prompt_tokens(args: &GenerateArgs, session: &Session) -> Result<Vec<u32>> {
    match (&args.prompt, &args.chat) {
        (Some(prompt), _) => session.description.prompt_tokens(prompt),
        (None, Some(message)) => {
            let chat = session
                .chat()
                .ok_or_else(|| Error::unsupported("the model is not made for conversations"))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            chat.render(
                session.tokenizer(),
                &ChatRequest {
                    messages: json!([{ "role": "user", "content": message }]),
                    tools: None,
                    response_format: None,
                    reasoning_effort: args.effort.clone(),
                    now: now.as_secs() as i64,
                },
            )
        }
        (None, None) if args.tokens.is_empty() => {
            Err(Error::argument("one of --prompt, --chat and --tokens is needed"))
        }
        (None, None) => Ok(args.tokens.clone()),
    }
}

pub async fn logits(args: LogitsArgs) -> Result<()> {
    let host = NativeHost::new();
    let mut session = open(&args.model, &host).await?.session;
    let logits = session.logits(&args.tokens, &host, &|| false).await?;
    let shape = vec![args.tokens.len(), session.config().n_vocab];
    let view = safetensors::tensor::TensorView::new(
        safetensors::Dtype::F32,
        shape,
        bytemuck::cast_slice(&logits),
    );
    view.and_then(|view| safetensors::serialize([("logits", view)], None))
        .map_err(|error| Error::argument(format!("cannot serialise the logits: {error}")))
        .and_then(|bytes| {
            fs::write(&args.out, bytes).map_err(|error| storage("cannot write", &error))
        })
}

pub async fn inspect(args: InspectArgs) -> Result<()> {
    let Opened { description, heads, sources } = describe(&args.model).await?;
    let config = &description.config;
    let mut types: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (_, tensor) in description.tensors.iter() {
        let entry = types.entry(tensor.dtype.name()).or_default();
        *entry = (entry.0 + 1, entry.1 + tensor.n_bytes);
    }
    let plan = description.plan(Precision::Compact)?;
    let object = json!({
        "files": sources.len(),
        "bytes": sources.iter().map(|source| source.len()).sum::<u64>(),
        "head_bytes": heads.len(),
        "architecture": config.architecture.name(),
        "name": config.name,
        "parameters": plan.weights.n_elements(),
        "packed_bytes": plan.weights.packed_bytes(),
        "n_layers": config.n_layers,
        "n_embd": config.n_embd,
        "n_ffn": config.n_ffn,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "n_vocab": config.n_vocab,
        "sliding_window": config.sliding.as_ref().map(|sliding| sliding.size),
        "n_experts": config.experts.map(|experts| experts.n_experts),
        "n_experts_used": config.experts.map(|experts| experts.n_used),
        "context_length": config.context_length,
        "chat_format": description.chat.as_ref().map(ChatFormat::name),
        "stop_tokens": description.tokenizer.stop_ids(),
        "tensor_types": types.into_iter().map(|(name, (n_tensors, n_bytes))| {
            (name.to_owned(), json!({ "tensors": n_tensors, "bytes": n_bytes }))
        }).collect::<serde_json::Map<_, _>>(),
    });
    print(&format!("{object:#}\n"))?;
    if args.tensors {
        for (file, tensor) in description.tensors.iter() {
            print(&format!(
                "{file:>3} {:>14} {:>12} {:<6} {:?} {}\n",
                tensor.offset,
                tensor.n_bytes,
                tensor.dtype.name(),
                tensor.shape,
                tensor.name
            ))?;
        }
    }
    Ok(())
}

/// Walks the variants for both tunings, with and without each capability.
pub fn shaders() -> Result<()> {
    let mut seen = HashSet::new();
    for (software, f16, subgroup) in [false, true]
        .into_iter()
        .flat_map(|software| [(software, false), (software, true)])
        .flat_map(|(software, f16)| {
            let subgroup = if software { 4 } else { 32 };
            [(software, f16, None), (software, f16, Some(subgroup))]
        })
    {
        let capabilities = Capabilities {
            name: String::new(),
            software,
            f16,
            subgroup,
            half_subnormals: f16,
            max_workgroup_bytes: 16_384,
            max_binding: u64::MAX,
        };
        let tuning = Tuning::for_adapter(&capabilities);
        for variant in variants(&Target { capabilities: &capabilities, tuning: &tuning }) {
            let source = variant.source(Dialect { for_browser: true, stores_parameters: software });
            if seen.insert(source.clone()) {
                let object = json!({
                    "label": variant.label(),
                    "f16": source.contains("enable f16;"),
                    "subgroups": source.contains("enable subgroups;"),
                    "source": source,
                });
                print(&format!("{object}\n"))?;
            }
        }
    }
    Ok(())
}

/// Writes to standard output at once; a closed pipe is an error, not a panic.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| storage("cannot write to standard output", &error))
}

fn storage(what: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("{what}: {error}"))
}
