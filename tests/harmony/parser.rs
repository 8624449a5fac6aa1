//! The parser on what models write, also where they do not keep to the format.

use pesi::chat::harmony::{End, Event, Header, MessageKind, Problem, Role, StreamParser};

use crate::{HARMONY, TOKENIZER};

/// A token as a model writes it: its id and its bytes.
pub type Token = (u32, Vec<u8>);

/// The tokens of `text`, in which markers are markers.
pub fn tokens(text: &str) -> Vec<Token> {
    let ids = TOKENIZER.encode(text).unwrap();
    ids.into_iter().map(|id| (id, TOKENIZER.token_bytes(id).unwrap().to_vec())).collect()
}

/// The same bytes and markers, but each byte of text a token of its own.
pub fn byte_by_byte(tokens: &[Token]) -> Vec<Token> {
    let single = |(id, bytes): &Token| match TOKENIZER.is_special(*id) {
        true => vec![(*id, bytes.clone())],
        // The id of a token of text does not matter.
        false => bytes.iter().map(|byte| (0, vec![*byte])).collect(),
    };
    tokens.iter().flat_map(single).collect()
}

/// The events of `tokens`, with texts that follow each other joined.
pub fn events(tokens: &[Token], role: Option<Role>) -> Vec<Event> {
    let mut parser = StreamParser::new(&HARMONY, role);
    let mut events: Vec<Event> = Vec::new();
    let pieces = tokens.iter().map(|(id, bytes)| parser.push(*id, bytes)).collect::<Vec<_>>();
    for event in pieces.into_iter().flatten().chain(parser.finish()) {
        match (events.last_mut(), event) {
            (Some(Event::Text { text, .. }), Event::Text { text: more, .. }) => {
                assert!(!more.is_empty());
                text.push_str(&more);
            }
            (_, event) => events.push(event),
        }
    }
    assert_eq!(parser.finish(), []);
    events
}

fn written(text: &str) -> Vec<Event> {
    events(&tokens(text), Some(Role::Assistant))
}

fn header(channel: &str) -> Header {
    Header {
        role: Role::Assistant,
        name: None,
        recipient: None,
        channel: (!channel.is_empty()).then(|| channel.to_owned()),
        content_type: None,
    }
}

/// A whole message without a recipient.
fn message(index: usize, channel: &str, text: &str, end: End) -> Vec<Event> {
    let mut events = vec![Event::Started { index, header: header(channel) }];
    if !text.is_empty() {
        events.push(Event::Text { index, text: text.to_owned() });
    }
    events.push(Event::Ended { index, end });
    events
}

fn malformed(problem: Problem, text: &str) -> Vec<Event> {
    vec![Event::Malformed { problem, text: text.to_owned() }]
}

/// The header of the only message of `text`, which has nothing wrong with it.
fn only_header(text: &str) -> Header {
    match &written(text)[..] {
        [Event::Started { header, .. }, Event::Text { .. }, Event::Ended { .. }] => header.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn text_is_passed_on_while_it_comes_and_characters_whole() {
    let mut parser = StreamParser::new(&HARMONY, Some(Role::Assistant));
    for (id, bytes) in tokens("<|channel|>final") {
        assert_eq!(parser.push(id, &bytes), []);
    }
    let (id, bytes) = &tokens("<|message|>")[0];
    let started = Event::Started { index: 0, header: header("final") };
    assert_eq!(parser.push(*id, bytes), [started]);
    let said = |text: &str| vec![Event::Text { index: 0, text: text.to_owned() }];
    assert_eq!(parser.push(0, b"So \xF0\x9F"), said("So "));
    assert_eq!(parser.push(0, b"\x99"), []);
    assert_eq!(parser.push(0, b"\x82!"), said("🙂!"));
    assert_eq!(parser.push(0, b"\xC3"), []);
    let (id, bytes) = &tokens("<|return|>")[0];
    let ended = Event::Ended { index: 0, end: End::Return };
    assert_eq!(parser.push(*id, bytes), [said("\u{FFFD}"), vec![ended]].concat());
    assert_eq!(parser.finish(), []);
}

#[test]
fn the_parts_of_an_answer_are_told_apart() {
    let text = "<|channel|>analysis<|message|>Hm.<|end|>\
                <|start|>assistant<|channel|>commentary<|message|>I look.<|end|>\
                <|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json\
                <|message|>{}<|call|>\
                <|start|>functions.look to=assistant<|channel|>commentary<|message|>1<|end|>\
                <|start|>assistant<|channel|>final<|message|>1!<|return|>";
    let mut said = Vec::new();
    for event in written(text) {
        match event {
            Event::Started { header, .. } => said.push((header.kind(), header.role, String::new())),
            Event::Text { text, .. } => said.last_mut().unwrap().2 = text,
            Event::Ended { .. } => {}
            Event::Malformed { .. } => panic!("{event:?}"),
        }
    }
    let expected = [
        (MessageKind::Analysis, Role::Assistant, "Hm."),
        (MessageKind::Preamble, Role::Assistant, "I look."),
        (MessageKind::ToolCall, Role::Assistant, "{}"),
        (MessageKind::Other, Role::Tool, "1"),
        (MessageKind::Final, Role::Assistant, "1!"),
    ];
    assert_eq!(said, expected.map(|(kind, role, text)| (kind, role, text.to_owned())));
}

#[test]
fn headers_come_in_several_forms() {
    let call = |content_type: Option<&str>, channel, recipient: &str| Header {
        recipient: Some(recipient.to_owned()),
        content_type: content_type.map(str::to_owned),
        ..header(channel)
    };
    let (json, plain) = (Some("<|constrain|>json"), Some("json"));
    for (text, expected) in [
        (
            "<|channel|>commentary to=functions.f <|constrain|>json",
            call(json, "commentary", "functions.f"),
        ),
        (
            " to=functions.f<|channel|>commentary <|constrain|>json",
            call(json, "commentary", "functions.f"),
        ),
        (
            "<|channel|>commentary to=functions.f<|constrain|>json",
            call(json, "commentary", "functions.f"),
        ),
        (
            " to=functions.f<|channel|>commentary<|constrain|>json",
            call(json, "commentary", "functions.f"),
        ),
        (
            " to=functions.f <|constrain|>json<|channel|>commentary",
            call(json, "commentary", "functions.f"),
        ),
        ("<|channel|>commentary to=functions.f json", call(plain, "commentary", "functions.f")),
        (" to=functions.f<|channel|>commentary json", call(plain, "commentary", "functions.f")),
        ("<|channel|>commentary functions.f json", call(plain, "commentary", "functions.f")),
        ("<|channel|>commentary functions.f", call(None, "commentary", "functions.f")),
        ("assistant<|channel|>commentary to=functions.f", call(None, "commentary", "functions.f")),
        (
            "<|channel|>analysis to=browser.search code",
            call(Some("code"), "analysis", "browser.search"),
        ),
        ("<|channel|>analysis to=python code", call(Some("code"), "analysis", "python")),
        (" to=python<|channel|>analysis code", call(Some("code"), "analysis", "python")),
        (
            "<|channel|>final <|constrain|>json",
            Header { content_type: json.map(str::to_owned), ..header("final") },
        ),
        ("<|channel|>final", header("final")),
        ("<|channel|> final ", header("final")),
    ] {
        let parsed = only_header(&format!("{text}<|message|>x<|end|>"));
        assert_eq!(parsed, expected, "{text}");
    }
    assert_eq!(call(json, "final", "python").constraint(), Some("json"));
    assert_eq!(call(plain, "final", "python").constraint(), None);
}

#[test]
fn authors_other_than_the_assistant_are_read() {
    let read = |text: &str| {
        let events = events(&tokens(text), None);
        let Some(Event::Started { header, .. }) = events.first() else { panic!("{events:?}") };
        (header.role, header.name.clone(), header.recipient.clone())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(read("<|start|>user<|message|>x<|end|>"), (Role::User, None, None));
    assert_eq!(read("<|start|>user:anna<|message|>x<|end|>"), (Role::User, some("anna"), None));
    assert_eq!(
        read("<|start|>python to=assistant<|channel|>analysis<|message|>x<|end|>"),
        (Role::Tool, some("python"), some("assistant"))
    );
}

#[test]
fn what_is_not_harmony_is_reported_and_read_as_what_it_means() {
    use Problem::*;
    let cut = |index, channel, text| message(index, channel, text, End::Cut);
    let ended = |index, channel, text| message(index, channel, text, End::Message);
    for (text, expected) in [
        ("", vec![]),
        // An answer without the format.
        ("Hi there", vec![malformed(HeaderTruncated, ""), cut(0, "", "Hi there")]),
        ("Hi<|return|>", vec![malformed(HeaderTruncated, ""), message(0, "", "Hi", End::Return)]),
        ("<|end|>", vec![malformed(HeaderTruncated, "")]),
        (
            "<|channel|>final Hi<|end|>",
            vec![malformed(HeaderTruncated, ""), ended(0, "final", " Hi")],
        ),
        ("<|channel|>analysis", vec![malformed(HeaderTruncated, ""), cut(0, "analysis", "")]),
        // A message that begins within another.
        (
            "<|channel|>analysis<|message|>Hm\
             <|start|>assistant<|channel|>final<|message|>Hi<|end|>",
            vec![
                vec![
                    Event::Started { index: 0, header: header("analysis") },
                    Event::Text { index: 0, text: "Hm".to_owned() },
                ],
                malformed(MissingEnd, ""),
                vec![Event::Ended { index: 0, end: End::Cut }],
                ended(1, "final", "Hi"),
            ],
        ),
        (
            "<|channel|>analysis<|message|>Hm<|channel|>final<|message|>Hi<|end|>",
            vec![
                vec![
                    Event::Started { index: 0, header: header("analysis") },
                    Event::Text { index: 0, text: "Hm".to_owned() },
                ],
                malformed(MissingEnd, ""),
                vec![Event::Ended { index: 0, end: End::Cut }],
                ended(1, "final", "Hi"),
            ],
        ),
        (
            "Hi there<|start|>assistant<|channel|>final<|message|>Hi<|end|>",
            vec![malformed(HeaderTruncated, ""), cut(0, "", "Hi there"), ended(1, "final", "Hi")],
        ),
        // Something between messages.
        (
            "<|channel|>final<|message|>a<|end|>b<|end|>",
            vec![ended(0, "final", "a"), malformed(TextOutsideMessage, ""), ended(1, "", "b")],
        ),
        (
            "<|channel|>final<|message|>a<|end|><|channel|>final<|message|>b<|end|>",
            vec![ended(0, "final", "a"), malformed(MissingStart, ""), ended(1, "final", "b")],
        ),
        (
            "<|channel|>final<|message|>a<|end|><|message|>b<|end|><|end|>",
            vec![
                ended(0, "final", "a"),
                malformed(MissingStart, ""),
                malformed(MissingChannel, ""),
                ended(1, "", "b"),
                malformed(StrayMarker, "<|end|>"),
            ],
        ),
        // Headers.
        ("<|message|>a<|end|>", vec![malformed(MissingChannel, ""), ended(0, "", "a")]),
        ("<|channel|><|message|>a<|end|>", vec![malformed(MissingChannel, ""), ended(0, "", "a")]),
        (
            "<|channel|>musing<|message|>a<|end|>",
            vec![malformed(UnknownChannel, "musing"), ended(0, "musing", "a")],
        ),
        (
            "<|channel|>analysis x<|channel|>final<|message|>a<|end|>",
            vec![malformed(RepeatedMarker, "analysis x"), ended(0, "final", "a")],
        ),
        (
            "<|channel|>fin<|start|>assistant<|channel|>final<|message|>a<|end|>",
            vec![malformed(HeaderTruncated, "fin"), ended(0, "final", "a")],
        ),
        (
            " to=functions.f<|start|>assistant<|channel|>final<|message|>a<|end|>",
            vec![malformed(HeaderTruncated, " to=functions.f"), ended(0, "final", "a")],
        ),
        (
            "<|end|><|start|><|channel|>final<|message|>a<|end|>",
            vec![
                malformed(HeaderTruncated, ""),
                malformed(MissingAuthor, ""),
                ended(0, "final", "a"),
            ],
        ),
        // Markers within a text.
        (
            "<|channel|>final<|message|><|message|><|constrain|><|endoftext|>a<|end|>",
            vec![
                vec![Event::Started { index: 0, header: header("final") }],
                malformed(StrayMarker, "<|message|>"),
                malformed(StrayMarker, "<|constrain|>"),
                malformed(StrayMarker, "<|endoftext|>"),
                vec![
                    Event::Text { index: 0, text: "a".to_owned() },
                    Event::Ended { index: 0, end: End::Message },
                ],
            ],
        ),
    ] {
        assert_eq!(written(text), expected.concat(), "{text}");
    }
}

#[test]
fn only_a_prompt_that_nothing_follows_may_end_in_a_header() {
    assert_eq!(written(""), []);
    let truncated = malformed(Problem::HeaderTruncated, "");
    assert_eq!(events(&tokens("<|start|>"), None), truncated);
    assert_eq!(events(&tokens("<|start|>assistant"), None), truncated);
}

#[test]
fn a_limit_drops_a_header_that_has_begun_and_nothing_else() {
    let rest = |text: &str, role| {
        let mut parser = StreamParser::new(&HARMONY, role);
        for (id, bytes) in tokens(text) {
            let _ = parser.push(id, &bytes);
        }
        let rest = parser.cut();
        assert_eq!(parser.finish(), [], "{text}");
        rest
    };
    for text in [
        "",
        "<|channel|>",
        "<|channel|>analysis",
        "<|channel|>commentary to=functions.f <|constrain|>js",
        " to=functions.f",
        "to=functions.f <|constrain|>json",
        "<|channel|>final<|message|>a<|end|>",
        "<|channel|>final<|message|>a<|end|><|start|>",
        "<|channel|>final<|message|>a<|end|><|start|>assistant",
    ] {
        assert_eq!(rest(text, Some(Role::Assistant)), [], "{text}");
    }
    assert_eq!(rest("<|start|>assistant to=functions.f", None), []);
    let expected = [malformed(Problem::HeaderTruncated, ""), message(0, "", "Hi", End::Cut)];
    assert_eq!(rest("Hi", Some(Role::Assistant)), expected.concat());
    let ended = Event::Ended { index: 0, end: End::Cut };
    assert_eq!(rest("<|channel|>final<|message|>a", Some(Role::Assistant)), [ended]);
}

#[test]
fn words_without_a_meaning_are_reported() {
    let problems = |text: &str| -> Vec<(Problem, String)> {
        let events = written(text).into_iter();
        events
            .filter_map(|event| match event {
                Event::Malformed { problem, text } => Some((problem, text)),
                _ => None,
            })
            .collect()
    };
    let text = "<|channel|>commentary well then to=functions.f json<|message|>{}<|call|>";
    assert_eq!(problems(text), [(Problem::UnknownWords, "well then".to_owned())]);
    let text =
        "<|channel|>final<|message|>a<|end|><|start|>nobody<|channel|>final<|message|>b<|end|>";
    assert_eq!(problems(text), [(Problem::UnknownAuthor, "nobody".to_owned())]);
}

#[test]
fn a_header_without_end_becomes_a_text() {
    let text = "to be or not ".repeat(1000);
    let expected = [malformed(Problem::HeaderTooLong, ""), message(0, "", &text, End::Message)];
    assert_eq!(written(&format!("{text}<|end|>")), expected.concat());
    let long = "x".repeat(1023) + "è" + &"y".repeat(3000);
    let expected =
        [malformed(Problem::HeaderTooLong, ""), message(0, "", &long, End::Cut)].concat();
    assert_eq!(events(&tokens(&long), Some(Role::Assistant)), expected);
    assert_eq!(events(&byte_by_byte(&tokens(&long)), Some(Role::Assistant)), expected);
}
