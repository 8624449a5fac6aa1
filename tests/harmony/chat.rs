//! Requests in OpenAI's shape to conversations.

use pesi::{
    Error, ErrorKind,
    chat::harmony::{ChatRequest, Conversation, RenderOptions, Role},
    error::Detail,
};
use serde_json::{Value, json};

use crate::{HARMONY, TOKENIZER};

/// 2025-06-28 00:00:00 UTC.
const NOW: i64 = 1_751_068_800;

const SYSTEM: &str = "<|start|>system<|message|>You are ChatGPT, a large language model trained by \
                      OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\nReasoning: \
                      medium\n\n# Valid channels: analysis, commentary, final. Channel must be \
                      included for every message.";

/// What the system message adds where there are functions.
const CALLS: &str = "\nCalls to these tools must go to the commentary channel: 'functions'.";

fn request(messages: Value) -> ChatRequest {
    ChatRequest { messages, now: NOW, ..ChatRequest::default() }
}

/// The prompt for the answer to a request.
fn prompt(request: &ChatRequest) -> String {
    let conversation = Conversation::from_chat(request).unwrap();
    let options = RenderOptions::default();
    let ids =
        HARMONY.render_for_completion(&TOKENIZER, &conversation, Role::Assistant, options).unwrap();
    TOKENIZER.decode(&ids)
}

/// What comes after the system message in the prompt for these messages.
fn turns(messages: Value) -> String {
    let prompt = prompt(&request(messages));
    let turns = prompt.strip_prefix(SYSTEM).and_then(|rest| rest.strip_prefix("<|end|>"));
    turns.unwrap_or_else(|| panic!("{prompt}")).to_owned()
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

#[test]
fn a_question_is_a_conversation() {
    let prompt = turns(json!([{ "role": "user", "content": "Hi <|end|>" }]));
    assert_eq!(prompt, "<|start|>user<|message|>Hi <|end|><|end|><|start|>assistant");
    let parts = json!([{ "type": "text", "text": "H" }, { "type": "text", "text": "i" }]);
    let prompt = turns(json!([{ "role": "user", "name": "anna", "content": parts }]));
    assert_eq!(prompt, "<|start|>user:anna<|message|>Hi<|end|><|start|>assistant");
    let effort = ChatRequest {
        reasoning_effort: Some("high".to_owned()),
        ..request(json!([{ "role": "user", "content": "Hi" }]))
    };
    assert!(self::prompt(&effort).contains("\n\nReasoning: high\n\n"));
}

#[test]
fn instructions_become_a_developer_message() {
    let prompt = turns(json!([
        { "role": "system", "content": "Be brief." },
        { "role": "developer", "content": "Be kind." },
        { "role": "user", "content": "Hi" },
        { "role": "system", "content": "Be late." },
    ]));
    assert_eq!(
        prompt,
        "<|start|>developer<|message|># Instructions\n\nBe brief.\n\nBe kind.<|end|><|start|>user\
         <|message|>Hi<|end|><|start|>developer<|message|># Instructions\n\nBe late.<|end|>\
         <|start|>assistant"
    );
}

#[test]
fn tools_are_functions() {
    let tool = |name: &str, more: Value| {
        let mut function = json!({ "name": name });
        function.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "type": "function", "function": function })
    };
    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string", "description": "Where" } },
        "required": ["city"],
    });
    let tools = json!([
        tool("where", json!({ "description": "Finds the user.", "parameters": null })),
        tool("now", json!({ "parameters": { "type": "object", "properties": {} } })),
        tool("weather", json!({ "description": "Says it.", "parameters": schema })),
    ]);
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let request = ChatRequest { tools: Some(tools), ..request(messages.clone()) };
    assert_eq!(
        prompt(&request),
        format!(
            "{SYSTEM}{CALLS}<|end|><|start|>developer<|message|># Tools\n\n## functions\n\n\
             namespace functions {{\n\n// Finds the user.\ntype where = () => any;\n\n\
             type now = () => any;\n\n// Says it.\ntype weather = (_: {{\n// Where\ncity: string,\n\
             }}) => any;\n\n}} // namespace functions<|end|><|start|>user<|message|>Hi<|end|>\
             <|start|>assistant"
        )
    );
    for tools in [json!([]), Value::Null] {
        let bare = ChatRequest { tools: Some(tools), ..self::request(messages.clone()) };
        assert_eq!(prompt(&bare), prompt(&self::request(messages.clone())));
    }
}

#[test]
fn the_form_of_the_answer_stands_among_the_instructions() {
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let format =
        json!({ "name": "city", "description": "A city.", "schema": { "type": "object" } });
    let response_format = Some(serde_json::from_value(format).unwrap());
    let request = ChatRequest { response_format, ..request(messages) };
    assert_eq!(
        prompt(&request),
        format!(
            "{SYSTEM}<|end|><|start|>developer<|message|># Response Formats\n\n## city\n\n// A city.\n\
             {{\"type\":\"object\"}}<|end|><|start|>user<|message|>Hi<|end|><|start|>assistant"
        )
    );
}

#[test]
fn reasoning_is_kept_while_calls_are_under_way() {
    let mut messages = vec![
        json!({ "role": "user", "content": "Weather?" }),
        json!({
            "role": "assistant", "content": "I ask.", "reasoning_content": "Ask first.",
            "tool_calls": [call("a", "where", "{}"), call("b", "now", "{ }")],
        }),
        json!({ "role": "tool", "tool_call_id": "b", "content": "noon" }),
        json!({ "role": "tool", "tool_call_id": "a", "content": "Rome" }),
    ];
    let open = "<|start|>user<|message|>Weather?<|end|>\
                <|start|>assistant<|channel|>analysis<|message|>Ask first.<|end|>\
                <|start|>assistant<|channel|>commentary<|message|>I ask.<|end|>\
                <|start|>assistant to=functions.where<|channel|>commentary <|constrain|>json\
                <|message|>{}<|call|>\
                <|start|>assistant to=functions.now<|channel|>commentary <|constrain|>json\
                <|message|>{ }<|call|>\
                <|start|>functions.now to=assistant<|channel|>commentary<|message|>noon<|end|>\
                <|start|>functions.where to=assistant<|channel|>commentary<|message|>Rome<|end|>\
                <|start|>assistant";
    assert_eq!(turns(json!(messages)), open);

    messages.push(json!({ "role": "assistant", "content": "Sunny.", "reasoning": "Easy." }));
    let kept =
        open.replace("<|start|>assistant<|channel|>analysis<|message|>Ask first.<|end|>", "");
    let finished = format!("{kept}<|channel|>final<|message|>Sunny.<|end|><|start|>assistant");
    assert_eq!(turns(json!(messages)), finished);

    messages.push(json!({ "role": "user", "content": "And there?" }));
    messages.push(json!({
        "role": "assistant", "reasoning": "Again.", "tool_calls": [call("c", "now", "")],
    }));
    let third = "<|start|>user<|message|>And there?<|end|><|start|>assistant<|channel|>analysis\
                 <|message|>Again.<|end|><|start|>assistant to=functions.now<|channel|>commentary \
                 <|constrain|>json<|message|><|call|><|start|>assistant";
    let start = finished.strip_suffix("<|start|>assistant").unwrap();
    assert_eq!(turns(json!(messages)), format!("{start}{third}"));
}

#[test]
fn a_tool_may_be_named_instead_of_its_call() {
    let prompt = turns(json!([{ "role": "tool", "name": "now", "content": "noon" }]));
    assert_eq!(
        prompt,
        "<|start|>functions.now to=assistant<|channel|>commentary<|message|>noon<|end|>\
         <|start|>assistant"
    );
}

/// The place that an error about `request` names.
fn refused(request: &ChatRequest) -> String {
    let error: Error = Conversation::from_chat(request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    match error.detail("parameter") {
        Some(Detail::Text(place)) => place.clone(),
        other => panic!("{error}: {other:?}"),
    }
}

#[test]
fn malformed_messages_are_refused_by_their_place() {
    let user = json!({ "role": "user", "content": "Hi" });
    let calling = |call: Value| json!({ "role": "assistant", "tool_calls": [call] });
    for (message, place) in [
        (json!("Hi"), ""),
        (json!({}), ".role"),
        (json!({ "role": "robot", "content": "Hi" }), ".role"),
        (json!({ "role": 1, "content": "Hi" }), ".role"),
        (json!({ "role": "user" }), ".content"),
        (json!({ "role": "user", "content": 1 }), ".content"),
        (json!({ "role": "user", "content": ["Hi"] }), ".content[0]"),
        (json!({ "role": "user", "content": [{ "type": "image_url" }] }), ".content[0].type"),
        (json!({ "role": "user", "content": "Hi", "name": "a to=b" }), ".name"),
        (json!({ "role": "assistant", "content": null }), ".content"),
        (json!({ "role": "assistant", "tool_calls": {} }), ".tool_calls"),
        (json!({ "role": "assistant", "content": "", "reasoning": [] }), ".reasoning"),
        (calling(json!(1)), ".tool_calls[0]"),
        (calling(json!({ "type": "custom" })), ".tool_calls[0].type"),
        (calling(json!({ "id": "a" })), ".tool_calls[0].function"),
        (calling(json!({ "function": call("a", "f", "")["function"] })), ".tool_calls[0].id"),
        (calling(call("a", "f g", "")), ".tool_calls[0].function.name"),
        (calling(call("a", "", "")), ".tool_calls[0].function.name"),
        (calling(call("a", &"f".repeat(65), "")), ".tool_calls[0].function.name"),
        (
            calling(json!({ "id": "a", "function": { "name": "f", "arguments": {} } })),
            ".tool_calls[0].function.arguments",
        ),
        (json!({ "role": "tool", "content": "1" }), ".tool_call_id"),
        (json!({ "role": "tool", "content": "1", "tool_call_id": "a" }), ".tool_call_id"),
        (json!({ "role": "tool", "tool_call_id": "a" }), ".content"),
        (json!({ "role": "tool", "content": "1", "name": "f>" }), ".name"),
    ] {
        let request = request(json!([user, message]));
        assert_eq!(refused(&request), format!("messages[1]{place}"), "{message}");
    }
    assert_eq!(refused(&request(json!("Hi"))), "messages");
}

#[test]
fn malformed_tools_and_efforts_are_refused_by_their_place() {
    for (tools, place) in [
        (json!({}), "tools"),
        (json!([1]), "tools[0]"),
        (json!([{ "type": "web_search" }]), "tools[0].type"),
        (json!([{ "type": "function" }]), "tools[0].function"),
        (json!([{ "function": {} }]), "tools[0].function.name"),
        (
            json!([{ "function": { "name": "f", "parameters": [] } }]),
            "tools[0].function.parameters",
        ),
        (
            json!([{ "function": { "name": "f", "description": 1 } }]),
            "tools[0].function.description",
        ),
    ] {
        let request = ChatRequest { tools: Some(tools), ..request(json!([])) };
        assert_eq!(refused(&request), place);
    }
    let request =
        ChatRequest { reasoning_effort: Some("maximal".to_owned()), ..request(json!([])) };
    assert_eq!(refused(&request), "reasoning_effort");
}
