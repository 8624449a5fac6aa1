//! Rings of the sliding window: generation far beyond them, and conversations taken up again.

use pesi::{
    engine::DeviceKind,
    ops::CacheNumbers,
    session::{Request, Session, TokenEvent},
};

use super::{
    golden::generate,
    model::{NoHost, devices, folder, session_with_caches},
};

/// Longer than a ring, which keeps 1024 positions beyond the window.
const CONTEXT: usize = 2600;

fn prompt(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + i * i * 31) % 300) as u32).collect()
}

fn open(device: &DeviceKind, numbers: CacheNumbers) -> Session {
    session_with_caches(&folder("a1-basic"), device, numbers, CONTEXT)
}

/// Of how many of `tokens` the caches held keys and values already.
fn cached_tokens(session: &mut Session, tokens: Vec<u32>) -> usize {
    let request = Request {
        tokens,
        max_tokens: Some(1),
        ignore_eos: true,
        reuse_prefix: true,
        ..Default::default()
    };
    let mut ignore = |_: &[TokenEvent]| Ok(());
    let run = session.generate(&request, &NoHost, &|| false, &mut ignore);
    pollster::block_on(run).unwrap().cached_tokens
}

/// What a session says after others is what one says that computes all of it anew: after going back a little, which the ring
/// still holds, and after going back so far that it does not.
#[test]
fn conversations_taken_up_again_go_on_as_fresh_ones() {
    for (device, numbers) in devices().into_iter().zip([CacheNumbers::Full, CacheNumbers::Int8]) {
        let long = prompt(1500, 1);
        let [mut used, mut fresh] = [(); 2].map(|()| open(&device, numbers));
        let first = generate(&mut used, long.clone(), 40, true);
        assert_eq!(first, generate(&mut fresh, long.clone(), 40, false), "{device:?}");
        for kept in [1400, 470, 90] {
            let mut tokens = long[..kept].to_vec();
            tokens.extend(prompt(20, kept));
            let expected = generate(&mut fresh, tokens.clone(), 12, false);
            assert_eq!(generate(&mut used, tokens, 12, true), expected, "{device:?}, {kept} kept");
        }
    }
}

#[test]
fn what_a_ring_has_lost_is_computed_anew() {
    let device = devices().remove(0);
    let mut session = open(&device, CacheNumbers::Full);
    let long = prompt(1500, 1);
    let mut cached = |tokens: Vec<u32>| cached_tokens(&mut session, tokens);
    assert_eq!(cached(long.clone()), 0);
    assert_eq!(cached(long[..1400].to_vec()), 1399);
    // The ring holds positions from 1500 − (16 + 1024) on.
    assert_eq!(cached(long[..476].to_vec()), 475);
    assert_eq!(cached(long[..470].to_vec()), 0);
}

/// Rings are set aside as they are, also where they have gone round.
#[test]
fn conversations_that_take_turns_keep_their_rings() {
    for (device, numbers) in devices().into_iter().zip([CacheNumbers::Int8, CacheNumbers::Full]) {
        let [mut session, mut fresh] = [(); 2].map(|()| open(&device, numbers));
        let prompts = [prompt(1500, 1), prompt(200, 2)];
        let mut tokens = prompts.clone();
        for round in 0..2 {
            for (index, tokens) in tokens.iter_mut().enumerate() {
                let answer = generate(&mut session, tokens.clone(), 6, true);
                let expected = generate(&mut fresh, tokens.clone(), 6, false);
                assert_eq!(answer, expected, "{device:?}, conversation {index}, round {round}");
                tokens.extend(answer);
                tokens.extend(prompt(5, 7 * index + round));
            }
        }
        // What was said in between came back with its place.
        let cached = cached_tokens(&mut session, tokens[0].clone());
        assert!(cached >= 1500, "{device:?}: {cached}");
    }
}
