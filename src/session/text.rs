//! Tokens' bytes → text that is certain, and to which message it belongs.

use super::{
    pieces::{Message, Pieces},
    stop::StopMatcher,
};
use crate::{
    chat::{
        calls::{self, AnswerParser},
        harmony::{self, Header, MessageKind, Problem, Role, StreamParser},
    },
    error::Result,
    tokenizer::StreamDecoder,
};

/// In an answer, unlike in a conversation, nobody but the assistant has a say.
const NOT_FROM_ASSISTANT: &str = "a message is not from the assistant";

/// Makes text of the tokens of one answer.
pub(super) struct TextStream {
    stop: StopMatcher,
    reader: Reader,
    /// The message that is being told, where answers have messages.
    current: Option<Message>,
}

/// What takes an answer apart.
pub(super) enum Reader {
    /// All bytes are text.
    Plain(StreamDecoder),
    /// Tokens make messages, as harmony has them.
    Harmony(Box<StreamParser>),
    /// Text makes messages, as models with templates write them.
    Template(Box<AnswerParser>),
}

/// What tokens led to, whatever read them.
enum Step {
    Started(Message),
    Text(String),
    Ended,
    /// Something is wrong, with text that is told.
    Malformed(&'static str, String),
}

impl From<harmony::Event> for Step {
    fn from(event: harmony::Event) -> Self {
        match event {
            harmony::Event::Started { index, header } => Self::Started(Message { index, header }),
            harmony::Event::Text { text, .. } => Self::Text(text),
            harmony::Event::Ended { .. } => Self::Ended,
            harmony::Event::Malformed { problem, text } => {
                // What else comes with text is wrong in a header, whose words nobody is told.
                let is_told = problem == Problem::StrayMarker;
                Self::Malformed(problem.as_str(), if is_told { text } else { String::new() })
            }
        }
    }
}

impl From<calls::Event> for Step {
    fn from(event: calls::Event) -> Self {
        match event {
            calls::Event::Started { index, header } => Self::Started(Message { index, header }),
            calls::Event::Text { text, .. } => Self::Text(text),
            calls::Event::Ended { .. } => Self::Ended,
            calls::Event::Malformed { problem } => Self::Malformed(problem.as_str(), String::new()),
        }
    }
}

fn steps<E: Into<Step>>(events: Vec<E>) -> Vec<Step> {
    events.into_iter().map(Into::into).collect()
}

impl TextStream {
    /// A stream that ends before any of `stop`.
    ///
    /// # Errors
    /// Those of [`StopMatcher::new`].
    pub fn new(stop: &[String], reader: Reader) -> Result<Self> {
        Ok(Self { stop: StopMatcher::new(stop)?, reader, current: None })
    }

    /// Takes a token; tells whether a stop string was met.
    pub fn push(&mut self, token: u32, bytes: &[u8]) -> (Pieces, bool) {
        let steps = match &mut self.reader {
            Reader::Plain(decoder) => {
                let matched = self.stop.push(&decoder.push(bytes));
                return (Pieces::of_text(matched.text), matched.stopped);
            }
            Reader::Harmony(parser) => steps(parser.push(token, bytes)),
            Reader::Template(parser) => steps(parser.push(bytes)),
        };
        self.take(steps)
    }

    /// A token that ends the answer, and is no text itself; what is held back comes with it.
    pub fn end(&mut self, token: u32) -> Pieces {
        let steps = match &mut self.reader {
            Reader::Plain(_) => return self.cut().0,
            Reader::Harmony(parser) => {
                let mut events = parser.push(token, &[]);
                events.extend(parser.finish());
                steps(events)
            }
            Reader::Template(parser) => steps(parser.finish()),
        };
        self.take(steps).0
    }

    /// What is held back, at an end that no token marks; tells whether a stop string was met in it.
    pub fn cut(&mut self) -> (Pieces, bool) {
        let steps = match &mut self.reader {
            Reader::Plain(decoder) => {
                let mut matched = self.stop.push(&decoder.finish());
                if !matched.stopped {
                    matched.text.push_str(&self.stop.finish());
                }
                return (Pieces::of_text(matched.text), matched.stopped);
            }
            Reader::Harmony(parser) => steps(parser.cut()),
            Reader::Template(parser) => steps(parser.cut()),
        };
        self.take(steps)
    }

    fn take(&mut self, steps: Vec<Step>) -> (Pieces, bool) {
        let mut pieces = Pieces::default();
        pieces.turn_to(self.current.as_ref());
        for step in steps {
            let text = match step {
                Step::Started(message) => {
                    pieces.turn_to(Some(&message));
                    if message.header.role != Role::Assistant {
                        pieces.last().malformed.get_or_insert(NOT_FROM_ASSISTANT);
                    }
                    self.current = Some(message);
                    continue;
                }
                Step::Ended => {
                    pieces.last().text.push_str(&self.stop.finish());
                    self.current = None;
                    continue;
                }
                Step::Text(text) => text,
                Step::Malformed(phrase, text) => {
                    pieces.last().malformed.get_or_insert(phrase);
                    text
                }
            };
            // Stop strings are looked for in what the user is told, malformed or not: text that is held
            // back stays ahead of what follows.
            let header = self.current.as_ref().map(|message| &message.header);
            if !header.is_some_and(is_told) {
                pieces.last().text.push_str(&text);
                continue;
            }
            let matched = self.stop.push(&text);
            pieces.last().text.push_str(&matched.text);
            if matched.stopped {
                return (pieces, true);
            }
        }
        (pieces, false)
    }
}

/// Whether the user is told the message of this header: `kindOf` in www/src/answer.ts decides alike.
fn is_told(header: &Header) -> bool {
    let is_inward = matches!(header.kind(), MessageKind::Analysis | MessageKind::ToolCall);
    header.role == Role::Assistant && !is_inward
}

#[cfg(test)]
mod tests {
    use super::{super::pieces::Piece, *};
    use crate::{
        chat::{calls::CallFormat, harmony::Harmony},
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
            Self::read_by(Reader::Harmony(Box::new(parser)), stop)
        }

        /// The answer of a model with a template, which may call `find`.
        fn of_template(stop: &str) -> Self {
            let functions = vec!["find".to_owned()];
            let parser = AnswerParser::new(Some(CallFormat::Hermes), functions, "");
            Self::read_by(Reader::Template(Box::new(parser)), stop)
        }

        fn read_by(reader: Reader, stop: &str) -> Self {
            let stream = TextStream::new(&[stop.to_owned()], reader).unwrap();
            Self { stream, pieces: Vec::new() }
        }

        /// Tokens by their bytes; tells whether a stop string was met.
        fn bytes(&mut self, tokens: &[&[u8]]) -> bool {
            tokens.iter().any(|bytes| {
                let (pieces, stopped) = self.stream.push(id(bytes), bytes);
                self.take(pieces);
                stopped
            })
        }

        fn write(&mut self, tokens: &[&str]) -> bool {
            self.bytes(&tokens.iter().map(|token| token.as_bytes()).collect::<Vec<_>>())
        }

        fn end(&mut self, token: &str) {
            let pieces = self.stream.end(id(token.as_bytes()));
            self.take(pieces);
        }

        /// Ends the tokens with no token that says so; tells whether a stop string was met.
        fn cut(&mut self) -> bool {
            let (pieces, stopped) = self.stream.cut();
            self.take(pieces);
            stopped
        }

        fn take(&mut self, pieces: Pieces) {
            self.pieces.push(pieces.first);
            self.pieces.extend(pieces.further);
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
        let first = answer.pieces.pop().unwrap();
        assert_eq!(first.text, "");
        let mut pieces = Pieces { first, further: Vec::new() };
        pieces.append(answer.stream.cut().0);
        answer.take(pieces);
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

    #[test]
    fn a_token_can_complete_text_of_several_messages() {
        let mut answer = Answer::of_template("STOP");
        let whole = "<think>Hm STOP.</think>Well. ST <tool_call>{\"name\":\"find\",\
                     \"arguments\":{\"q\":\"STOP\"}}</tool_call>Bye";
        assert!(!answer.write(&[whole]));
        answer.end("<|endoftext|>");
        let expected = [
            said(MessageKind::Analysis, "Hm STOP."),
            said(MessageKind::Final, "Well. ST"),
            said(MessageKind::ToolCall, "{\"q\":\"STOP\"}"),
            said(MessageKind::Final, "Bye"),
        ];
        assert_eq!(answer.messages(), expected);
        assert_eq!(answer.malformed(), [""; 0]);
        let indices = answer.pieces.iter().filter_map(|piece| Some(piece.message.as_ref()?.index));
        assert_eq!(indices.collect::<Vec<_>>(), [0, 1, 2, 3, 3]);
    }

    #[test]
    fn a_stop_string_ends_the_content_of_a_model_with_a_template() {
        let mut answer = Answer::of_template("STOP");
        assert!(!answer.write(&["<think>", "STOP", "</think>", "a ST"]));
        assert_eq!(answer.last().text, "a ");
        assert!(answer.write(&["OP <tool_call>"]));
        let expected = [said(MessageKind::Analysis, "STOP"), said(MessageKind::Final, "a ")];
        assert_eq!(answer.messages(), expected);
    }

    #[test]
    fn what_is_wrong_with_a_call_is_said_of_its_message() {
        let mut answer = Answer::of_template("STOP");
        let call = "<tool_call>{\"name\":\"find\",\"arguments\":{\"q\"";
        answer.write(&[call, "!}", " Sorry"]);
        answer.end("<|endoftext|>");
        let told = answer.pieces.iter().filter(|piece| piece.malformed.is_some());
        let told: Vec<_> =
            told.map(|piece| piece.message.as_ref().unwrap().header.kind()).collect();
        assert_eq!(told, [MessageKind::ToolCall]);
        let expected =
            [said(MessageKind::ToolCall, "{\"q\""), said(MessageKind::Final, "!} Sorry")];
        assert_eq!(answer.messages(), expected);
        assert_eq!(answer.malformed(), ["a call of a tool is not JSON"]);
    }
}
