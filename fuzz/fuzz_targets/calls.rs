//! Takes any bytes apart as an answer of each format: nothing may panic, and the events may not
//! depend on where the bytes are cut. The first byte chooses how; the rest is the answer.
//!
//! ```sh
//! mkdir -p fuzz/corpus/calls
//! cargo +nightly fuzz run calls fuzz/corpus/calls fuzz/seeds/calls -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use pesi::chat::calls::{AnswerParser, CallFormat, Event};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, answer)) = bytes.split_first() else { return };
    let piece_len = 1 + usize::from(choice % 7);
    for format in
        [None, Some(CallFormat::Hermes), Some(CallFormat::Llama), Some(CallFormat::Mistral)]
    {
        for is_cut in [false, true] {
            let whole = events(format, [answer].into_iter(), is_cut);
            let pieces = events(format, answer.chunks(piece_len), is_cut);
            assert_eq!(whole, pieces);
        }
    }
});

/// The events, with texts that follow each other joined.
fn events<'a>(
    format: Option<CallFormat>,
    pieces: impl Iterator<Item = &'a [u8]>,
    is_cut: bool,
) -> Vec<Event> {
    let mut parser = AnswerParser::new(format, vec!["find".to_owned()], "");
    let mut events: Vec<Event> = Vec::new();
    let mut add = |new: Vec<Event>| {
        for event in new {
            match (events.last_mut(), event) {
                (Some(Event::Text { text, .. }), Event::Text { text: more, .. }) => {
                    text.push_str(&more);
                }
                (_, event) => events.push(event),
            }
        }
    };
    for piece in pieces {
        add(parser.push(piece));
    }
    add(if is_cut { parser.cut() } else { parser.finish() });
    events
}
