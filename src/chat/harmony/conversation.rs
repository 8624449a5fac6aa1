//! What a conversation in the harmony format consists of.
//!
//! The types hold what OpenAI's own library holds, under the same names in JSON, so that a
//! conversation written for it can be read here. `content` may be a text instead of a list.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// The channels of gpt-oss, as a system message lists them.
pub const CHANNELS: [&str; 3] = [ANALYSIS, COMMENTARY, FINAL];

/// The channel of reasoning, which is not meant for the user.
pub const ANALYSIS: &str = "analysis";

/// The channel of calls of functions and of what is said before them.
pub const COMMENTARY: &str = "commentary";

/// The channel of answers.
pub const FINAL: &str = "final";

/// The recipient that stands for everyone, and is left out of a header.
pub(super) const EVERYONE: &str = "all";

/// Messages, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
}

/// Who writes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Says who the model is, and which channels and built-in tools it has.
    System,
    /// Instructions, and functions that the model may call.
    Developer,
    /// The person who is answered.
    User,
    /// The model.
    Assistant,
    /// What a tool answers. The name of the author is that of the tool.
    Tool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Message {
    /// Who writes.
    pub role: Role,
    /// The author's name. Of a tool, its full name, such as `functions.get_weather`.
    #[serde(default)]
    pub name: Option<String>,
    /// Whom it is for, if not for everyone: a tool, or the assistant.
    #[serde(default)]
    pub recipient: Option<String>,
    /// One of [`CHANNELS`], or what else the system message names.
    #[serde(default)]
    pub channel: Option<String>,
    /// What the content is, such as `code` or `<|constrain|>json`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// What it says, in parts that follow each other without a space.
    #[serde(deserialize_with = "text_or_parts")]
    pub content: Vec<Content>,
}

/// A part of what a message says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Text, in which special tokens are plain text.
    Text {
        /// The text.
        text: String,
    },
    /// What a system message says.
    SystemContent(SystemContent),
    /// What a developer message says.
    DeveloperContent(DeveloperContent),
}

/// What a system message says. What is absent is left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SystemContent {
    /// The sentence that says who the model is.
    pub model_identity: Option<String>,
    /// How much the model is to reason.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// Namespaces of built-in tools by name.
    pub tools: Option<BTreeMap<String, ToolNamespace>>,
    /// The date of the conversation, such as `2025-06-28`.
    pub conversation_start_date: Option<String>,
    /// The end of what the model was trained on, such as `2024-06`.
    pub knowledge_cutoff: Option<String>,
    /// The channels that the model may write to.
    pub channel_config: Option<ChannelConfig>,
}

/// What a developer message says. What is absent is left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct DeveloperContent {
    /// The instructions that other APIs call the system prompt.
    pub instructions: Option<String>,
    /// Namespaces of tools by name. Those a developer defines are in `functions`.
    pub tools: Option<BTreeMap<String, ToolNamespace>>,
    /// Forms that an answer can have.
    #[serde(default)]
    pub response_formats: Vec<ResponseFormat>,
}

/// How much a model reasons before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum ReasoningEffort {
    /// As little as possible.
    #[serde(alias = "low")]
    Low,
    /// The model's usual measure.
    #[default]
    #[serde(alias = "medium")]
    Medium,
    /// As much as it takes.
    #[serde(alias = "high")]
    High,
}

/// The channels that a model may write to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ChannelConfig {
    /// Their names. If there is none, nothing is said about channels.
    pub valid_channels: Vec<String>,
    /// Whether every message must have a channel.
    pub channel_required: bool,
}

/// Tools that share the first part of their name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ToolNamespace {
    /// The first part of the name.
    pub name: String,
    /// What they are for, in one or more lines.
    pub description: Option<String>,
    /// The tools. A namespace without any is itself a tool, as `python` is.
    pub tools: Vec<ToolDescription>,
}

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ToolDescription {
    /// The second part of the name.
    pub name: String,
    /// What it does, in one or more lines.
    #[serde(default)]
    pub description: String,
    /// The JSON schema of its arguments, if it has any.
    pub parameters: Option<serde_json::Value>,
}

/// A form that an answer can have.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ResponseFormat {
    /// The name by which instructions refer to it.
    pub name: String,
    /// What it is for, in one or more lines.
    pub description: Option<String>,
    /// The JSON schema of the answer.
    pub schema: serde_json::Value,
}

impl Role {
    /// The name of the role in a header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}

impl ReasoningEffort {
    /// The name of the effort in a system message and in OpenAI's API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The effort of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High].into_iter().find(|effort| effort.as_str() == name)
    }
}

impl Message {
    /// A message to everyone, without a channel.
    pub fn new(role: Role, content: impl Into<Content>) -> Self {
        Self {
            role,
            name: None,
            recipient: None,
            channel: None,
            content_type: None,
            content: vec![content.into()],
        }
    }

    /// Puts the message on a channel.
    #[must_use]
    pub fn on(self, channel: impl Into<String>) -> Self {
        Self { channel: Some(channel.into()), ..self }
    }

    /// Addresses the message.
    #[must_use]
    pub fn to(self, recipient: impl Into<String>) -> Self {
        Self { recipient: Some(recipient.into()), ..self }
    }

    /// Names the author.
    #[must_use]
    pub fn by(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    pub(super) fn is_on(&self, channel: &str) -> bool {
        self.channel.as_deref() == Some(channel)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text { text }
    }
}

impl From<SystemContent> for Content {
    fn from(content: SystemContent) -> Self {
        Self::SystemContent(content)
    }
}

impl From<DeveloperContent> for Content {
    fn from(content: DeveloperContent) -> Self {
        Self::DeveloperContent(content)
    }
}

impl Default for SystemContent {
    /// What gpt-oss was trained to read, without a date.
    fn default() -> Self {
        Self {
            model_identity: Some(
                "You are ChatGPT, a large language model trained by OpenAI.".to_owned(),
            ),
            reasoning_effort: Some(ReasoningEffort::default()),
            tools: None,
            conversation_start_date: None,
            knowledge_cutoff: Some("2024-06".to_owned()),
            channel_config: Some(ChannelConfig {
                valid_channels: CHANNELS.map(str::to_owned).into(),
                channel_required: true,
            }),
        }
    }
}

fn text_or_parts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Content>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrParts {
        Text(String),
        Parts(Vec<Content>),
    }
    Ok(match TextOrParts::deserialize(deserializer)? {
        TextOrParts::Text(text) => vec![text.into()],
        TextOrParts::Parts(parts) => parts,
    })
}
