//! Conversations and completions that OpenAI's Python package rendered and parsed.

use pesi::chat::harmony::{Conversation, Message, RenderOptions, Role};
use serde::Deserialize;
use serde_json::Value;

use crate::{HARMONY, TOKENIZER};

#[derive(Deserialize)]
struct Golden {
    render: Vec<Rendered>,
    parse: Vec<Completion>,
}

#[derive(Deserialize)]
struct Rendered {
    name: String,
    conversation: Value,
    tokens: Vec<u32>,
    tokens_no_drop: Vec<u32>,
    text: String,
}

#[derive(Deserialize)]
struct Completion {
    name: String,
    role: String,
    tokens: Vec<u32>,
    messages: Vec<Message>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/harmony/public.json")).unwrap()
}

#[test]
fn conversations_render_as_in_the_reference() {
    let golden = golden();
    assert_eq!(golden.render.len(), 9);
    for case in golden.render {
        let conversation: Conversation = serde_json::from_value(case.conversation).unwrap();
        let render = |auto_drop_analysis| {
            let options = RenderOptions { auto_drop_analysis };
            HARMONY
                .render_for_completion(&TOKENIZER, &conversation, Role::Assistant, options)
                .unwrap()
        };
        assert_eq!(TOKENIZER.decode(&render(true)), case.text, "{}", case.name);
        assert_eq!(render(true), case.tokens, "{}", case.name);
        assert_eq!(render(false), case.tokens_no_drop, "{}", case.name);
    }
}

#[test]
fn completions_parse_as_in_the_reference() {
    let golden = golden();
    assert_eq!(golden.parse.len(), 5);
    for case in golden.parse {
        let parsed = HARMONY.parse(&TOKENIZER, Role::named(&case.role), &case.tokens);
        assert_eq!(parsed.messages, case.messages, "{}", case.name);
        assert_eq!(parsed.problems, [], "{}", case.name);
    }
}
