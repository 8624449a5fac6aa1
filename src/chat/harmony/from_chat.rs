//! A request in the shape of OpenAI's chat completions to a conversation.
//!
//! Instructions become a developer message, which also lists the tools; the system message says
//! what gpt-oss was trained to read there. A call of a tool is a message to `functions.NAME`, and
//! what the tool answers a message of that author. Reasoning is kept only for calls whose turn is
//! not finished: the model needs it to go on, and is not meant to see that of earlier turns.
//!
//! A request comes from outside: everything in it is checked, and an error names its place.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{
    CONSTRAIN,
    conversation::{
        ANALYSIS, COMMENTARY, Conversation, DeveloperContent, FINAL, Message, ReasoningEffort,
        ResponseFormat, Role, SystemContent, ToolDescription, ToolNamespace,
    },
    render::FUNCTIONS,
};
use crate::{Error, Result, chat::date};

/// The longest name of a function, as OpenAI's API has it.
const MAX_NAME: usize = 64;

/// A request to continue a conversation.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// The conversation, as OpenAI's API writes it. Of an assistant's message, `reasoning_content`
    /// or `reasoning` is what it thought before.
    pub messages: Value,
    /// The functions that the model may call, as OpenAI's API describes them.
    pub tools: Option<Value>,
    /// The form that the answer must have. The model is told of it where harmony has a place for it, and
    /// by templates in the system's message.
    pub response_format: Option<ResponseFormat>,
    /// `low`, `medium` or `high`; without one, the usual measure.
    pub reasoning_effort: Option<String>,
    /// The current time in seconds since 1970. The model is told the date in UTC: add the offset of
    /// a time zone to have it told another.
    pub now: i64,
}

impl Conversation {
    /// The conversation that `request` asks to continue.
    ///
    /// # Errors
    /// Of kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the request is malformed;
    /// the fact `parameter` is the place, such as `messages[2].tool_calls[0].function.name`.
    pub fn from_chat(request: &ChatRequest) -> Result<Self> {
        let effort = request.reasoning_effort.as_deref().map(|name| {
            let effort = ReasoningEffort::named(name);
            effort.ok_or_else(|| expected("reasoning_effort", "low, medium or high"))
        });
        let system = SystemContent {
            reasoning_effort: Some(effort.transpose()?.unwrap_or_default()),
            conversation_start_date: Some(date::strftime(request.now, "%Y-%m-%d")),
            ..SystemContent::default()
        };
        let turns = Turns::read(&request.messages)?;
        let tools = request.tools.as_ref().map_or(Ok(Vec::new()), functions)?;
        let namespace = ToolNamespace { name: FUNCTIONS.to_owned(), description: None, tools };
        let has_functions = !namespace.tools.is_empty();
        let developer = DeveloperContent {
            instructions: (!turns.instructions.is_empty()).then(|| turns.instructions.join("\n\n")),
            tools: has_functions.then(|| BTreeMap::from([(FUNCTIONS.to_owned(), namespace)])),
            response_formats: request.response_format.iter().cloned().collect(),
        };
        let mut messages = vec![Message::new(Role::System, system)];
        if developer != DeveloperContent::default() {
            messages.push(Message::new(Role::Developer, developer));
        }
        messages.extend(turns.messages);
        Ok(Self { messages })
    }
}

/// The messages of a request, read one after the other.
#[derive(Default)]
struct Turns {
    /// The instructions ahead of all other messages.
    instructions: Vec<String>,
    messages: Vec<Message>,
    /// The names of the functions called so far, by the ids of the calls.
    called: HashMap<String, String>,
}

impl Turns {
    fn read(value: &Value) -> Result<Self> {
        let list = value.as_array().ok_or_else(|| expected("messages", "a list"))?;
        let fields = |index| Fields::new(&list[index], format!("messages[{index}]"));
        let mut n_finished = 0;
        for index in 0..list.len() {
            let fields = fields(index)?;
            if fields.required_text("role")? == "assistant" && fields.list("tool_calls")?.is_empty()
            {
                n_finished = index + 1;
            }
        }
        let mut turns = Self::default();
        for index in 0..list.len() {
            turns.message(&fields(index)?, index >= n_finished)?;
        }
        Ok(turns)
    }

    /// Reads one message. `is_open` says whether it belongs to a turn without an answer yet.
    fn message(&mut self, fields: &Fields<'_>, is_open: bool) -> Result<()> {
        match fields.required_text("role")? {
            "system" | "developer" => {
                let text = fields.required_content()?;
                if self.messages.is_empty() {
                    self.instructions.push(text);
                } else {
                    let content =
                        DeveloperContent { instructions: Some(text), ..Default::default() };
                    self.messages.push(Message::new(Role::Developer, content));
                }
            }
            "user" => {
                let message = Message::new(Role::User, fields.required_content()?);
                self.messages.push(Message { name: fields.author()?, ..message });
            }
            "assistant" => self.assistant(fields, is_open)?,
            "tool" => self.tool(fields)?,
            _ => return Err(fields.expected("role", "system, developer, user, assistant or tool")),
        }
        Ok(())
    }

    fn assistant(&mut self, fields: &Fields<'_>, is_open: bool) -> Result<()> {
        let written = |channel, text: String| Message::new(Role::Assistant, text).on(channel);
        let reasoning = match fields.text("reasoning_content")? {
            Some(text) => Some(text),
            None => fields.text("reasoning")?,
        };
        let content = fields.content()?;
        let calls = fields.list("tool_calls")?;
        if content.is_none() && calls.is_empty() && reasoning.is_none() {
            return Err(fields.expected("content", "a text, unless there are tool_calls"));
        }
        let reasoning = reasoning.filter(|text| is_open && !calls.is_empty() && !text.is_empty());
        self.messages.extend(reasoning.map(|text| written(ANALYSIS, text.to_owned())));
        if calls.is_empty() {
            self.messages.extend(content.map(|text| written(FINAL, text)));
            return Ok(());
        }
        let preamble = content.filter(|text| !text.is_empty());
        self.messages.extend(preamble.map(|text| written(COMMENTARY, text)));
        for (index, call) in calls.iter().enumerate() {
            let place = format!("{}[{index}]", fields.place("tool_calls"));
            let call = Fields::new(call, place)?;
            call.check_type()?;
            let function = call.object("function")?;
            let name = format!("{FUNCTIONS}.{}", function.name()?);
            let message = written(COMMENTARY, function.required_text("arguments")?.to_owned());
            self.called.insert(call.required_text("id")?.to_owned(), name.clone());
            self.messages.push(Message {
                content_type: Some(format!("{CONSTRAIN}json")),
                ..message.to(name)
            });
        }
        Ok(())
    }

    fn tool(&mut self, fields: &Fields<'_>) -> Result<()> {
        let text = fields.required_content()?;
        let called = match fields.text("tool_call_id")? {
            Some(id) => self.called.get(id).cloned(),
            None => None,
        };
        let name = match called {
            Some(name) => name,
            None if fields.text("name")?.is_some() => format!("{FUNCTIONS}.{}", fields.name()?),
            None => {
                return Err(fields.expected("tool_call_id", "the id of a call made before"));
            }
        };
        let message = Message::new(Role::Tool, text).by(name).to(Role::Assistant.as_str());
        self.messages.push(message.on(COMMENTARY));
        Ok(())
    }
}

/// The functions that `tools` describe.
pub(in crate::chat) fn functions(tools: &Value) -> Result<Vec<ToolDescription>> {
    if tools.is_null() {
        return Ok(Vec::new());
    }
    let list = tools.as_array().ok_or_else(|| expected("tools", "a list"))?;
    let read = |(index, tool)| {
        let tool = Fields::new(tool, format!("tools[{index}]"))?;
        tool.check_type()?;
        let function = tool.object("function")?;
        let parameters = function.get("parameters");
        if parameters.is_some_and(|schema| !schema.is_object()) {
            return Err(function.expected("parameters", "a JSON schema"));
        }
        Ok(ToolDescription {
            name: function.name()?.to_owned(),
            description: function.text("description")?.unwrap_or_default().to_owned(),
            parameters: parameters.filter(|schema| !takes_nothing(schema)).cloned(),
        })
    };
    list.iter().enumerate().map(read).collect()
}

/// Whether a schema is an object without properties: then the model is shown no argument at all.
fn takes_nothing(schema: &Value) -> bool {
    let is_object = schema.get("type").is_none_or(|name| name == "object");
    let properties = schema.get("properties").and_then(Value::as_object);
    is_object && schema.get("oneOf").is_none() && properties.is_none_or(Map::is_empty)
}

/// An object of the request, and where it stands.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    place: String,
}

impl<'a> Fields<'a> {
    fn new(value: &'a Value, place: String) -> Result<Self> {
        match value.as_object() {
            Some(object) => Ok(Self { object, place }),
            None => Err(expected(place, "an object")),
        }
    }

    fn place(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }

    fn expected(&self, key: &str, what: &str) -> Error {
        expected(self.place(key), what)
    }

    /// The value of `key`, if there is one that is not null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.expected(key, "a text"));
        self.get(key).map(text).transpose()
    }

    fn required_text(&self, key: &str) -> Result<&'a str> {
        self.text(key)?.ok_or_else(|| self.expected(key, "a text"))
    }

    /// The list of `key`, empty where there is none.
    fn list(&self, key: &str) -> Result<&'a [Value]> {
        match self.get(key) {
            Some(value) => {
                value.as_array().map(Vec::as_slice).ok_or_else(|| self.expected(key, "a list"))
            }
            None => Ok(&[]),
        }
    }

    fn object(&self, key: &str) -> Result<Fields<'a>> {
        let value = self.get(key).ok_or_else(|| self.expected(key, "an object"))?;
        Fields::new(value, self.place(key))
    }

    /// The content: a text, or a list of parts that are texts.
    fn content(&self) -> Result<Option<String>> {
        match self.get("content") {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Array(parts)) => parts
                .iter()
                .enumerate()
                .map(|(index, part)| {
                    let part = Fields::new(part, format!("{}[{index}]", self.place("content")))?;
                    if part.required_text("type")? != "text" {
                        return Err(part.expected("type", "text"));
                    }
                    part.required_text("text")
                })
                .collect::<Result<String>>()
                .map(Some),
            Some(_) => Err(self.expected("content", "a text or a list of parts")),
        }
    }

    fn required_content(&self) -> Result<String> {
        self.content()?.ok_or_else(|| self.expected("content", "a text"))
    }

    /// The name of a function. Its characters cannot be mistaken for another part of a header.
    fn name(&self) -> Result<&'a str> {
        let name = self.required_text("name")?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_allowed) {
            return Err(self.expected("name", "1 to 64 letters, digits, underscores and hyphens"));
        }
        Ok(name)
    }

    /// The name of an author, if there is one.
    fn author(&self) -> Result<Option<String>> {
        let name = self.text("name")?;
        if name.is_some_and(|name| name.is_empty() || name.contains(char::is_whitespace)) {
            return Err(self.expected("name", "a text without spaces"));
        }
        Ok(name.map(str::to_owned))
    }

    /// Checks that this is a function, as tools and calls of them say with `type`.
    fn check_type(&self) -> Result<()> {
        match self.text("type")? {
            None | Some("function") => Ok(()),
            Some(_) => Err(self.expected("type", "function")),
        }
    }
}

pub(in crate::chat) fn expected(place: impl Into<String>, what: &str) -> Error {
    Error::argument("the request is malformed")
        .with("parameter", place.into())
        .with("expected", what)
}
