//! Answers of a model whose weights are random: text that is nothing in particular, and tokens of the
//! format in any order.

use pesi::{
    engine::DeviceKind,
    sampler::SamplingParams,
    session::{FinishReason, Request, Session, Summary, TokenEvent},
    weights::Precision,
};

use super::model::{CONTEXT, NoHost, folder, session};

fn run(session: &mut Session, request: &Request) -> (Vec<TokenEvent>, Summary) {
    let mut events = Vec::new();
    let mut take = |batch: &[TokenEvent]| {
        events.extend_from_slice(batch);
        Ok(())
    };
    let generation = session.generate(request, &NoHost, &|| false, &mut take);
    let summary = pollster::block_on(generation).unwrap();
    (events, summary)
}

fn request(seed: u64, chat: bool) -> Request {
    Request {
        tokens: vec![72, 101, 108, 108, 111],
        max_tokens: Some(1 + seed as usize % 60),
        sampling: SamplingParams { temperature: 1.5, seed, ..Default::default() },
        chat,
        ..Default::default()
    }
}

/// What tokens stand for, in the text that a generation gave.
fn check_plain(session: &Session, events: &[TokenEvent], summary: &Summary, ignore_eos: bool) {
    let text: String = events.iter().map(|event| event.piece.text.as_str()).collect();
    let mut tokens: Vec<u32> = events.iter().map(|event| event.token).collect();
    assert_eq!(tokens.len(), summary.completion_tokens);
    // The token that ends a turn is no text.
    if !ignore_eos && summary.finish_reason == FinishReason::Stop {
        tokens.pop();
    }
    assert_eq!(text, session.tokenizer().decode(&tokens));
    assert!(events.iter().all(|event| event.piece.message.is_none()));
    assert!(events.iter().all(|event| event.piece.malformed.is_none()));
}

#[test]
fn plain_text_is_what_the_tokens_stand_for() {
    let mut session = session(&folder("a1-basic"), &DeviceKind::Cpu, Precision::Exact, CONTEXT);
    let mut n_stopped = 0;
    for seed in 0..40 {
        for ignore_eos in [false, true] {
            let request = Request { ignore_eos, ..request(seed, false) };
            let (events, summary) = run(&mut session, &request);
            check_plain(&session, &events, &summary, ignore_eos);
            n_stopped += usize::from(summary.finish_reason == FinishReason::Stop);
        }
    }
    assert!((1..40).contains(&n_stopped), "{n_stopped} of 80 answers ended by themselves");
}

#[test]
fn answers_that_are_not_harmony_are_reported() {
    let mut session = session(&folder("a1-basic"), &DeviceKind::Cpu, Precision::Exact, CONTEXT);
    assert_eq!(session.chat().unwrap().name(), "harmony");
    let (mut n_messages, mut n_unmarked) = (0, 0);
    for seed in 0..60 {
        let (plain, _) = run(&mut session, &request(seed, false));
        let (events, summary) = run(&mut session, &request(seed, true));
        let tokens = |events: &[TokenEvent]| -> Vec<u32> {
            events.iter().map(|event| event.token).collect()
        };
        assert_eq!(tokens(&events), tokens(&plain), "seed {seed}");
        assert_eq!(summary.completion_tokens, events.len());
        let is_reported = events.iter().any(|event| event.piece.malformed.is_some());
        assert!(is_reported, "seed {seed}: {events:?}");

        let indices = events.iter().filter_map(|event| event.piece.message.as_ref());
        let indices: Vec<usize> = indices.map(|message| message.index).collect();
        assert!(indices.is_sorted(), "seed {seed}: {indices:?}");
        n_messages += indices.last().map_or(0, |last| last + 1);

        let tokenizer = session.tokenizer();
        if !events.iter().any(|event| tokenizer.is_special(event.token)) {
            n_unmarked += 1;
            let text: String = events.iter().map(|event| event.piece.text.as_str()).collect();
            assert_eq!(text, tokenizer.decode(&tokens(&events)), "seed {seed}");
        }
    }
    println!("{n_messages} messages, {n_unmarked} answers without a marker");
    assert!(n_messages >= 30 && n_unmarked >= 5, "{n_messages}, {n_unmarked}");
}

#[test]
fn a_stop_string_in_an_answer_without_a_header_is_why_it_ends() {
    let mut session = session(&folder("a1-basic"), &DeviceKind::Cpu, Precision::Exact, CONTEXT);
    let mut n_stopped = 0;
    for seed in 0..60 {
        let unstopped = request(seed, true);
        let (events, summary) = run(&mut session, &unstopped);
        let tokens: Vec<u32> = events.iter().map(|event| event.token).collect();
        let is_bare = !tokens.iter().any(|token| session.tokenizer().is_special(*token));
        if !is_bare || summary.finish_reason != FinishReason::Length {
            continue;
        }
        let text = session.tokenizer().decode(&tokens);
        let stop: String = text.chars().skip(text.chars().count() / 2).collect();
        let first = text.find(&stop).expect("it is the end of the text");
        let request = Request { stop: vec![stop], ..unstopped };
        let (events, summary) = run(&mut session, &request);
        let said: String = events.iter().map(|event| event.piece.text.as_str()).collect();
        assert_eq!(said, text[..first], "seed {seed}");
        assert_eq!(summary.finish_reason, FinishReason::Stop, "seed {seed}");
        n_stopped += 1;
    }
    assert!(n_stopped >= 5, "{n_stopped}");
}
