//! Tokens that are looked up in the prompt: answers are the same, bit for bit, and take fewer steps.

use pesi::{
    engine::{DeviceKind, Outputs},
    sampler::SamplingParams,
    session::{Guessing, Request, Session, Summary, TokenEvent},
};

use super::{model::open, session};

const STORY: &str = "Peter lived in a small house at the edge of the forest. Every morning Peter walked \
                     down to the river to fetch water, and every evening Peter sat by the fire.";

/// A prompt whose answer repeats it.
fn prompt() -> String {
    format!("{STORY}\n\nThe same story with Anna in place of Peter:\n\nAnna lived")
}

/// A request for what follows a text, all of which is computed.
fn request(session: &Session, text: &str, sampling: SamplingParams) -> Request {
    Request { sampling, reuse_prefix: false, ..session::request(session, text, 40) }
}

fn run(session: &mut Session, request: &Request, guessing: Guessing) -> (Vec<TokenEvent>, Summary) {
    session.guessing = guessing;
    session::run(session, request).unwrap()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn logits_do_not_depend_on_how_a_prompt_is_cut() {
    let mut session = open(&DeviceKind::Cpu, 128);
    let tokens = session.tokenizer().encode(STORY).unwrap();
    let n_vocab = session.config().n_vocab;
    let engine = session.engine();
    let mut logits_of = |chunks: &[usize]| {
        let mut position = 0;
        for &n_tokens in chunks {
            let chunk = &tokens[position..position + n_tokens];
            pollster::block_on(engine.extend(chunk, position, Outputs::All)).unwrap();
            position += n_tokens;
        }
        let logits = pollster::block_on(engine.logits()).unwrap();
        bits(&logits[logits.len() - n_vocab..])
    };
    let one_by_one = logits_of(&[1; 24]);
    for chunks in [&[16, 8][..], &[2, 3, 4, 5, 6, 4], &[23, 1], &[17, 7], &[9, 1, 7, 1, 6]] {
        assert!(logits_of(chunks) == one_by_one, "{chunks:?}");
    }
}

#[test]
fn answers_are_the_same_bit_for_bit_with_guesses() {
    let mut session = open(&DeviceKind::Cpu, 256);
    let warm = SamplingParams { temperature: 0.6, top_p: 0.9, seed: 5, ..Default::default() };
    let penalized = SamplingParams {
        repetition_penalty: 1.1,
        frequency_penalty: 0.2,
        presence_penalty: 0.1,
        logit_bias: vec![(28, -3.0), (260, 1.0)],
        top_logprobs: 3,
        ..warm.clone()
    };
    for sampling in [SamplingParams::default(), warm, penalized] {
        let mut request = request(&session, &prompt(), sampling.clone());
        let (expected, _) = run(&mut session, &request, Guessing::Never);
        let (found, summary) = run(&mut session, &request, Guessing::Always);
        assert_eq!(found, expected, "{sampling:?}");
        assert!(summary.guessed_tokens > 0, "{sampling:?}");
        // Where it ends in the middle of a guess, and the caches are used again.
        request.stop = vec![expected[12..14].iter().map(|e| e.piece.text.as_str()).collect()];
        let (expected, _) = run(&mut session, &request, Guessing::Never);
        let (found, _) = run(&mut session, &request, Guessing::Always);
        assert_eq!(found, expected, "{:?}", request.stop);
        request.reuse_prefix = true;
        let (found, _) = run(&mut session, &request, Guessing::WherePays);
        assert_eq!(found, expected, "{:?}", request.stop);
    }
}

#[test]
fn most_of_a_repeated_text_is_guessed() {
    let mut session = open(&DeviceKind::Cpu, 256);
    let request = request(&session, &prompt(), SamplingParams::default());
    let (events, summary) = run(&mut session, &request, Guessing::Always);
    let text = session::text(&events);
    assert!(text.starts_with(" in a small house at the edge of the forest."), "{text}");
    assert_eq!(summary.completion_tokens, events.len());
    assert!(summary.accepted_tokens > events.len() / 2, "{summary:?}");
    assert!(summary.accepted_tokens <= summary.guessed_tokens);
    let (_, summary) = run(&mut session, &request, Guessing::Never);
    assert_eq!([summary.guessed_tokens, summary.accepted_tokens], [0, 0]);
}
