//! Messages and tools in OpenAI's shape → as templates of `transformers` expect them.
//!
//! OpenAI's arguments of calls are texts; templates iterate over them, or write them as JSON. What the
//! model is not told in OpenAI's shape is filled in: which tool answers.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::harmony::{ResponseFormat, expected};
use crate::Result;

/// The length of an id that templates of Mistral's models accept, of letters and digits.
const N_SHORT_ID: usize = 9;

/// Calls so far: by the id of each, the id that the template is given and the function's name.
type Called = HashMap<String, (Value, Value)>;

/// The messages that a template is given. With `has_short_ids`, so are those of calls.
///
/// # Errors
/// `invalid_argument` naming the place.
pub(super) fn for_template(messages: &Value, has_short_ids: bool) -> Result<Value> {
    let list = messages.as_array().ok_or_else(|| expected("messages", "a list"))?;
    let mut called = Called::new();
    let read = |(index, message): (usize, &Value)| {
        let place = format!("messages[{index}]");
        let fields = message.as_object().ok_or_else(|| expected(&*place, "an object"))?;
        let mut fields = fields.clone();
        let role = fields.get("role").and_then(Value::as_str);
        match role {
            Some("assistant") => assistant(&mut fields, &place, has_short_ids, &mut called)?,
            Some("tool") => tool(&mut fields, &called),
            _ => {}
        }
        Ok(Value::Object(fields))
    };
    list.iter().enumerate().map(read).collect()
}

/// Where a model is told of the form of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the system's message, which is added where there is none.
    System,
    /// Ahead of what the user says first.
    User,
}

/// Adds what form the answer must have to `messages`, as [`for_template`] makes them.
pub(super) fn tell_format(messages: &mut Value, format: &ResponseFormat, place: Place) {
    let Some(list) = messages.as_array_mut() else { return };
    let description = format.description.iter().map(|description| format!("{description}\n"));
    let told = format!(
        "Answer with JSON that this schema describes, and with nothing else.\n{}{}",
        description.collect::<String>(),
        format.schema,
    );
    let role = |message: &Value| message.get("role").and_then(Value::as_str).map(str::to_owned);
    match place {
        Place::System if list.first().and_then(role).as_deref() == Some("system") => {
            join(&mut list[0], |content| format!("{content}\n\n{told}"));
        }
        Place::System => {
            list.insert(0, serde_json::json!({ "role": "system", "content": told }));
        }
        Place::User => {
            let first = list.iter_mut().find(|message| role(message).as_deref() == Some("user"));
            if let Some(message) = first {
                join(message, |content| format!("{told}\n\n{content}"));
            }
        }
    }
}

/// Changes what a message says, where that is a text.
fn join(message: &mut Value, change: impl FnOnce(&str) -> String) {
    if let Some(Value::String(content)) = message.get_mut("content") {
        *content = change(content);
    }
}

fn assistant(
    fields: &mut Map<String, Value>,
    place: &str,
    has_short_ids: bool,
    called: &mut Called,
) -> Result<()> {
    // Templates ask whether there is such a field, and look no further.
    let calls = match fields.get_mut("tool_calls") {
        None => return Ok(()),
        Some(Value::Null) => &mut Vec::new(),
        Some(Value::Array(calls)) => calls,
        Some(_) => return Err(expected(format!("{place}.tool_calls"), "a list")),
    };
    for (index, call) in calls.iter_mut().enumerate() {
        let place = format!("{place}.tool_calls[{index}]");
        let function = call.get_mut("function").and_then(Value::as_object_mut);
        let function =
            function.ok_or_else(|| expected(format!("{place}.function"), "an object"))?;
        let name = function.get("name").cloned().filter(Value::is_string);
        let name = name.ok_or_else(|| expected(format!("{place}.function.name"), "a text"))?;
        if let Some(arguments) = function.get_mut("arguments") {
            let object = read_arguments(arguments);
            *arguments = object.ok_or_else(|| {
                expected(format!("{place}.function.arguments"), "an object as JSON")
            })?;
        }
        let Some(id) = call.get("id").and_then(Value::as_str).map(str::to_owned) else { continue };
        let given = if has_short_ids { short_id(&id, called.len()) } else { id.clone() };
        let given = Value::from(given);
        call["id"] = given.clone();
        called.insert(id, (given, name));
    }
    if calls.is_empty() {
        fields.remove("tool_calls");
        return Ok(());
    }
    // Calls come with no text at all, or with none: templates know what to do with a text.
    if fields.get("content").is_none_or(Value::is_null) {
        fields.insert("content".to_owned(), "".into());
    }
    Ok(())
}

/// The object that arguments are, which OpenAI's shape has as a text.
fn read_arguments(arguments: &Value) -> Option<Value> {
    let object = match arguments {
        Value::String(text) if text.trim().is_empty() => Map::new().into(),
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    object.is_object().then_some(object)
}

fn tool(fields: &mut Map<String, Value>, called: &Called) {
    let id = fields.get("tool_call_id").and_then(Value::as_str);
    let Some((given, name)) = id.and_then(|id| called.get(id)) else { return };
    fields.insert("tool_call_id".to_owned(), given.clone());
    fields.entry("name").or_insert_with(|| name.clone());
}

/// The id itself where it will do, else one by the number of the call.
fn short_id(id: &str, n_before: usize) -> String {
    let will_do = id.len() == N_SHORT_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if will_do { id.to_owned() } else { format!("{n_before:0N_SHORT_ID$}") }
}
