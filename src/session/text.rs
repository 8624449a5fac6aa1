//! Tokens' bytes → text that is certain, and to which message it belongs.

use super::stop::StopMatcher;
use crate::{
    chat::harmony::{Event, Header, MessageKind, Problem, Role, StreamParser},
    error::Result,
    tokenizer::StreamDecoder,
};

/// Text that became certain with a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Whole characters, nothing that might belong to a stop string.
    pub text: String,
    /// The message of the answer that the text belongs to, where answers have messages.
    pub message: Option<Box<Message>>,
    /// What about the token is not in the model's format, as a sentence.
    pub malformed: Option<&'static str>,
}

impl Piece {
    /// Adds what follows.
    pub(super) fn append(&mut self, next: Self) {
        self.text.push_str(&next.text);
        self.malformed = self.malformed.or(next.malformed);
        self.message = next.message.or(self.message.take());
    }
}

/// In an answer, unlike in a conversation, nobody but the assistant has a say.
const NOT_FROM_ASSISTANT: &str = "a message is not from the assistant";

/// A message of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// How many came before it.
    pub index: usize,
    /// What its header says.
    pub header: Header,
}

/// Makes text of the tokens of one answer.
pub(super) struct TextStream {
    stop: StopMatcher,
    reader: Reader,
}

enum Reader {
    /// All bytes are text.
    Plain(StreamDecoder),
    /// Tokens make messages.
    Messages { parser: Box<StreamParser>, current: Option<Box<Message>> },
}

impl TextStream {
    /// A stream that ends before any of `stop`; `parser` takes answers apart that have messages.
    ///
    /// # Errors
    /// Those of [`StopMatcher::new`].
    pub fn new(stop: &[String], parser: Option<StreamParser>) -> Result<Self> {
        let reader = match parser {
            Some(parser) => Reader::Messages { parser: Box::new(parser), current: None },
            None => Reader::Plain(StreamDecoder::new()),
        };
        Ok(Self { stop: StopMatcher::new(stop)?, reader })
    }

    /// Takes a token; tells whether a stop string was met.
    pub fn push(&mut self, token: u32, bytes: &[u8]) -> (Piece, bool) {
        let events = match &mut self.reader {
            Reader::Plain(decoder) => {
                let matched = self.stop.push(&decoder.push(bytes));
                return (Piece { text: matched.text, ..Default::default() }, matched.stopped);
            }
            Reader::Messages { parser, .. } => parser.push(token, bytes),
        };
        self.take(events)
    }

    /// A token that ends the answer, and is no text itself; what is held back comes with it.
    pub fn end(&mut self, token: u32) -> Piece {
        let events = match &mut self.reader {
            Reader::Plain(_) => return self.cut().0,
            Reader::Messages { parser, .. } => {
                let mut events = parser.push(token, &[]);
                events.extend(parser.finish());
                events
            }
        };
        self.take(events).0
    }

    /// What is held back, at an end that no token marks; tells whether a stop string was met in it.
    pub fn cut(&mut self) -> (Piece, bool) {
        let events = match &mut self.reader {
            Reader::Plain(decoder) => {
                let mut matched = self.stop.push(&decoder.finish());
                if !matched.stopped {
                    matched.text.push_str(&self.stop.finish());
                }
                return (Piece { text: matched.text, ..Default::default() }, matched.stopped);
            }
            Reader::Messages { parser, .. } => parser.cut(),
        };
        self.take(events)
    }

    fn take(&mut self, events: Vec<Event>) -> (Piece, bool) {
        let Reader::Messages { current, .. } = &mut self.reader else {
            unreachable!("only messages have events")
        };
        let mut piece = Piece { message: current.clone(), ..Default::default() };
        for event in events {
            let text = match event {
                Event::Started { index, header } => {
                    if header.role != Role::Assistant {
                        piece.malformed.get_or_insert(NOT_FROM_ASSISTANT);
                    }
                    *current = Some(Box::new(Message { index, header }));
                    piece.message.clone_from(current);
                    continue;
                }
                Event::Ended { .. } => {
                    piece.text.push_str(&self.stop.finish());
                    *current = None;
                    continue;
                }
                Event::Text { text, .. } => text,
                Event::Malformed { problem, text } => {
                    piece.malformed.get_or_insert(problem.as_str());
                    // What else comes with text is wrong in a header, whose words nobody is told.
                    if problem != Problem::StrayMarker {
                        continue;
                    }
                    text
                }
            };
            // Stop strings are looked for in what the user is told, malformed or not: text that is held
            // back stays ahead of what follows.
            if !current.as_ref().is_some_and(|message| is_told(&message.header)) {
                piece.text.push_str(&text);
                continue;
            }
            let matched = self.stop.push(&text);
            piece.text.push_str(&matched.text);
            if matched.stopped {
                return (piece, true);
            }
        }
        (piece, false)
    }
}

/// Whether the user is told the message of this header: `kindOf` in www/src/answer.ts decides alike.
fn is_told(header: &Header) -> bool {
    let is_inward = matches!(header.kind(), MessageKind::Analysis | MessageKind::ToolCall);
    header.role == Role::Assistant && !is_inward
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::harmony::{Harmony, Role},
        tokenizer::{GgufVocabulary, Tokenizer},
    };

    /// The markers of the format, one control token that is none of them, and one token of text.
    const TOKENS: [&str; 9] = [
        "a",
        "<|start|>",
        "<|message|>",
        "<|end|>",
        "<|channel|>",
        "<|constrain|>",
        "<|call|>",
        "<|return|>",
        "<|endoftext|>",
    ];

    const PLAIN: i32 = 1;
    const CONTROL: i32 = 3;

    /// An answer in the making.
    struct Answer {
        stream: TextStream,
        pieces: Vec<Piece>,
    }

    impl Answer {
        fn before(stop: &str) -> Self {
            let mut token_types = [CONTROL; TOKENS.len()];
            token_types[0] = PLAIN;
            let tokenizer = Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
                model: "gpt2",
                pre: Some("gpt-4o"),
                tokens: TOKENS.to_vec(),
                token_types: &token_types,
                ..Default::default()
            });
            let harmony = Harmony::new(&tokenizer.unwrap()).unwrap();
            let parser = StreamParser::new(&harmony, Some(Role::Assistant));
            let stream = TextStream::new(&[stop.to_owned()], Some(parser)).unwrap();
            Self { stream, pieces: Vec::new() }
        }

        /// Tokens by their bytes; tells whether a stop string was met.
        fn bytes(&mut self, tokens: &[&[u8]]) -> bool {
            tokens.iter().any(|bytes| {
                let (piece, stopped) = self.stream.push(id(bytes), bytes);
                self.pieces.push(piece);
                stopped
            })
        }

        fn write(&mut self, tokens: &[&str]) -> bool {
            self.bytes(&tokens.iter().map(|token| token.as_bytes()).collect::<Vec<_>>())
        }

        fn end(&mut self, token: &str) {
            let piece = self.stream.end(id(token.as_bytes()));
            self.pieces.push(piece);
        }

        /// Ends the tokens with no token that says so; tells whether a stop string was met.
        fn cut(&mut self) -> bool {
            let (piece, stopped) = self.stream.cut();
            self.pieces.push(piece);
            stopped
        }

        fn last(&self) -> &Piece {
            self.pieces.last().unwrap()
        }

        /// The text of each message, and what it is for; text of no message stands alone.
        fn messages(&self) -> Vec<(Option<MessageKind>, String)> {
            let mut messages: Vec<(Option<&Message>, String)> = Vec::new();
            for piece in self.pieces.iter().filter(|piece| !piece.text.is_empty()) {
                let message = piece.message.as_deref();
                match messages.last_mut() {
                    Some((last, text)) if *last == message => text.push_str(&piece.text),
                    _ => messages.push((message, piece.text.clone())),
                }
            }
            let kind = |message: Option<&Message>| message.map(|message| message.header.kind());
            messages.into_iter().map(|(message, text)| (kind(message), text)).collect()
        }

        fn malformed(&self) -> Vec<&str> {
            self.pieces.iter().filter_map(|piece| piece.malformed).collect()
        }
    }

    fn id(bytes: &[u8]) -> u32 {
        TOKENS.iter().position(|name| name.as_bytes() == bytes).unwrap_or(0) as u32
    }

    fn said(kind: MessageKind, text: &str) -> (Option<MessageKind>, String) {
        (Some(kind), text.to_owned())
    }

    const FINAL: [&str; 3] = ["<|channel|>", "final", "<|message|>"];

    #[test]
    fn a_stop_string_ends_what_is_told_but_not_what_is_thought() {
        let mut answer = Answer::before("STOP");
        let thought = ["<|channel|>", "analysis", "<|message|>", "a ST", "OP b", "<|end|>"];
        assert!(!answer.write(&thought));
        assert!(!answer.write(&["<|start|>", "assistant"]));
        assert!(!answer.write(&FINAL));
        for (token, certain) in
            [("Yes S", "Yes "), ("T", ""), ("O", ""), ("x S", "STOx "), ("TO", "")]
        {
            assert!(!answer.write(&[token]));
            assert_eq!(answer.last().text, certain, "{token}");
        }
        assert!(answer.write(&["P more"]));
        let expected =
            [said(MessageKind::Analysis, "a STOP b"), said(MessageKind::Final, "Yes STOx ")];
        assert_eq!(answer.messages(), expected);
        assert_eq!(answer.malformed(), [""; 0]);
    }

    #[test]
    fn what_may_become_a_stop_string_comes_with_the_end_of_its_message() {
        let mut answer = Answer::before("STOP");
        answer.write(&["<|channel|>", "commentary", "<|message|>", "I look. ST"]);
        assert_eq!(answer.last().text, "I look. ");
        answer.write(&["<|end|>"]);
        assert_eq!(answer.last().text, "ST");
        // A stop string does not span messages.
        answer.write(&["<|start|>", "assistant"]);
        answer.write(&FINAL);
        assert!(!answer.write(&["OP. S"]));
        answer.end("<|return|>");
        let expected =
            [said(MessageKind::Preamble, "I look. ST"), said(MessageKind::Final, "OP. S")];
        assert_eq!(answer.messages(), expected);
        assert_eq!(answer.malformed(), [""; 0]);
    }

    #[test]
    fn a_call_names_its_tool_and_keeps_its_arguments_whole() {
        let mut answer = Answer::before("STOP");
        let call = [
            "<|channel|>",
            "commentary to=functions",
            ".find ",
            "<|constrain|>",
            "json",
            "<|message|>",
            "{\"q\":",
            "\"STOP\"}",
        ];
        assert!(!answer.write(&call));
        answer.end("<|call|>");
        assert_eq!(answer.messages(), [said(MessageKind::ToolCall, "{\"q\":\"STOP\"}")]);
        let header = &answer.last().message.as_ref().unwrap().header;
        assert_eq!(header.recipient.as_deref(), Some("functions.find"));
        assert_eq!(header.constraint(), Some("json"));
        assert_eq!(answer.malformed(), [""; 0]);
    }

    #[test]
    fn an_answer_cut_within_a_character_ends_in_its_replacement() {
        let mut answer = Answer::before("STOP");
        answer.write(&FINAL);
        answer.bytes(&[b"So ", b"\xF0\x9F"]);
        let mut piece = answer.pieces.pop().unwrap();
        assert_eq!(piece.text, "");
        piece.append(answer.stream.cut().0);
        answer.pieces.push(piece);
        assert_eq!(answer.messages(), [said(MessageKind::Final, "So \u{FFFD}")]);
    }

    #[test]
    fn malformed_text_stands_where_it_was_written() {
        let mut answer = Answer::before("STOP");
        answer.write(&FINAL);
        assert!(!answer.write(&["a ST", "<|constrain|>", "b"]));
        answer.end("<|endoftext|>");
        assert_eq!(answer.messages(), [said(MessageKind::Final, "a ST<|constrain|>b")]);
        assert_eq!(answer.malformed(), ["a marker stands where it means nothing"; 2]);

        let mut answer = Answer::before("STOP");
        assert!(!answer.write(&["Hi", " there"]));
        assert!(!answer.cut());
        assert_eq!(answer.messages(), [said(MessageKind::Other, "Hi there")]);
        assert_eq!(answer.malformed(), ["a message ends within its header"]);
    }

    #[test]
    fn an_answer_cut_within_a_header_breaks_no_format_and_says_nothing_of_it() {
        for header in [
            &["<|channel|>"][..],
            &["<|channel|>", "ana"],
            &["<|channel|>", "commentary to=functions", ".find ", "<|constrain|>", "js"],
            &[" to=functions", ".find"],
            &[" to=functions.find ", "<|constrain|>", "json"],
        ] {
            let mut answer = Answer::before("STOP");
            assert!(!answer.write(header));
            assert!(!answer.cut());
            assert_eq!(answer.messages(), [], "{header:?}");
            assert_eq!(answer.malformed(), [""; 0], "{header:?}");
        }
        for header in [
            &["<|start|>"][..],
            &["<|start|>", "assist"],
            &["<|start|>", "assistant to=functions", ".find"],
            &["<|start|>", "assistant", "<|channel|>", "final"],
        ] {
            let mut answer = Answer::before("STOP");
            answer.write(&["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>"]);
            assert!(!answer.write(header));
            assert!(!answer.cut());
            assert_eq!(answer.messages(), [said(MessageKind::Analysis, "Hm.")], "{header:?}");
            assert_eq!(answer.malformed(), [""; 0], "{header:?}");
        }
        // A token that ends the answer there is the model's own mistake.
        let mut answer = Answer::before("STOP");
        answer.write(&["<|channel|>", "final Hi"]);
        answer.end("<|return|>");
        assert_eq!(answer.messages(), [said(MessageKind::Final, " Hi")]);
        assert_eq!(answer.malformed(), ["a message ends within its header"]);
    }

    #[test]
    fn a_stop_string_ends_whatever_the_assistant_says_outside_of_thoughts_and_calls() {
        let long = "x".repeat(2000);
        for (written, certain) in [
            (&["<|channel|>", "musing", "<|message|>", "a ST", "OP b"][..], "a "),
            (&["<|message|>", "a STOP b"], "a "),
            (&[&long, "ST", "OP"], &long),
        ] {
            let mut answer = Answer::before("STOP");
            assert!(answer.write(written), "{written:?}");
            assert_eq!(answer.messages(), [said(MessageKind::Other, certain)]);
        }
        let mut answer = Answer::before("STOP");
        answer.write(&["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>"]);
        assert!(answer.write(&["a ST", "OP b"]));
        let expected = [said(MessageKind::Analysis, "Hm."), said(MessageKind::Other, "a ")];
        assert_eq!(answer.messages(), expected);

        // An answer without a header is known for one only as it ends.
        for ends_by_itself in [false, true] {
            let mut answer = Answer::before("STOP");
            assert!(!answer.write(&["Hi ST", "OP there"]));
            if ends_by_itself {
                answer.end("<|return|>");
            } else {
                assert!(answer.cut());
            }
            assert_eq!(answer.messages(), [said(MessageKind::Other, "Hi ")]);
        }
    }

    #[test]
    fn a_message_in_the_name_of_others_is_malformed_and_stops_nothing() {
        for author in ["user", "functions.find to=assistant", "system", "python"] {
            let mut answer = Answer::before("STOP");
            answer.write(&["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>"]);
            assert!(!answer.write(&[
                "<|start|>",
                author,
                "<|channel|>",
                "analysis",
                "<|message|>"
            ]));
            assert!(answer.last().malformed.is_some(), "{author}");
            assert!(!answer.write(&["a STOP b", "<|end|>"]));
            assert_eq!(answer.messages()[1], said(MessageKind::Other, "a STOP b"), "{author}");
            assert_eq!(answer.malformed().len(), 1, "{author}");
        }
    }

    #[test]
    fn words_of_a_header_are_no_text_of_its_message() {
        let unknown_channel = "the channel of a message is not known";
        let unknown_words = "a header has words that mean nothing";
        let repeated = "a header has a second channel or constraint";
        let truncated = "a message ends within its header";
        for (header, kind, problem) in [
            (&["<|channel|>", "musing"][..], MessageKind::Other, unknown_channel),
            (&["<|channel|>", "final oh well then"], MessageKind::ToolCall, unknown_words),
            (&["<|channel|>", "analysis", "<|channel|>", "final"], MessageKind::Final, repeated),
            (
                &["<|channel|>", "fin", "<|start|>", "assistant", "<|channel|>", "final"],
                MessageKind::Final,
                truncated,
            ),
        ] {
            let mut answer = Answer::before("STOP");
            answer.write(header);
            answer.write(&["<|message|>", "Hello"]);
            answer.end("<|return|>");
            assert_eq!(answer.messages(), [said(kind, "Hello")], "{header:?}");
            assert_eq!(answer.malformed(), [problem], "{header:?}");
        }
        let mut answer = Answer::before("STOP");
        answer.write(&["<|channel|>", "final", "<|message|>", "a", "<|end|>", "<|start|>"]);
        answer.write(&["nobody", "<|channel|>", "final", "<|message|>", "b", "<|end|>"]);
        let expected = [said(MessageKind::Final, "a"), said(MessageKind::Other, "b")];
        assert_eq!(answer.messages(), expected);
        assert_eq!(answer.malformed(), ["the author of a message is not known"]);

        // Text before a message is one of its own.
        let mut answer = Answer::before("STOP");
        answer.write(&[
            "Hi.",
            "<|start|>",
            "assistant",
            "<|channel|>",
            "final",
            "<|message|>",
            "Ho",
        ]);
        answer.end("<|return|>");
        let expected = [said(MessageKind::Other, "Hi."), said(MessageKind::Final, "Ho")];
        assert_eq!(answer.messages(), expected);
        assert_eq!(answer.malformed(), [truncated]);
    }
}
