//! Conversations made at random, as JSON that both this crate and OpenAI's library read.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// Text as messages and descriptions have it, with what could be taken for a marker.
pub fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z]{1,8}",
        2 => "[ \\n\\t]{1,3}",
        1 => "[0-9]{1,5}",
        1 => any::<String>(),
        3 => select(vec![
            "<|end|>", "<|start|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>",
            "<|constrain|>", "<|endoftext|>", "<|start|>system<|message|>", "null", "\"", "\r\n",
            "\n\n", "é", "日本語", "🙂", "हिन्दी", "{\"a\": 1}", "to=functions.f", "//", " ",
        ])
        .prop_map(str::to_owned),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z_]{0,8}[0-9]?"
}

/// Objects of these entries, of which each may be left out.
fn object_of(
    entries: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> impl Strategy<Value = Map<String, Value>> {
    let entry = |(key, value): (&'static str, BoxedStrategy<Value>)| {
        option::weighted(0.35, value).prop_map(move |value| Some((key.to_owned(), value?)))
    };
    let entries: Vec<_> = entries.into_iter().map(entry).collect();
    entries.prop_map(|entries| entries.into_iter().flatten().collect())
}

fn texts() -> BoxedStrategy<Value> {
    text().prop_map(Value::from).boxed()
}

fn any_value() -> BoxedStrategy<Value> {
    prop_oneof![
        3 => texts(),
        1 => any::<i32>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([1, "two", { "three": 3.5 }])),
        1 => Just(json!({})),
    ]
    .boxed()
}

/// What any schema may have.
fn annotations() -> impl Strategy<Value = Map<String, Value>> {
    object_of(vec![
        ("title", prop_oneof![4 => texts(), 1 => any_value()].boxed()),
        ("description", prop_oneof![4 => texts(), 1 => any_value()].boxed()),
        ("default", any_value()),
        ("nullable", any::<bool>().prop_map(Value::from).boxed()),
        ("examples", vec(any_value(), 0..3).prop_map(Value::from).boxed()),
        ("enum", vec(any_value(), 0..3).prop_map(Value::from).boxed()),
    ])
}

/// A schema without others in it.
fn plain_schema() -> impl Strategy<Value = Value> {
    let kinds = select(vec![
        json!("string"),
        json!("string"),
        json!("integer"),
        json!("number"),
        json!("boolean"),
        json!("array"),
        json!("object"),
        json!("null"),
        json!("unknown"),
        json!(["integer", "string"]),
        json!(["null", "boolean"]),
        json!([]),
        json!([1]),
        json!(7),
        Value::Null,
    ]);
    (kinds, annotations()).prop_map(|(kind, mut schema)| {
        if !kind.is_null() {
            schema.insert("type".to_owned(), kind);
        }
        schema.into()
    })
}

/// A schema as a tool's parameters have it, nested up to four times.
fn schema() -> impl Strategy<Value = Value> {
    plain_schema().prop_recursive(4, 24, 4, |inner| {
        let object = (vec((name(), inner.clone(), any::<bool>()), 0..4), annotations()).prop_map(
            |(properties, mut schema)| {
                let required: Vec<&String> =
                    properties.iter().filter(|entry| entry.2).map(|entry| &entry.0).collect();
                schema.insert("type".to_owned(), json!("object"));
                schema.insert("required".to_owned(), json!(required));
                let properties: Map<String, Value> =
                    properties.into_iter().map(|(name, schema, _)| (name, schema)).collect();
                schema.insert("properties".to_owned(), properties.into());
                schema.into()
            },
        );
        let array = (inner.clone(), annotations()).prop_map(|(items, mut schema)| {
            schema.insert("type".to_owned(), json!("array"));
            schema.insert("items".to_owned(), items);
            schema.into()
        });
        let one_of = (vec(inner, 0..4), annotations(), any::<bool>()).prop_map(
            |(variants, mut schema, shares_description)| {
                let first = variants.first().and_then(|variant| variant.get("description"));
                if let Some(description) = first.filter(|_| shares_description) {
                    schema.insert("description".to_owned(), description.clone());
                }
                schema.insert("oneOf".to_owned(), variants.into());
                schema.into()
            },
        );
        let odd = annotations().prop_map(|mut schema| {
            schema.insert("type".to_owned(), json!("string"));
            schema.insert("oneOf".to_owned(), json!("no list"));
            schema.into()
        });
        prop_oneof![4 => object, 2 => array, 2 => one_of, 1 => odd]
    })
}

fn tool() -> impl Strategy<Value = Value> {
    (name(), text(), option::of(schema())).prop_map(|(name, description, parameters)| {
        json!({ "name": name, "description": description, "parameters": parameters })
    })
}

/// Namespaces of tools by their names.
fn namespaces(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let namespace = (option::of(text()), vec(tool(), 0..3));
    vec((select(names), namespace), 0..3).prop_map(|namespaces| {
        let entry = |(name, (description, tools)): (&str, (Option<String>, Vec<Value>))| {
            let value = json!({ "name": name, "description": description, "tools": tools });
            (name.to_owned(), value)
        };
        Value::from(namespaces.into_iter().map(entry).collect::<Map<String, Value>>())
    })
}

fn system_message() -> impl Strategy<Value = Value> {
    let channels = vec(select(vec!["analysis", "commentary", "final", "other"]), 0..4);
    let config = (channels, any::<bool>()).prop_map(
        |(channels, required)| json!({ "valid_channels": channels, "channel_required": required }),
    );
    let entries: Vec<(&'static str, BoxedStrategy<Value>)> = vec![
        ("model_identity", texts()),
        ("reasoning_effort", select(vec!["Low", "Medium", "High"]).prop_map(Value::from).boxed()),
        ("tools", namespaces(&["browser", "python", "functions"]).boxed()),
        ("conversation_start_date", Just(json!("2025-06-28")).boxed()),
        ("knowledge_cutoff", Just(json!("2024-06")).boxed()),
        ("channel_config", config.boxed()),
    ];
    object_of(entries).prop_map(|mut content| {
        content.insert("type".to_owned(), json!("system_content"));
        json!({ "role": "system", "content": [content] })
    })
}

fn developer_message() -> impl Strategy<Value = Value> {
    let entries: Vec<(&'static str, BoxedStrategy<Value>)> = vec![
        ("instructions", texts()),
        ("tools", namespaces(&["functions", "functions", "extra", "a_first"]).boxed()),
    ];
    object_of(entries).prop_map(|mut content| {
        content.insert("type".to_owned(), json!("developer_content"));
        json!({ "role": "developer", "content": [content] })
    })
}

/// The content of a message: a text, or parts.
fn content() -> impl Strategy<Value = Value> {
    let part = text().prop_map(|text| json!({ "type": "text", "text": text }));
    prop_oneof![3 => texts(), 1 => vec(part, 1..3).prop_map(Value::from)]
}

fn written_message() -> impl Strategy<Value = Value> {
    let role = select(vec!["user", "assistant", "assistant", "assistant", "developer", "tool"]);
    let known = select(vec!["analysis", "commentary", "final", "other"]);
    let to = select(vec!["functions.f", "python", "browser.search", "assistant", "all"]);
    let kind = select(vec!["code", "json", "<|constrain|>json", "<|constrain|>"]);
    let header = (role, option::of(name()), option::of(known), option::of(to), option::of(kind));
    (header, content()).prop_map(|((role, name, channel, recipient, kind), content)| {
        let name =
            if role == "tool" { Some(name.unwrap_or("functions.f".to_owned())) } else { name };
        let fields = [
            ("role", Some(json!(role))),
            ("name", name.map(Value::from)),
            ("channel", channel.map(Value::from)),
            ("recipient", recipient.map(Value::from)),
            // A type that is no constraint is told from a recipient by standing after one.
            (
                "content_type",
                kind.filter(|kind| {
                    kind.starts_with("<|") || recipient.is_some_and(|name| name != "all")
                })
                .map(Value::from),
            ),
            ("content", Some(content)),
        ];
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
        json!(fields.collect::<BTreeMap<&str, Value>>())
    })
}

/// The turns of one task: reasoning, calls with their results, and perhaps an answer.
fn turns() -> impl Strategy<Value = Vec<Value>> {
    let call = (name(), text(), text()).prop_map(|(name, arguments, output)| {
        let name = format!("functions.{name}");
        [
            json!({ "role": "assistant", "channel": "analysis", "content": "I call it." }),
            json!({
                "role": "assistant", "channel": "commentary", "recipient": name,
                "content_type": "<|constrain|>json", "content": arguments,
            }),
            json!({
                "role": "tool", "name": name, "recipient": "assistant", "channel": "commentary",
                "content": output,
            }),
        ]
    });
    (texts(), vec(call, 0..3), option::of(texts())).prop_map(|(question, calls, answer)| {
        let mut messages = vec![json!({ "role": "user", "content": question })];
        messages.extend(calls.into_iter().flatten());
        messages.extend(answer.into_iter().flat_map(|answer| {
            [
                json!({ "role": "assistant", "channel": "analysis", "content": "I know." }),
                json!({ "role": "assistant", "channel": "final", "content": answer }),
            ]
        }));
        messages
    })
}

/// A conversation: what the model is told, then turns as they are, or messages of any kind.
pub fn conversation() -> impl Strategy<Value = Value> {
    let any_turns = prop_oneof![turns(), vec(written_message(), 0..4)];
    let opening = (option::of(system_message()), option::of(developer_message()));
    (opening, vec(any_turns, 0..3)).prop_map(|((system, developer), turns)| {
        let messages = system.into_iter().chain(developer).chain(turns.into_iter().flatten());
        json!({ "messages": messages.collect::<Vec<Value>>() })
    })
}
