//! Conversations and completions that OpenAI's Python package rendered and parsed.

use pesi::{
    chat::harmony::{Conversation, Harmony, Message, RenderOptions, Role},
    tokenizer::{GgufVocabulary, Tokenizer},
};
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

/// A vocabulary of ASCII and these tokens, numbered in their order.
fn small_tokenizer(special: &[&'static str]) -> Tokenizer {
    let ascii: Vec<String> = ('!'..='~').map(String::from).collect();
    let tokens = ascii.iter().map(String::as_str).chain(special.iter().copied());
    let mut token_types = vec![1; ascii.len()];
    token_types.resize(ascii.len() + special.len(), 3);
    Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
        model: "gpt2",
        pre: Some("gpt-4o"),
        tokens: tokens.collect(),
        token_types: &token_types,
        ..Default::default()
    })
    .unwrap()
}

#[test]
fn the_tokens_of_the_format_are_known_by_name() {
    assert_eq!(HARMONY.stop_ids(), [200_002, 200_012]);
    let names = [
        "<|return|>",
        "<|constrain|>",
        "<|channel|>",
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|call|>",
    ];
    let tokenizer = small_tokenizer(&names);
    let harmony = Harmony::new(&tokenizer).unwrap();
    assert_eq!(harmony.stop_ids(), [94, 100]);
    let conversation = Conversation { messages: vec![Message::new(Role::User, "Hi").on("final")] };
    let ids = harmony.render(&tokenizer, &conversation, RenderOptions::default()).unwrap();
    assert_eq!(tokenizer.decode(&ids), "<|start|>user<|channel|>final<|message|>Hi<|end|>");
    assert_eq!(harmony.parse(&tokenizer, None, &ids).messages, conversation.messages);
    for missing in names {
        let others: Vec<&str> = names.into_iter().filter(|name| *name != missing).collect();
        assert!(Harmony::new(&small_tokenizer(&others)).is_none(), "{missing}");
    }
}
