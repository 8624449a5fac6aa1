//! How a model wants conversations written, whichever way that is.

use serde_json::Value;

use super::{
    ChatTemplate, TemplateRequest,
    calls::CallFormat,
    harmony::{ChatRequest, Conversation, Harmony, RenderOptions, Role, functions},
    messages::{self, Place},
};
use crate::{Error, ErrorKind, Result, tokenizer::Tokenizer};

/// The form of a model's conversations.
pub enum ChatFormat {
    /// OpenAI's harmony, in tokens.
    Harmony(Harmony),
    /// A Jinja template, in text.
    Template(Box<ChatTemplate>),
}

impl ChatFormat {
    /// The tokens of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// `invalid_argument` for messages and tools that cannot be used, `unsupported` for tools where the
    /// model has no use for them, `template` where the model's template fails.
    pub fn render(&self, tokenizer: &Tokenizer, request: &ChatRequest) -> Result<Vec<u32>> {
        match self {
            Self::Harmony(harmony) => {
                let conversation = Conversation::from_chat(request)?;
                let options = RenderOptions::default();
                harmony.render_for_completion(tokenizer, &conversation, Role::Assistant, options)
            }
            Self::Template(template) => tokenizer.encode(&template.render_chat(request)?),
        }
    }

    /// A short name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Harmony(_) => "harmony",
            Self::Template(_) => "template",
        }
    }
}

impl ChatTemplate {
    /// The prompt that asks for an answer to a request in OpenAI's shape.
    ///
    /// # Errors
    /// As those of [`ChatFormat::render`].
    pub fn render_chat(&self, request: &ChatRequest) -> Result<String> {
        let names = function_names(request.tools.as_ref())?;
        let refuse =
            |message: &'static str| Err(Error::unsupported(message).with("parameter", "tools"));
        match self.calls() {
            _ if names.is_empty() => {}
            _ if !self.takes_tools()? => return refuse("the model's chat template has no tools"),
            None => return refuse("the form of this model's calls of tools is not known"),
            Some(_) => {}
        }
        let messages =
            messages::for_template(&request.messages, self.calls() == Some(CallFormat::Mistral))?;
        let Some(format) = &request.response_format else {
            return self.render_messages(request, messages);
        };
        let told = |place| {
            let mut messages = messages.clone();
            messages::tell_format(&mut messages, format, place);
            self.render_messages(request, messages)
        };
        match told(Place::System) {
            // Some templates take no message of the system's.
            Err(error) if error.kind() == ErrorKind::Template => told(Place::User),
            rendered => rendered,
        }
    }

    fn render_messages(&self, request: &ChatRequest, messages: Value) -> Result<String> {
        let effort = request.reasoning_effort.iter();
        self.render(&TemplateRequest {
            messages,
            // Templates take an empty list for tools, and say that there are some.
            tools: request
                .tools
                .clone()
                .filter(|tools| tools.as_array().is_some_and(|t| !t.is_empty())),
            add_generation_prompt: true,
            extra: effort
                .map(|effort| ("reasoning_effort".to_owned(), effort.as_str().into()))
                .collect(),
            now: request.now,
        })
    }
}

/// The names of the functions that `tools` describe, in OpenAI's shape.
///
/// # Errors
/// `invalid_argument` naming the place.
pub fn function_names(tools: Option<&Value>) -> Result<Vec<String>> {
    let functions = tools.map_or(Ok(Vec::new()), functions)?;
    Ok(functions.into_iter().map(|function| function.name).collect())
}
