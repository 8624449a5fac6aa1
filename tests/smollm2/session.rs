//! Generations over time: seeds, prefix reuse, stopping, cancelling, disposing.

use std::cell::Cell;

use pesi::{
    ErrorKind,
    chat::harmony::MessageKind,
    engine::DeviceKind,
    gpu::{
        GpuEngine,
        context::{AdapterHints, Context},
    },
    sampler::SamplingParams,
    session::{FinishReason, Request, Session, Summary, TokenEvent},
};

use super::model::{TestHost, describe, devices, open};

const PROMPT: &str = "<|im_start|>user\nCount from one to ten.<|im_end|>\n<|im_start|>assistant\n";

/// A request for what follows a text, of which what was computed before is used.
pub fn request(session: &Session, text: &str, max_tokens: usize) -> Request {
    Request {
        tokens: session.tokenizer().encode(text).unwrap(),
        max_tokens: Some(max_tokens),
        reuse_prefix: true,
        ..Default::default()
    }
}

/// The answer, and what is told of it.
pub fn run(session: &mut Session, request: &Request) -> pesi::Result<(Vec<TokenEvent>, Summary)> {
    let mut events = Vec::new();
    let host = TestHost::new();
    let mut take = |batch: &[TokenEvent]| {
        events.extend_from_slice(batch);
        Ok(())
    };
    let summary = pollster::block_on(session.generate(request, &host, &|| false, &mut take))?;
    Ok((events, summary))
}

fn ids(events: &[TokenEvent]) -> Vec<u32> {
    events.iter().map(|event| event.token).collect()
}

pub fn text(events: &[TokenEvent]) -> String {
    events.iter().map(|event| event.piece.text.as_str()).collect()
}

#[test]
fn a_seed_repeats_its_tokens_and_another_does_not() {
    for device in devices() {
        let mut session = open(&device, 128);
        let mut request = request(&session, PROMPT, 16);
        request.sampling = SamplingParams {
            temperature: 1.2,
            top_p: 0.95,
            top_k: 50,
            seed: 42,
            ..Default::default()
        };
        let (first, _) = run(&mut session, &request).unwrap();
        let (second, summary) = run(&mut session, &request).unwrap();
        assert_eq!(ids(&first), ids(&second), "{device:?}");
        assert_eq!(summary.cached_tokens, request.tokens.len() - 1, "{device:?}");
        request.sampling.seed = 43;
        let (other, _) = run(&mut session, &request).unwrap();
        assert_ne!(ids(&first), ids(&other), "{device:?}");
    }
}

/// Two conversations take turns; each gives the tokens that it gives alone, and is not computed anew.
#[test]
fn conversations_that_take_turns_each_keep_their_place() {
    let prompts = [
        "<|im_start|>user\nName the planets of the solar system, one after the other, from the sun \
         outwards, and say one thing about each of them.<|im_end|>\n<|im_start|>assistant\n",
        "Once upon a time there was a lighthouse at the end of the world, and in it lived a man who had \
         never seen a ship, though he lit the lamp every night for those that might come.",
    ];
    let more = ["<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n", " Then"];
    for device in devices() {
        let mut session = open(&device, 256);
        let alone: Vec<_> = prompts
            .iter()
            .zip(more)
            .map(|(prompt, more)| {
                let first = request(&session, prompt, 8);
                let (answer, _) = run(&mut session, &first).unwrap();
                let mut second = request(&session, more, 8);
                second.tokens.splice(0..0, first.tokens.iter().copied().chain(ids(&answer)));
                second.reuse_prefix = false;
                let (next, _) = run(&mut session, &second).unwrap();
                (first, ids(&answer), second, ids(&next))
            })
            .collect();

        let mut session = open(&device, 256);
        for (first, answer, ..) in &alone {
            assert_eq!(ids(&run(&mut session, first).unwrap().0), *answer, "{device:?}");
        }
        for (first, _, second, next) in &alone {
            let second = Request { reuse_prefix: true, ..second.clone() };
            let (events, summary) = run(&mut session, &second).unwrap();
            assert_eq!(ids(&events), *next, "{device:?}");
            assert!(summary.cached_tokens >= first.tokens.len(), "{device:?}");
        }
        let bytes = session.memory().total();
        assert!(session.dispose() >= bytes);
    }
}

#[test]
fn a_second_turn_computes_only_what_is_new() {
    for device in devices() {
        let mut session = open(&device, 256);
        let first = request(&session, PROMPT, 12);
        let (answer, _) = run(&mut session, &first).unwrap();
        let turn = format!(
            "{PROMPT}{}<|im_end|>\n<|im_start|>user\nAnd back.<|im_end|>\n<|im_start|>assistant\n",
            text(&answer)
        );
        let mut second = request(&session, &turn, 12);
        let (reused, summary) = run(&mut session, &second).unwrap();
        let n_known = first.tokens.len() + answer.len() - 1;
        assert!(
            summary.cached_tokens >= n_known,
            "{device:?}: {} of {n_known} reused",
            summary.cached_tokens
        );
        second.reuse_prefix = false;
        let (fresh, summary) = run(&mut session, &second).unwrap();
        assert_eq!(summary.cached_tokens, 0);
        assert_eq!(ids(&reused), ids(&fresh), "{device:?}");
    }
}

#[test]
fn an_answer_in_a_chat_is_one_message_and_what_goes_on_with_thoughts_another() {
    let mut session = open(&DeviceKind::Cpu, 128);
    let plain = request(&session, PROMPT, 16);
    let (expected, _) = run(&mut session, &plain).unwrap();
    assert!(expected.iter().all(|event| event.piece.message.is_none()));
    for (prompt, kind) in [
        (PROMPT.to_owned(), MessageKind::Final),
        (format!("{PROMPT}<think>\n"), MessageKind::Analysis),
    ] {
        let chat = Request { chat: true, ..request(&session, &prompt, 16) };
        let (events, _) = run(&mut session, &chat).unwrap();
        assert!(events.iter().all(|event| event.further.is_empty()));
        let messages = events.iter().filter_map(|event| event.piece.message.as_deref());
        let kinds: Vec<_> =
            messages.map(|message| (message.index, message.header.kind())).collect();
        assert!(!kinds.is_empty() && kinds.iter().all(|found| *found == (0, kind)), "{kinds:?}");
        if kind == MessageKind::Final {
            assert_eq!((ids(&events), text(&events)), (ids(&expected), text(&expected)));
        }
    }
}

#[test]
fn generation_stops_before_a_stop_string() {
    let mut session = open(&DeviceKind::Cpu, 128);
    let mut request = request(&session, PROMPT, 40);
    let (all, _) = run(&mut session, &request).unwrap();
    let all = text(&all);
    let stop: String = all.chars().skip(10).take(6).collect();
    request.stop = vec![stop.clone()];
    let (events, summary) = run(&mut session, &request).unwrap();
    assert_eq!(text(&events), all[..all.find(&stop).unwrap()]);
    assert_eq!(summary.finish_reason, FinishReason::Stop);
}

#[test]
fn the_context_ends_a_generation() {
    for device in devices() {
        let mut session = open(&device, 32);
        let mut long = request(&session, PROMPT, 100);
        long.ignore_eos = true;
        let n_prompt = long.tokens.len();
        let (events, summary) = run(&mut session, &long).unwrap();
        assert_eq!(events.len(), 32 - n_prompt + 1, "{device:?}");
        assert_eq!(summary.finish_reason, FinishReason::Length);
        long.tokens = vec![1; 33];
        let error = run(&mut session, &long).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ContextExceeded);
        assert_eq!(
            error.to_string(),
            "the prompt is longer than the context (needed: 33, limit: 32)"
        );
        long.tokens = vec![49_152];
        assert_eq!(run(&mut session, &long).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn an_abort_takes_effect_within_a_chunk_and_leaves_a_working_model() {
    for device in devices() {
        let mut session = open(&device, 512);
        let host = TestHost::new();
        let long = request(&session, &PROMPT.repeat(20), 4);
        let n_checks = Cell::new(0);
        let aborted = || {
            n_checks.set(n_checks.get() + 1);
            n_checks.get() > 2
        };
        let outcome = pollster::block_on(session.generate(&long, &host, &aborted, &mut |_| Ok(())));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Aborted, "{device:?}");
        assert_eq!(n_checks.get(), 3, "{device:?}: chunks after the abort");

        let short = request(&session, PROMPT, 8);
        let (after, _) = run(&mut session, &short).unwrap();
        let (fresh, _) = run(&mut open(&device, 512), &short).unwrap();
        assert_eq!(ids(&after), ids(&fresh), "{device:?}");
    }
}

#[test]
fn disposing_returns_all_gpu_memory() {
    let hints = AdapterHints::default();
    let context = pollster::block_on(Context::request(&hints)).unwrap();
    let (file, plan) = pollster::block_on(describe());
    let engine = pollster::block_on(GpuEngine::new(context.clone(), plan, 128)).unwrap();
    let mut session = Session::new(Box::new(engine), file.description, 128);
    let request = request(&session, PROMPT, 2);
    run(&mut session, &request).unwrap();
    let held = context.allocated();
    assert!(held >= session.memory().total(), "{held} bytes");
    assert!(session.memory().weights > 80_000_000, "{:?}", session.memory());
    assert_eq!(session.dispose(), held);
    assert_eq!(context.allocated(), 0);
}
