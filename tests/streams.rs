//! Text that comes in pieces: characters cut in half, stop strings cut anywhere.

use pesi::{ErrorKind, session::stop::StopMatcher, tokenizer::StreamDecoder};
use proptest::prelude::*;

/// The text of `bytes` when they come in pieces of these lengths.
fn decode(bytes: &[u8], lengths: &[usize]) -> String {
    let mut decoder = StreamDecoder::new();
    let mut text = String::new();
    let mut rest = bytes;
    for length in lengths.iter().chain([&bytes.len()]) {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        text.push_str(&decoder.push(piece));
        rest = after;
    }
    text + &decoder.finish()
}

#[test]
fn a_character_is_held_back_until_it_is_whole() {
    let mut decoder = StreamDecoder::new();
    let pieces = "è🙂".bytes().map(|byte| decoder.push(&[byte])).collect::<Vec<_>>();
    assert_eq!(pieces, ["", "è", "", "", "", "🙂"]);
    assert_eq!(decoder.finish(), "");
}

#[test]
fn a_character_that_is_never_completed_is_replaced() {
    let mut decoder = StreamDecoder::new();
    assert_eq!(decoder.push(b"a\xE2\x82"), "a");
    assert_eq!(decoder.push(b"b"), "\u{FFFD}b");
    assert_eq!(decoder.push(b"\xF0\x9F\x99"), "");
    assert_eq!(decoder.finish(), "\u{FFFD}");
    assert_eq!(decoder.finish(), "");
}

/// The text before the stop string that is complete first, searched for in the whole text.
fn before_stop(text: &str, stop: &[String]) -> (String, bool) {
    for end in 0..=text.len() {
        let ends_here =
            stop.iter().filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()));
        if let Some(longest) = ends_here.map(String::len).max() {
            return (text[..end - longest].to_owned(), true);
        }
    }
    (text.to_owned(), false)
}

fn matched(pieces: &[String], stop: &[String]) -> (String, bool) {
    let mut matcher = StopMatcher::new(stop).unwrap();
    let mut text = String::new();
    let mut stopped = false;
    for piece in pieces {
        let matched = matcher.push(piece);
        text.push_str(&matched.text);
        assert!(matched.stopped || !stopped, "it stops for good");
        assert!(!stopped || matched.text.is_empty(), "nothing comes after a stop string");
        stopped = matched.stopped;
    }
    (text + &matcher.finish(), stopped)
}

#[test]
fn only_what_could_become_a_stop_string_is_held_back() {
    let mut matcher = StopMatcher::new(&["</end>", "\n\n"]).unwrap();
    let mut push = |piece| matcher.push(piece).text;
    assert_eq!(push("one <"), "one ");
    assert_eq!(push("/e"), "");
    assert_eq!(push("x\n"), "</ex");
    assert_eq!(push("two"), "\ntwo");
    let matched = matcher.push("</end>three");
    assert_eq!((matched.text.as_str(), matched.stopped), ("", true));
    assert_eq!((matcher.push("four").text.as_str(), matcher.finish().as_str()), ("", ""));
}

#[test]
fn the_first_to_be_complete_wins_and_then_the_longest() {
    let run = |text: &str, stop: &[&str]| {
        let stop: Vec<String> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        matched(&[text.to_owned()], &stop)
    };
    assert_eq!(run("xabcd", &["abcd", "bc"]), ("xa".to_owned(), true));
    assert_eq!(run("xabcd", &["bc", "abc"]), ("x".to_owned(), true));
    assert_eq!(run("aab", &["ab"]), ("a".to_owned(), true));
    assert_eq!(run("ababac", &["abac"]), ("ab".to_owned(), true));
    assert_eq!(run("perché", &["é"]), ("perch".to_owned(), true));
    assert_eq!(run("abc", &[]), ("abc".to_owned(), false));
}

#[test]
fn an_empty_stop_string_is_refused() {
    let error = StopMatcher::new(&["a", ""]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

proptest! {
    #[test]
    fn bytes_decode_alike_in_any_pieces(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0xE2), Just(0x82), Just(0xAC), Just(0xF0), Just(0x9F)],
            0..24,
        ),
        lengths in prop::collection::vec(0..4usize, 0..24),
    ) {
        prop_assert_eq!(decode(&bytes, &lengths), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn stop_strings_are_found_in_any_pieces(
        pieces in prop::collection::vec("[abè]{0,4}", 0..8),
        stop in prop::collection::vec("[abè]{1,5}", 0..4),
    ) {
        prop_assert_eq!(matched(&pieces, &stop), before_stop(&pieces.concat(), &stop));
    }
}
