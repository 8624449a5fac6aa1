//! The parser on tokens in any order: it never panics, and no text gets lost.

use pesi::chat::harmony::{Event, Role, StreamParser};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    HARMONY, TOKENIZER,
    parser::{Token, byte_by_byte, events as events_of, tokens},
};

fn marker() -> impl Strategy<Value = Token> {
    let markers = "<|start|><|message|><|channel|><|constrain|><|end|><|call|><|return|>\
                   <|endoftext|><|message|><|start|><|channel|><|message|><|channel|>";
    select(tokens(markers))
}

/// Tokens that follow each other as they may in a model's output, or in any order.
fn any_tokens() -> impl Strategy<Value = Vec<Token>> {
    let words = [
        "assistant",
        "user",
        "functions.f",
        " to=functions.f",
        " to=assistant",
        "analysis",
        "final",
        "commentary",
        " json",
        "code",
        " ",
        "\n",
        "Hello",
        "日本語",
        "\u{2028}",
        "to=",
    ];
    let part = prop_oneof![
        4 => marker().prop_map(|token| vec![token]),
        3 => select(words.to_vec()).prop_map(tokens),
        2 => (0..199_998u32).prop_map(|id| {
            vec![(id, TOKENIZER.token_bytes(id).unwrap().to_vec())]
        }),
        1 => any::<u32>().prop_map(|id| {
            vec![(id, TOKENIZER.token_bytes(id).unwrap_or_default().to_vec())]
        }),
        1 => vec(any::<u8>(), 0..4).prop_map(|bytes| vec![(0, bytes)]),
        2 => Just(tokens("<|start|>assistant<|channel|>final<|message|>")),
        1 => (200..700usize).prop_map(|n_words| tokens(&" ab".repeat(n_words))),
    ];
    vec(part, 0..24).prop_map(|parts| parts.concat())
}

fn role() -> impl Strategy<Value = Option<Role>> {
    select(vec![None, Some(Role::Assistant), Some(Role::Assistant), Some(Role::Tool)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn any_tokens_parse_alike_in_any_pieces(tokens in any_tokens(), role in role()) {
        let events = events_of(&tokens, role);
        prop_assert_eq!(&events_of(&tokens, role), &events);
        prop_assert_eq!(events_of(&byte_by_byte(&tokens), role), events);
    }

    #[test]
    fn the_text_under_a_header_is_passed_on_byte_by_byte(tokens in any_tokens(), role in role()) {
        let mut parser = StreamParser::new(&HARMONY, role);
        // Which message is open, the bytes that came since, and the text that was passed on.
        let mut open: Option<(usize, Vec<u8>, String)> = None;
        // Whether that message began where its header ended, and not with text already.
        let mut has_header = false;
        let mut n_ended = 0;
        let mut tokens = tokens.iter();
        loop {
            let token = tokens.next();
            let is_text = token.is_some_and(|(id, _)| !TOKENIZER.is_special(*id));
            if let (Some((_, bytes, _)), Some((_, more)), true) = (&mut open, token, is_text) {
                bytes.extend_from_slice(more);
            }
            let events = match token {
                Some((id, bytes)) => parser.push(*id, bytes),
                None => parser.finish(),
            };
            for event in events {
                match event {
                    Event::Started { index, .. } => {
                        prop_assert!(open.is_none() && index == n_ended);
                        open = Some((index, Vec::new(), String::new()));
                        has_header = token.is_some_and(|(_, bytes)| bytes == b"<|message|>");
                    }
                    Event::Text { index, text } => {
                        let (open, _, passed) = open.as_mut().unwrap();
                        prop_assert_eq!(*open, index);
                        passed.push_str(&text);
                    }
                    Event::Ended { index, .. } => {
                        let (open, bytes, passed) = open.take().unwrap();
                        prop_assert_eq!(open, index);
                        let text = String::from_utf8_lossy(&bytes);
                        if has_header {
                            prop_assert_eq!(&passed, &text);
                        }
                        prop_assert!(ends_like(&passed, &text), "{passed:?} {text:?}");
                        n_ended += 1;
                    }
                    Event::Malformed { .. } => {}
                }
            }
            if token.is_none() {
                break;
            }
        }
        prop_assert!(open.is_none());
    }

    #[test]
    fn every_word_is_somewhere_in_the_events(
        parts in vec(prop_oneof![
            3 => marker().prop_map(Some),
            4 => Just(None),
        ], 0..40),
        role in role(),
    ) {
        let mut stream: Vec<Token> = Vec::new();
        let mut words = Vec::new();
        for (index, marker) in parts.into_iter().enumerate() {
            stream.push(marker.unwrap_or_else(|| {
                let word = format!("w{index}z");
                let mark = if index % 3 == 0 { "to=" } else { "" };
                let text = format!(" {mark}{word} ");
                words.push(word);
                (0, text.into_bytes())
            }));
        }
        let events = format!("{:?}", events_of(&stream, role));
        for word in words {
            prop_assert!(events.contains(&word), "{word} is in {events}");
        }
    }
}

/// Whether `text` ends with `end`, of which the first characters may have been cut.
fn ends_like(text: &str, end: &str) -> bool {
    text.ends_with(end.trim_start_matches(char::REPLACEMENT_CHARACTER))
}
