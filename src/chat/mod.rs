//! Conversations to prompts, through the Jinja template that a model brings along.
//!
//! Templates are written for the `transformers` library in Python. What runs them (`template`) gives
//! them what they expect there: its whitespace settings, its `tojson`, `raise_exception` and
//! `strftime_now`, the methods of Python's strings and dictionaries, loop controls.

pub mod calls;
mod date;
mod format;
pub mod harmony;
mod messages;
#[cfg(any(not(target_arch = "wasm32"), feature = "templates"))]
pub mod template;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::calls::CallFormat;
pub use self::format::{ChatFormat, function_names};
use crate::Result;
#[cfg(all(target_arch = "wasm32", not(feature = "templates")))]
use crate::modules::templates as template;

/// A chat template.
pub struct ChatTemplate {
    template: template::Template,
    calls: Option<CallFormat>,
}

/// What a template is rendered with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TemplateRequest {
    /// The conversation: an array of objects with `role`, `content` and whatever else the template
    /// reads, passed on as they are.
    pub messages: serde_json::Value,
    /// The tools that the model may call, as OpenAI's API describes them.
    pub tools: Option<serde_json::Value>,
    /// Whether the prompt is to end with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// Further variables, such as `reasoning_effort` or `enable_thinking`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// The current time in seconds since 1970. Templates see it in UTC: add the offset of a time
    /// zone to have them see another.
    pub now: i64,
}

impl ChatTemplate {
    /// Compiles `source`; in a page, where the engine is loaded when it is needed, not before the first
    /// use. The texts of the special tokens are what the template sees as `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// Of kind [`Template`](crate::ErrorKind::Template) if the template is malformed.
    pub fn new(source: &str, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self> {
        let template = template::Template::new(source, bos_token, eos_token)?;
        Ok(Self { template, calls: CallFormat::of_template(source) })
    }

    /// Whether the template has a place for tools.
    ///
    /// # Errors
    /// As those of [`new`](Self::new).
    pub fn takes_tools(&self) -> Result<bool> {
        self.template.takes_tools()
    }

    /// How the model writes calls of tools, if that is known.
    pub fn calls(&self) -> Option<CallFormat> {
        self.calls
    }

    /// The prompt that the template makes of a conversation.
    ///
    /// # Errors
    /// Of kind [`Template`](crate::ErrorKind::Template) if the template fails, with its own message where
    /// it raises an exception, or if it exceeds its budget.
    pub fn render(&self, request: &TemplateRequest) -> Result<String> {
        self.template.render(request)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}
