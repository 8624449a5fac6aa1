//! Calls of models with templates: what grammars of answers allow, and answers that must have calls.

use std::{rc::Rc, time::Instant};

use pesi::{
    chat::{
        ChatFormat, ChatTemplate,
        calls::{AnswerParser, Beside, CallFormat, Event},
        harmony::MessageKind,
    },
    constrain::{Constraint, Grammar, Grammars},
    engine::DeviceKind,
    session::{Demands, Session, ToolChoice},
};

use super::{
    answers::{Answer, Said, calling, check, random_model, request, run, schema},
    schemas::{accepts, real_vocabulary},
    smollm2,
};

/// An answer in three parts: what is ahead of calls, calls of `find` and `wait`, what follows.
struct Form {
    format: CallFormat,
    find: &'static str,
    between: &'static str,
    wait: &'static str,
    /// Calls that are not as they must be.
    wrong: &'static [&'static str],
}

const FORMS: [Form; 4] = [
    Form {
        format: CallFormat::Hermes,
        find: "<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": \"</tool_call>\"}}\n</tool_call>",
        between: "\n",
        wait: "<tool_call>\n{\"name\": \"wait\", \"arguments\": {\"ms\": [1]}}\n</tool_call>",
        wrong: &[
            "<tool_call>",
            "<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": 1}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"find\", \"arguments\": {}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"fin\", \"arguments\": {\"q\": \"a\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"wait\", \"arguments\": 1}\n</tool_call>",
            "<tool_call>\n{\"name\": \"wait\", \"arguments\": {}}",
        ],
    },
    Form {
        format: CallFormat::Llama,
        find: "{\"name\": \"find\", \"parameters\": {\"q\": \"a; b\"}}",
        between: "; ",
        wait: "{\"name\": \"wait\", \"parameters\": {}}",
        wrong: &[
            "{\"name\": \"find\", \"parameters\": {\"q\": 1}}",
            "{\"name\": \"other\", \"parameters\": {}}",
            "{\"a\": 1}",
            " {",
            "<|python_tag|>",
        ],
    },
    Form {
        format: CallFormat::Mistral,
        find: "[TOOL_CALLS]find{\"q\": \"[TOOL_CALLS]\"}",
        between: "",
        wait: "[TOOL_CALLS]wait{\"ms\": 1}",
        wrong: &["[TOOL_CALLS]", "[TOOL_CALLS]find{}", "[TOOL_CALLS]fi{\"q\": \"a\"}"],
    },
    // Calls in one list: where it begins and ends is told below.
    Form {
        format: CallFormat::Mistral,
        find: "[TOOL_CALLS] [{\"name\": \"find\", \"arguments\": {\"q\": \"]\"}, \"id\": \"a1B2c3D4e\"}",
        between: "",
        wait: ", {\"name\": \"wait\", \"arguments\": {}}",
        wrong: &["[TOOL_CALLS] []", "[TOOL_CALLS] [{\"name\": \"wait\", \"arguments\": {}}"],
    },
];

impl Form {
    fn is_list(&self) -> bool {
        self.wait.starts_with(',')
    }

    /// The calls of one tool or of both.
    fn calls(&self, n: usize) -> String {
        let Self { find, between, wait, .. } = self;
        let calls = if n == 1 { (*find).to_owned() } else { format!("{find}{between}{wait}") };
        if self.is_list() { calls + "]" } else { calls }
    }
}

const FIND: &str = r#"{"type":"object","properties":{"q":{"type":"string"}},"required":["q"],
    "additionalProperties":false}"#;

fn grammar(
    grammars: &Grammars,
    format: CallFormat,
    beside: Beside<'_>,
    is_single: bool,
) -> Grammar {
    let tools = [("find", "find".to_owned()), ("wait", "wait".to_owned())];
    let lark = format.grammar(&|_| None, &tools, beside, is_single);
    let parts = [
        ("find".to_owned(), Constraint::JsonSchema(FIND.to_owned())),
        ("wait".to_owned(), Constraint::JsonObject),
        ("answer".to_owned(), Constraint::Regex("(yes|no), it is".to_owned())),
    ];
    let n_parts = if matches!(beside, Beside::Rule(_)) { 3 } else { 2 };
    grammars.compose(&Constraint::Lark(lark), &parts[..n_parts]).unwrap()
}

/// How many calls a parser reads in an answer, in which nothing may be malformed.
fn n_calls(format: CallFormat, text: &str) -> usize {
    let functions = ["find", "wait"].map(str::to_owned).to_vec();
    let mut parser = AnswerParser::new(Some(format), functions, "");
    let mut events = parser.push(text.as_bytes());
    events.extend(parser.finish());
    let is_wrong = |event: &&Event| matches!(event, Event::Malformed { .. });
    assert_eq!(events.iter().find(is_wrong), None, "{text}");
    let is_call = |event: &&Event| match event {
        Event::Started { header, .. } => header.kind() == MessageKind::ToolCall,
        _ => false,
    };
    events.iter().filter(is_call).count()
}

#[test]
fn answers_with_calls_are_those_that_are_read_as_such() {
    let (tokenizer, grammars) = real_vocabulary();
    let (mut times, started) = (Vec::new(), Instant::now());
    for form in &FORMS {
        let format = form.format;
        let (one, two) = (form.calls(1), form.calls(2));
        let is_llama = format == CallFormat::Llama;
        let all = [Beside::Nothing, Beside::Text, Beside::Rule("answer")];
        for (beside, is_single) in all.into_iter().flat_map(|b| [(b, false), (b, true)]) {
            let grammar = grammar(&grammars, format, beside, is_single);
            let (is_text, is_rule) = (beside == Beside::Text, beside == Beside::Rule("answer"));
            let mut cases = vec![
                (one.clone(), true),
                (two.clone(), !is_single),
                (format!("\n\n{one}"), true),
                (format!("{one}\n\nDone."), false),
                (format!("Let me see. {one}"), is_text),
                ("Just a < b, [TOOL and <tool_cal, {.\n".to_owned(), is_text),
                (String::new(), is_text),
                ("yes, it is".to_owned(), is_text || is_rule),
                (format!("yes, it is{one}"), is_text),
            ];
            cases.extend(form.wrong.iter().map(|text| ((*text).to_owned(), false)));
            cases.push((format!("So: {}", form.wrong[0]), is_text && is_llama));
            for (text, allowed) in cases {
                let whole = tokenizer.encode(&text).unwrap();
                let characters = text.chars().map(|c| tokenizer.encode(&c.to_string()).unwrap());
                for tokens in [whole, characters.flatten().collect()] {
                    let found = accepts(&grammar, &tokens, &mut times).unwrap();
                    let what = format!("{format:?}, {beside:?}, single: {is_single}: {text:?}");
                    assert_eq!(found, allowed, "{what}");
                }
                if allowed {
                    // Within text, a bracket opens no call of Llama's.
                    let is_call = !is_llama || text.trim_start().starts_with('{');
                    let n = if text.contains(&two) { 2 } else { text.contains(&one).into() };
                    let expected = if is_call { n } else { 0 };
                    assert_eq!(n_calls(format, &text), expected, "{format:?}: {text:?}");
                }
            }
        }
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{} masks, median {:.0?}, p99 {:.0?}", times.len(), at(0.5), at(0.99));
    println!("{:.0?} in all", started.elapsed());
}

#[test]
fn where_nothing_may_be_called_there_is_no_call() {
    let (tokenizer, grammars) = real_vocabulary();
    for form in &FORMS {
        let lark = form.format.grammar(&|_| None, &[], Beside::Text, false);
        let grammar = grammars.compose(&Constraint::Lark(lark), &[]).unwrap();
        for (text, allowed) in [
            ("Hello <there>, [TOOL".to_owned(), true),
            (String::new(), true),
            (form.calls(1), false),
            (format!("So {}", form.calls(1)), form.format == CallFormat::Llama),
        ] {
            let tokens = tokenizer.encode(&text).unwrap();
            let found = accepts(&grammar, &tokens, &mut Vec::new()).unwrap();
            assert_eq!(found, allowed, "{:?}: {text:?}", form.format);
        }
    }
}

/// The model of a session, as if it had been made with a template that has calls of this form.
fn with_template(session: &mut Session, format: CallFormat) {
    let mark = match format {
        CallFormat::Hermes => "<tool_call>",
        CallFormat::Llama => "<|python_tag|>",
        CallFormat::Mistral => "[TOOL_CALLS]",
    };
    let source = format!("{{{{ tools }}}}{{% if false %}}{mark}{{% endif %}}");
    let template = ChatTemplate::new(&source, None, None).unwrap();
    assert_eq!(template.calls(), Some(format));
    let description = Rc::get_mut(&mut session.description).expect("nobody else has it");
    description.chat = Some(ChatFormat::Template(Box::new(template)));
}

const FORMATS: [CallFormat; 3] = [CallFormat::Hermes, CallFormat::Llama, CallFormat::Mistral];

const PROMPT: &str = "<|im_start|>user\nSet the unit, or pick.<|im_end|>\n<|im_start|>assistant\n";

/// The tools that an answer calls: 0 for `set_unit`, 1 for `pick`. Whatever the model, nothing is
/// malformed, and arguments follow the schemas.
fn called(answer: &Answer, what: &str) -> Vec<usize> {
    let messages = answer.messages();
    let calls = messages.iter().filter(|message| message.0 == MessageKind::ToolCall);
    let read = |(_, recipient, text): &Said<'_>| {
        let pick = *recipient == Some("functions.pick");
        assert!(pick || *recipient == Some("functions.set_unit"), "{what}: {messages:?}");
        check(&schema(if pick { "one_of_disjoint" } else { "enum" }), text, what);
        usize::from(pick)
    };
    calls.map(read).collect()
}

#[test]
fn calls_of_a_real_model_are_those_demanded() {
    let mut session = smollm2::open(&DeviceKind::Cpu, 256);
    let tokens = session.tokenizer().encode(PROMPT).unwrap();
    for format in FORMATS {
        with_template(&mut session, format);
        let demands = Demands { single_call: true, ..calling(ToolChoice::Required) };
        let answer = run(&mut session, &request(tokens.clone(), 60, 0, demands)).unwrap();
        let what = format!("{format:?}: {}", answer.text());
        assert!(answer.has_ended, "{what}");
        assert_eq!(called(&answer, &what).len(), 1, "{what}");
        assert_eq!(answer.messages().len(), 1, "{what}");
    }
}

#[test]
fn calls_of_a_random_model_are_those_demanded() {
    let (mut session, tokens, mut bias) = random_model(&DeviceKind::Cpu);
    // Without it, texts and numbers would hardly come to an end.
    for text in ["\"", "}"] {
        bias.extend(session.tokenizer().encode(text).unwrap().iter().map(|&token| (token, 6.0)));
    }
    let mut draw = |format, choice: &ToolChoice, single_call, seed| {
        with_template(&mut session, format);
        let demands = Demands { single_call, ..calling(choice.clone()) };
        let mut request = request(tokens.clone(), 120, seed, demands);
        request.sampling.logit_bias.clone_from(&bias);
        run(&mut session, &request).unwrap()
    };
    for format in FORMATS {
        let (mut n_called, mut n_ended, mut n) = ([0, 0], 0, 0);
        let named = ["set_unit", "pick"].map(|name| ToolChoice::Named(name.to_owned()));
        for choice in named.iter().chain([&ToolChoice::Required]) {
            for (seed, single_call) in (0..4).flat_map(|seed| [(seed, false), (seed, true)]) {
                let answer = draw(format, choice, single_call, seed);
                n += 1;
                if !answer.has_ended {
                    continue;
                }
                n_ended += 1;
                let what = format!("{format:?}, {choice:?}, seed {seed}: {}", answer.text());
                let called = called(&answer, &what);
                assert_eq!(called.len(), answer.messages().len(), "{what}");
                assert!(!called.is_empty() && (called.len() == 1 || !single_call), "{what}");
                let allowed = [0, 1].map(|tool| match choice {
                    ToolChoice::Required => true,
                    named => *named == ToolChoice::Named(["set_unit", "pick"][tool].to_owned()),
                });
                assert!(called.iter().all(|&tool| allowed[tool]), "{what}");
                called.iter().for_each(|&tool| n_called[tool] += 1);
            }
        }
        println!("{format:?}: {n_ended} of {n} ended, calls of each {n_called:?}");
        assert!(n_ended * 2 > n && n_called[0] > 0 && n_called[1] > 0, "{format:?}");
        for (seed, single_call) in [(0, false), (1, true), (2, true)] {
            let answer = draw(format, &ToolChoice::Auto, single_call, seed);
            if answer.has_ended {
                let called = called(&answer, "a choice of the model's");
                assert!(called.len() <= 1 || !single_call);
            }
            let none = draw(format, &ToolChoice::None, single_call, seed);
            assert_eq!(called(&none, "no call"), [0; 0], "{format:?}");
        }
    }
}
