//! Requests that are aborted at random: in the prompt, in the answer, with others set aside.

use std::cell::Cell;

use pesi::{
    ErrorKind,
    sampler::SamplingParams,
    session::{Request, Session, TokenEvent},
};

use super::{
    gpt_oss::NoHost,
    models::{all, prompt, request},
    tiny::Random,
};

const N_ABORTS: usize = 100;

/// What the device holds beside conversations that are set aside.
fn fixed_bytes(session: &Session) -> u64 {
    session.in_use() - session.set_aside_bytes()
}

fn tokens(session: &mut Session, request: &Request) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut take = |events: &[TokenEvent]| {
        tokens.extend(events.iter().map(|event| event.token));
        Ok(())
    };
    pollster::block_on(session.generate(request, &NoHost, &|| false, &mut take)).unwrap();
    tokens
}

/// Aborts a request as it asks for the nth time; tells whether tokens had come by then. A check comes
/// ahead of each chunk and each batch, and none after the one that is told of the abort.
fn abort(session: &mut Session, request: &Request, nth: usize) -> Option<bool> {
    let n_checks = Cell::new(0);
    let aborted = || {
        n_checks.set(n_checks.get() + 1);
        n_checks.get() >= nth
    };
    let mut has_tokens = false;
    let mut take = |_: &[TokenEvent]| {
        has_tokens = true;
        Ok(())
    };
    match pollster::block_on(session.generate(request, &NoHost, &aborted, &mut take)) {
        Ok(_) => None,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Aborted);
            assert_eq!(n_checks.get(), nth, "it went on after the abort");
            Some(has_tokens)
        }
    }
}

#[test]
fn a_hundred_aborts_leave_nothing_behind() {
    for (name, open) in all() {
        let mut session = open();
        let mut random = Random(5);
        let conversations: Vec<_> = (0..4).map(|seed| prompt(90, seed)).collect();
        let fixed = fixed_bytes(&session);
        let caches = session.memory().caches;
        let [mut in_prompt, mut in_answer] = [0, 0];
        let mut most_aside = 0;
        while in_prompt + in_answer < N_ABORTS {
            let mut below = |n: usize| random.bits() as usize % n;
            let mut tokens = conversations[below(conversations.len())].clone();
            tokens.truncate(60 + below(31));
            tokens.extend(prompt(below(20), below(1000) as u64));
            let request = Request { reuse_prefix: below(4) > 0, ..request(tokens, 20) };
            match abort(&mut session, &request, 1 + below(12)) {
                Some(true) => in_answer += 1,
                Some(false) => in_prompt += 1,
                None => {}
            }
            assert_eq!(fixed_bytes(&session), fixed, "{name}");
            assert!(session.set_aside_bytes() <= caches, "{name}");
            most_aside = most_aside.max(session.set_aside_bytes());
        }
        println!(
            "{name}: {in_prompt} in prompts, {in_answer} in answers, {most_aside} bytes aside"
        );
        assert!(in_prompt >= 10 && in_answer >= 10 && most_aside > 0, "{name}");

        let sampling = SamplingParams { temperature: 1.0, seed: 3, ..Default::default() };
        let after = Request { sampling, ..request(conversations[0].clone(), 12) };
        let fresh = Request { reuse_prefix: false, ..after.clone() };
        assert_eq!(tokens(&mut session, &fresh), tokens(&mut open(), &after), "{name}");
        let in_use = session.in_use();
        assert_eq!(session.dispose(), in_use, "{name}");
    }
}

/// What was asked for ahead of an abort, and what is asked for after it, is not touched by it.
#[test]
fn conversations_around_an_abort_have_the_tokens_that_they_have_alone() {
    for (name, open) in all() {
        let [first, second] = [1, 2].map(|seed| request(prompt(60, seed), 10));
        let alone = [&first, &second].map(|request| tokens(&mut open(), request));
        let mut session = open();
        for nth in [1, 2, 5, 8] {
            for (request, expected) in [&first, &second].into_iter().zip(&alone) {
                let other = super::models::request(prompt(90, 10 + nth as u64), 100);
                assert!(abort(&mut session, &other, nth).is_some(), "{name}");
                assert_eq!(tokens(&mut session, request), *expected, "{name}, {nth}");
            }
        }
    }
}
