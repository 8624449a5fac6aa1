//! Answers of models with templates, taken apart: what scripts of each format lead to, however their
//! text is cut, and texts of any kind.

use pesi::{
    chat::{
        calls::{AnswerParser, CallFormat, Event},
        harmony::MessageKind,
    },
    tokenizer::{GgufVocabulary, Tokenizer},
};
use proptest::prelude::*;

const HERMES: Option<CallFormat> = Some(CallFormat::Hermes);
const LLAMA: Option<CallFormat> = Some(CallFormat::Llama);
const MISTRAL: Option<CallFormat> = Some(CallFormat::Mistral);

const NOT_JSON: &str = "! a call of a tool is not JSON";
const UNFINISHED: &str = "! the answer ends within a call of a tool";
const MISSING_NAME: &str = "! a call of a tool does not name it";
const UNKNOWN: &str = "! a call is of a tool that there is not";
const BAD_ARGUMENTS: &str = "! the arguments of a call are no object";
const REPEATED: &str = "! a call has a second name or second arguments";
const TEXT_AFTER: &str = "! there is text after a call of a tool";

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ByItself,
    ByLimit,
}

fn parser(format: Option<CallFormat>) -> AnswerParser {
    AnswerParser::new(format, vec!["find".to_owned(), "wait".to_owned()], "")
}

/// What the pieces lead to, a line for each run of text, each call and each problem. Checks that
/// messages are numbered, begin with text or a problem, and end.
fn told<B: AsRef<[u8]>>(mut parser: AnswerParser, pieces: &[B], end: End) -> Vec<String> {
    let mut events: Vec<Event> =
        pieces.iter().flat_map(|piece| parser.push(piece.as_ref())).collect();
    events.extend(match end {
        End::ByItself => parser.finish(),
        End::ByLimit => parser.cut(),
    });
    let mut lines: Vec<String> = Vec::new();
    let mut label: Option<String> = None;
    let (mut n_started, mut is_run) = (0, false);
    for event in events {
        match event {
            Event::Started { index, header } => {
                assert_eq!((index, &label), (n_started, &None));
                n_started += 1;
                is_run = false;
                label = Some(match header.kind() {
                    MessageKind::Analysis => "thinks".to_owned(),
                    MessageKind::Final => "says".to_owned(),
                    MessageKind::ToolCall => {
                        assert_eq!(header.constraint(), Some("json"));
                        let name = header.recipient.as_deref().unwrap();
                        name.strip_prefix("functions.").unwrap().to_owned()
                    }
                    kind => panic!("{kind:?}"),
                });
            }
            Event::Text { index, text } => {
                assert_eq!(index + 1, n_started);
                assert!(!text.is_empty());
                if is_run {
                    lines.last_mut().unwrap().push_str(&text);
                } else {
                    lines.push(format!("{}: {text}", label.as_ref().unwrap()));
                }
                is_run = true;
            }
            Event::Ended { index } => {
                assert_eq!(index + 1, n_started);
                assert!(label.take().is_some());
            }
            Event::Malformed { problem } => {
                assert!(label.is_some(), "a problem is that of a message");
                lines.push(format!("! {}", problem.as_str()));
                is_run = false;
            }
        }
    }
    assert_eq!(label, None, "all messages have ended");
    lines
}

/// Checks what an answer leads to, in all ways to cut it in two, and in characters and bytes.
fn check_end(format: Option<CallFormat>, text: &str, end: End, expected: &[&str]) {
    assert_eq!(told(parser(format), &[text], end), expected, "{text}");
    for index in 0..=text.len() {
        let (first, second) = text.as_bytes().split_at(index);
        assert_eq!(told(parser(format), &[first, second], end), expected, "{text} at {index}");
    }
    let characters: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(told(parser(format), &characters, end), expected, "{text} by characters");
    let bytes: Vec<[u8; 1]> = text.bytes().map(|byte| [byte]).collect();
    assert_eq!(told(parser(format), &bytes, end), expected, "{text} by bytes");
}

fn check(format: Option<CallFormat>, text: &str, expected: &[&str]) {
    check_end(format, text, End::ByItself, expected);
}

#[test]
fn an_answer_without_markers_is_content_to_the_letter() {
    for text in ["Hi", " Hi \n", "\n\n", "a < b <b> [x] {y} </think>", "è🙂 <thin", ""] {
        let line = format!("says: {text}");
        let expected = if text.is_empty() { vec![] } else { vec![line.as_str()] };
        for format in [None, HERMES, LLAMA, MISTRAL] {
            check(format, text, &expected);
            check_end(format, text, End::ByLimit, &expected);
        }
    }
}

#[test]
fn thoughts_are_told_apart_with_any_format() {
    for format in [None, HERMES, LLAMA, MISTRAL] {
        check(
            format,
            "\n<think>\nHm, <b> 🙂\n</think>\n\nHi <think>\n",
            &["thinks: Hm, <b> 🙂", "says: Hi <think>\n"],
        );
        check(format, "<think>\n\n</think>\n\nHi", &["says: Hi"]);
        check(format, "<think></think>", &[]);
        check(format, "<think>Hm </thin", &["thinks: Hm </thin"]);
        check_end(format, "<think>Hm", End::ByLimit, &["thinks: Hm"]);
        check(format, "a<think>b</think>", &["says: a<think>b</think>"]);
        check(format, "<thinking>a", &["says: <thinking>a"]);
        check(format, "<think>a</think><think>b</think>", &["thinks: a", "says: <think>b</think>"]);
    }
}

#[test]
fn a_prompt_that_ends_within_thoughts_begins_the_answer_there() {
    for prompt in ["<|Assistant|><think>\n", "<think>", "<think>  \n\n"] {
        let parser = AnswerParser::new(HERMES, Vec::new(), prompt);
        let lines = told(parser, &["\nHm.\n", "</thi", "nk>\n\nHi"], End::ByItself);
        assert_eq!(lines, ["thinks: Hm.", "says: Hi"], "{prompt}");
    }
    for prompt in ["<think>\n\n</think>\n\n", "<think> a", "think>"] {
        let parser = AnswerParser::new(HERMES, Vec::new(), prompt);
        assert_eq!(told(parser, &["Hm"], End::ByItself), ["says: Hm"], "{prompt}");
    }
}

#[test]
fn calls_are_text_where_there_is_nothing_to_call() {
    for (format, text) in [
        (HERMES, "<tool_call>{\"name\":\"find\",\"arguments\":{}}</tool_call>"),
        (LLAMA, "{\"name\":\"find\",\"parameters\":{}}"),
        (LLAMA, "<|python_tag|>{\"name\":\"find\",\"parameters\":{}}"),
        (MISTRAL, "[TOOL_CALLS] [{\"name\":\"find\",\"arguments\":{}}]"),
    ] {
        let parser = AnswerParser::new(format, Vec::new(), "");
        let line = format!("says: {text}");
        assert_eq!(told(parser, &[text], End::ByItself), [line.as_str()]);
        check(None, text, &[&line]);
    }
}

#[test]
fn hermes_calls_are_objects_between_markers() {
    check(
        HERMES,
        "<think>\nI look.\n</think>\n\nOne moment.\n<tool_call>\n\
         {\"name\": \"find\", \"arguments\": {\"q\": \"a } \\\" ] { <\\/x> \\u00e8\", \"in\": [{\"è🙂\": {}}]}}\n\
         </tool_call>\n<tool_call>\n{\"name\": \"wait\", \"arguments\": {\"s\": -1.5e+3}}\n</tool_call>\n",
        &[
            "thinks: I look.",
            "says: One moment.",
            "find: {\"q\": \"a } \\\" ] { <\\/x> \\u00e8\", \"in\": [{\"è🙂\": {}}]}",
            "wait: {\"s\": -1.5e+3}",
        ],
    );
    // In any order, without blank space, with members that mean nothing, and text after it.
    check(
        HERMES,
        "<tool_call>{\"id\":[1,{}],\"arguments\" :{ \"q\" : [ ] } ,\"n\":0,\"name\":\"\\u0066ind\"}\
         </tool_call>So <b>",
        &["find: { \"q\" : [ ] }", "says: So <b>"],
    );
    check(
        HERMES,
        "<tool_call>{\"name\":\"find\",\"arguments\":\" {\\\"q\\\": \\\"\\\\n\\ud83d\\ude42\\\"}\\n\"}</tool_call>",
        &["find: {\"q\": \"\\n🙂\"}"],
    );
    check(HERMES, "<tool_call>{\"name\":\"wait\"}</tool_call>", &["wait: {}"]);
    // What closes it is not waited for.
    check(HERMES, "<tool_call>{\"name\":\"wait\"}\n</tool", &["wait: {}"]);
    check(HERMES, "a <tool_cal", &["says: a <tool_cal"]);
    check(HERMES, "<tool_call", &["says: <tool_call"]);
}

#[test]
fn llama_calls_are_objects_after_a_marker_or_the_whole_answer() {
    check(
        LLAMA,
        "<|python_tag|>{\"name\": \"find\", \"parameters\": {\"q\": \"}\"}}",
        &["find: {\"q\": \"}\"}"],
    );
    check(
        LLAMA,
        "\n{\"type\": \"function\", \"name\": \"find\", \"parameters\": {}}; \
         {\"name\": \"wait\", \"parameters\": {\"s\": 1}}\n",
        &["find: {}", "wait: {\"s\": 1}"],
    );
    check(
        LLAMA,
        "<think>Hm</think>\n{\"parameters\": {\"q\": 1}, \"name\": \"find\"}",
        &["thinks: Hm", "find: {\"q\": 1}"],
    );
    check(
        LLAMA,
        "I wait. <|python_tag|>{\"name\":\"wait\",\"parameters\":{}}",
        &["says: I wait.", "wait: {}"],
    );
    // Once it is certain that it is a call, other members may follow.
    check(LLAMA, "{\"name\":\"wait\",\"parameters\":{},\"x\":1}", &["wait: {}"]);
}

#[test]
fn an_object_that_is_no_call_is_content() {
    for text in [
        "{\"name\": \"Alice\", \"age\": 3}",
        "{\"name\": \"find\", \"age\": 3}",
        "{\"name\": \"find\"}",
        "{\"name\": \"find\", ",
        "{\"name\": 5, \"parameters\": {}}",
        "{\"parameters\": 5, \"name\": \"find\"}",
        "{\"parameters\": \"of the orbit\", \"name\": \"find\"}",
        "{\"name\": \"find\", \"name\": \"wait\", \"parameters\": {}}",
        "{\"parameters\": {}, \"parameters\": {}, \"name\": \"wait\"}",
        "{\"parameters\": {\"a\": 1}} ",
        "{\"a\": {\"name\": \"find\", \"parameters\": {}}}",
        "{ \"",
        "{}",
        "{",
        "{x} <b>",
        "[{\"name\": \"find\", \"parameters\": {}}]",
        "So: {\"name\": \"find\", \"parameters\": {}}",
    ] {
        check(LLAMA, text, &[&format!("says: {text}")]);
        check_end(LLAMA, text, End::ByLimit, &[&format!("says: {text}")]);
    }
    check(
        LLAMA,
        "{\"a\":<|python_tag|>{\"name\":\"wait\",\"parameters\":{}}",
        &["says: {\"a\":", "wait: {}"],
    );
    for format in [HERMES, MISTRAL] {
        let text = "{\"name\": \"find\", \"parameters\": {}}";
        check(format, text, &[&format!("says: {text}")]);
    }
}

#[test]
fn mistral_calls_are_a_list_or_stand_alone() {
    check(
        MISTRAL,
        "I look. [TOOL_CALLS] [{\"name\": \"find\", \"arguments\": {\"q\": \"]\"}, \"id\": \"abcdefghi\"}, \
         {\"arguments\": \"{\\\"s\\\": 1}\", \"name\": \"wait\"}]",
        &["says: I look.", "find: {\"q\": \"]\"}", "wait: {\"s\": 1}"],
    );
    check(MISTRAL, "[TOOL_CALLS]{\"name\":\"wait\"}", &["wait: {}"]);
    check(
        MISTRAL,
        "[TOOL_CALLS]find{\"q\": [1]}[TOOL_CALLS]wait[ARGS]{}\
         [TOOL_CALLS] wait [CALL_ID]a1B2c3D4e[ARGS] {\"s\":1} ",
        &["find: {\"q\": [1]}", "wait: {}", "wait: {\"s\":1}"],
    );
    check(MISTRAL, "[TOOL_CALLS]wait[CALL_ID]a1B2c3D4e[ARGS] {\"s\":1}\n", &["wait: {\"s\":1}"]);
    check(MISTRAL, "[TOOL_CALLS] [{\"name\":\"wait\"}", &["wait: {}"]);
    check(MISTRAL, "[TOOL_CALLS] []", &[]);
    check(MISTRAL, "[TOOL_CALLS] [{\"name\":\"wait\"}]\nBye", &["wait: {}", "says: Bye"]);
}

#[test]
fn what_was_to_be_a_call_and_is_none_is_told_as_it_was_written() {
    for (format, open, close) in [
        (HERMES, "<tool_call>\n", "\n</tool_call>"),
        (LLAMA, "<|python_tag|>", ""),
        (MISTRAL, "[TOOL_CALLS]", ""),
        (MISTRAL, "[TOOL_CALLS] [", ""),
    ] {
        for (object, problem) in [
            ("{\"name\": \"steal\", \"arguments\": {\"q\": \"}\"}}", UNKNOWN),
            ("{\"arguments\": {\"q\": 1}, \"name\": \"steal\"}", UNKNOWN),
            ("{\"name\": \"Find\"}", UNKNOWN),
            ("{\"arguments\": {\"q\": 1}}", MISSING_NAME),
            ("{}", MISSING_NAME),
            ("{\"name\": [\"find\"], \"arguments\": {}}", MISSING_NAME),
            ("{\"name\": \"find\", \"arguments\": [1, {}]}", BAD_ARGUMENTS),
            ("{\"name\": \"find\", \"arguments\": null}", BAD_ARGUMENTS),
            ("{\"name\": \"find\", \"arguments\": \"q=1 \\\" \"}", BAD_ARGUMENTS),
            ("{\"name\": \"find\", \"arguments\": \"\"}", BAD_ARGUMENTS),
            ("{\"name\": \"find\", \"name\": \"wait\"}", REPEATED),
            ("{'name': 'find'}", NOT_JSON),
            ("{\"name\": \"find\" \"arguments\": {}}", NOT_JSON),
            ("{name: \"find\"}", NOT_JSON),
        ] {
            let text = format!("So: {open}{object}{close}");
            check(format, &text, &["says: So:", problem, &format!("says: {}", &text[3..])]);
        }
    }
}

#[test]
fn what_goes_wrong_in_a_call_that_has_begun_is_said_of_its_message() {
    let begun = "<tool_call>{\"name\": \"find\", \"arguments\": ";
    for (rest, expected) in [
        ("{\"q\": oh", &["find: {\"q\": ", NOT_JSON, "says: oh"][..]),
        ("{\"q\": 1}\n</tool_call>Bye", &["find: {\"q\": 1}", NOT_JSON, "says: Bye"]),
        ("{\"q\": \"a\nb\"}}", &["find: {\"q\": \"a", NOT_JSON, "says: b\"}}"]),
        (
            "{\"q\": 1}, \"name\": 5}</tool_call>\nBye",
            &["find: {\"q\": 1}", REPEATED, "says: , \"name\": 5}</tool_call>\nBye"],
        ),
        ("{}, \"parameters\": {}}", &["find: {}", REPEATED, "says: , \"parameters\": {}}"]),
        ("\"{\\\"q\\\": oh}\"}", &["find: {\"q\": ", BAD_ARGUMENTS, "says: oh}\"}"]),
        ("\"{} {}\"}", &["find: {}", BAD_ARGUMENTS, "says: {}\"}"]),
        ("\"{\\\"q\\\"\"}", &["find: {\"q\"", BAD_ARGUMENTS, "says: \"}"]),
        // Another call may follow.
        ("{<tool_call>{\"name\": \"wait\"}</tool_call>", &["find: {", NOT_JSON, "wait: {}"]),
    ] {
        check(HERMES, &format!("{begun}{rest}"), expected);
    }
    check(
        LLAMA,
        "{\"name\":\"find\",\"parameters\":{\"q\":}}",
        &["find: {\"q\":", NOT_JSON, "says: }}"],
    );
    check(
        MISTRAL,
        "[TOOL_CALLS] [{\"name\":\"find\",\"arguments\":{\"q\":}}, {\"name\":\"wait\"}]",
        &["find: {\"q\":", NOT_JSON, "says: }}, {\"name\":\"wait\"}]"],
    );
    check(MISTRAL, "[TOOL_CALLS]find{1}", &["find: {", NOT_JSON, "says: 1}"]);
}

#[test]
fn calls_beside_one_that_is_none_are_told() {
    check(
        HERMES,
        "<tool_call>{\"name\":\"find\",\"arguments\":{}}</tool_call>\n\
         <tool_call>{\"name\":\"steal\",\"arguments\":{\"<tool_call>\":1}}</tool_call>\n\
         <tool_call>oh</tool_call>\n\
         <tool_call>{\"name\":\"wait\",\"arguments\":{}}</tool_call>",
        &[
            "find: {}",
            UNKNOWN,
            "says: <tool_call>{\"name\":\"steal\",\"arguments\":{\"<tool_call>\":1}}</tool_call>",
            NOT_JSON,
            "says: \n<tool_call>oh</tool_call>",
            "wait: {}",
        ],
    );
    check(
        MISTRAL,
        "[TOOL_CALLS] [{\"name\":\"steal\"}, {\"name\":\"wait\"}, {\"name\":\"steal\"}, {\"name\":\"find\"}]",
        &[
            UNKNOWN,
            "says: [TOOL_CALLS] [{\"name\":\"steal\"}, ",
            "wait: {}",
            UNKNOWN,
            "says: {\"name\":\"steal\"}, ",
            "find: {}",
        ],
    );
    check(
        MISTRAL,
        "[TOOL_CALLS]steal{\"[TOOL_CALLS]\":1}[TOOL_CALLS]wait{}[TOOL_CALLS]steal[CALL_ID]1[ARGS]{}",
        &[
            UNKNOWN,
            "says: [TOOL_CALLS]steal{\"[TOOL_CALLS]\":1}",
            "wait: {}",
            UNKNOWN,
            "says: [TOOL_CALLS]steal[CALL_ID]1[ARGS]{}",
        ],
    );
    check(
        LLAMA,
        "{\"name\":\"steal\",\"parameters\":{}}; {\"name\":\"wait\",\"parameters\":{}}",
        &[UNKNOWN, "says: {\"name\":\"steal\",\"parameters\":{}}; ", "wait: {}"],
    );
    check(
        LLAMA,
        "{\"parameters\":{},\"name\":\"steal\",\"x\":1}",
        &[UNKNOWN, "says: {\"parameters\":{},\"name\":\"steal\",\"x\":1}"],
    );
    for arguments in ["5", "\"q=1\""] {
        let text = format!("{{\"name\":\"find\",\"parameters\":{arguments}}}");
        check(LLAMA, &text, &[BAD_ARGUMENTS, &format!("says: {text}")]);
    }
}

#[test]
fn text_where_only_calls_should_be_is_content_and_reported() {
    let hermes = "<tool_call>{\"name\":\"wait\"";
    check(
        HERMES,
        &format!("{hermes}}}}}</tool_call>\nBye"),
        &["wait: {}", TEXT_AFTER, "says: }\nBye"],
    );
    check(HERMES, &format!("{hermes}}} </tool> oh"), &["wait: {}", TEXT_AFTER, "says: </tool> oh"]);
    // Neither is missing what closes a call, if the next one follows.
    check(HERMES, &format!("{hermes}}}\n{hermes}}}"), &["wait: {}", "wait: {}"]);
    check(
        HERMES,
        &format!("<tool_call>{{}}\n {hermes}}}</tool_call>"),
        &[MISSING_NAME, "says: <tool_call>{}", "wait: {}"],
    );
    let llama = "{\"name\":\"wait\",\"parameters\":{}}";
    check(LLAMA, &format!("{llama}}}"), &["wait: {}", TEXT_AFTER, "says: }"]);
    check(LLAMA, &format!("{llama}\n Bye"), &["wait: {}", TEXT_AFTER, "says: Bye"]);
    check(LLAMA, &format!("{llama}; oh"), &["wait: {}", NOT_JSON, "says: oh"]);
    let mistral = "[TOOL_CALLS]wait{}";
    check(MISTRAL, &format!("{mistral}}}"), &["wait: {}", TEXT_AFTER, "says: }"]);
    check(MISTRAL, &format!("{mistral} \nBye\n"), &["wait: {}", TEXT_AFTER, "says: Bye\n"]);
    check(MISTRAL, "[TOOL_CALLS] [{\"name\":\"wait\"} oh]", &["wait: {}", TEXT_AFTER, "says: oh]"]);
    for text in
        ["[TOOL_CALLS] \"wait\"", "[TOOL_CALLS]wait[ARG]{}", "[TOOL_CALLS]wait[CALL_ID]é[ARGS]{}"]
    {
        check(MISTRAL, text, &[NOT_JSON, &format!("says: {text}")]);
    }
    let text = "[TOOL_CALLS]wait[ARGS][]";
    check(MISTRAL, text, &[NOT_JSON, &format!("says: {text}")]);
    let text = "[TOOL_CALLS]wait 5";
    check(MISTRAL, text, &[BAD_ARGUMENTS, &format!("says: {text}")]);
}

/// Models have tokens of their own for markers, control tokens or others; some spell them out.
#[test]
fn markers_that_are_tokens_come_as_text() {
    const TOKENS: [&str; 6] =
        ["<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>", "<think>"];
    let tokenizer = Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
        model: "gpt2",
        pre: Some("gpt-4o"),
        tokens: TOKENS.to_vec(),
        // Control tokens, and ones that users may write.
        token_types: &[3, 3, 3, 4, 4, 4],
        ..Default::default()
    });
    let tokenizer = tokenizer.unwrap();
    let object = b"{\"name\":\"wait\"}";
    let token = |id| tokenizer.token_bytes(id).unwrap();
    for (format, pieces) in [
        (LLAMA, vec![token(0), object]),
        (MISTRAL, vec![token(1), object]),
        (MISTRAL, vec![token(1), b"wait", token(2), b"{}"]),
        (HERMES, vec![token(5), b"</think>", token(3), object, token(4)]),
    ] {
        assert_eq!(told(parser(format), &pieces, End::ByItself), ["wait: {}"], "{pieces:?}");
    }
}

/// Answers whose last call is cut, what they lead to where the model ends them, and where a limit does.
#[test]
fn a_call_that_the_model_does_not_finish_is_malformed_and_one_that_a_limit_cuts_is_not() {
    for (format, text, by_itself, by_limit) in [
        (
            HERMES,
            "a <tool_call>\n{\"name\": \"fi",
            &["says: a", UNFINISHED, "says:  <tool_call>\n{\"name\": \"fi"][..],
            &["says: a"][..],
        ),
        (HERMES, "<tool_call>", &[UNFINISHED, "says: <tool_call>"], &[]),
        (
            HERMES,
            "<tool_call>{\"name\":\"find\",\"arguments\":{\"q\"",
            &["find: {\"q\"", UNFINISHED],
            &["find: {\"q\""],
        ),
        (
            HERMES,
            "<tool_call>{\"name\":\"find\",\"arguments\":{}, \"x",
            &["find: {}", UNFINISHED, "says: , \"x"],
            &["find: {}"],
        ),
        (
            HERMES,
            "<tool_call>{\"arguments\":{\"q\"",
            &[UNFINISHED, "says: <tool_call>{\"arguments\":{\"q\""],
            &[],
        ),
        (LLAMA, "<|python_tag|>{\"na", &[UNFINISHED, "says: <|python_tag|>{\"na"], &[]),
        (
            LLAMA,
            "{\"name\":\"find\",\"parameters\":{\"q\":[1,",
            &["find: {\"q\":[1,", UNFINISHED],
            &["find: {\"q\":[1,"],
        ),
        (LLAMA, "{\"name\":\"wait\",\"parameters\":{}}; ", &["wait: {}"], &["wait: {}"]),
        (
            LLAMA,
            "{\"name\":\"wait\",\"parameters\":{}}; {\"na",
            &["wait: {}", UNFINISHED, "says: {\"na"],
            &["wait: {}"],
        ),
        (MISTRAL, "[TOOL_CALLS] [{\"name\"", &[UNFINISHED, "says: [TOOL_CALLS] [{\"name\""], &[]),
        (MISTRAL, "[TOOL_CALLS]fi", &[UNFINISHED, "says: [TOOL_CALLS]fi"], &[]),
        (
            MISTRAL,
            "[TOOL_CALLS]find[CALL_ID]ab",
            &[UNFINISHED, "says: [TOOL_CALLS]find[CALL_ID]ab"],
            &[],
        ),
        (MISTRAL, "[TOOL_CALLS]find{\"q", &["find: {\"q", UNFINISHED], &["find: {\"q"]),
    ] {
        check(format, text, by_itself);
        check_end(format, text, End::ByLimit, by_limit);
    }
}

#[test]
fn text_is_held_back_only_while_it_may_begin_a_marker() {
    let mut parser = parser(HERMES);
    let mut text_of = |piece: &str| -> String {
        let events = parser.push(piece.as_bytes());
        let texts = events.into_iter().filter_map(|event| match event {
            Event::Text { text, .. } => Some(text),
            _ => None,
        });
        texts.collect()
    };
    for (piece, text) in [
        ("<t", ""),
        ("he", "<the"),
        (" x", " x"),
        ("\n", ""),
        ("<tool", ""),
        ("<", "\n<tool"),
        ("b>", "<b>"),
        ("\n<tool_call>{\"name\":\"find\",\"arguments\"", ""),
        (":{\"", "{\""),
        ("a\":\"", "a\":\""),
        ("</tool", "</tool"),
        ("\"}", "\"}"),
        ("}\n", ""),
    ] {
        assert_eq!(text_of(piece), text, "{piece}");
    }
    // Without markers to look for, nothing is.
    let mut parser = AnswerParser::new(None, Vec::new(), "");
    let _ = parser.push(b"a");
    assert_eq!(parser.push(b" <\n").len(), 1);
}

/// Parts that answers of any format are made of, and that break them.
const PARTS: [&str; 40] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "{\"name\": \"find\"",
    "{\"name\":\"steal\"",
    "\"name\":\"wait\"",
    ", \"arguments\": ",
    ",\"parameters\":",
    "{\"q\": [1, {}]}",
    "{\"q\":\"}\"}",
    "\"{\\\"q\\\": 1}\"",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ":",
    ",",
    ";",
    "1",
    "null",
    "find",
    "wait",
    " ",
    "\n",
    "<",
    "</",
    "Hi",
    "è",
    "🙂",
    "\\u00e8",
    "\\ud83d",
    "\u{a0}",
    "{\"name\":\"find\",\"arguments\":{\"q\":1}}",
];

fn answer() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&PARTS[..]), 0..16)
        .prop_map(|parts| parts.concat())
}

fn any_format() -> impl Strategy<Value = Option<CallFormat>> {
    proptest::sample::select(vec![None, HERMES, LLAMA, MISTRAL])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_way_to_cut_an_answer_tells_the_same(
        format in any_format(),
        text in answer(),
        lengths in proptest::collection::vec(1usize..9, 1..200),
        ends_by_itself: bool,
    ) {
        let end = if ends_by_itself { End::ByItself } else { End::ByLimit };
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(
            told(parser(format), &pieces, end),
            told(parser(format), &[&text], end)
        );
    }

    #[test]
    fn calls_are_whole_unless_something_is_malformed(format in any_format(), text in answer()) {
        let lines = told(parser(format), &[&text], End::ByItself);
        for (index, line) in lines.iter().enumerate() {
            let arguments = line.strip_prefix("find: ").or(line.strip_prefix("wait: "));
            let Some(arguments) = arguments else { continue };
            let is_reported = lines.get(index + 1).is_some_and(|next| next.starts_with('!'));
            let object = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(arguments);
            prop_assert!(object.is_ok() || is_reported, "{} in {:?}", arguments, lines);
        }
    }

    #[test]
    fn no_word_is_lost_outside_of_calls(text in answer()) {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().concat();
        let lines = told(parser(None), &[&text], End::ByItself);
        let said: String = lines.iter().filter_map(|line| Some(line.split_once(": ")?.1)).collect();
        let without = |text: &str| words(text).replace("<think>", "").replace("</think>", "");
        prop_assert_eq!(without(&said), without(&text));
    }

    #[test]
    fn any_bytes_lead_to_something(
        format in any_format(),
        bytes: Vec<u8>,
        start in answer(),
    ) {
        let pieces = [start.as_bytes(), &bytes, start.as_bytes()];
        let all = pieces.concat();
        prop_assert_eq!(
            told(parser(format), &pieces, End::ByItself),
            told(parser(format), &[&all], End::ByItself)
        );
    }
}
