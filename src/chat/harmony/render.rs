//! A conversation to token ids, the same as those of OpenAI's library.
//!
//! Every piece between two markers is encoded on its own: the author, the recipient, the channel,
//! the type, and each part of the content. A token never spans two of them.

use super::{
    CONSTRAIN, Harmony,
    conversation::{
        ANALYSIS, Content, Conversation, DeveloperContent, EVERYONE, FINAL, Message, Role,
        SystemContent,
    },
    tools::{response_formats_section, tools_section},
};
use crate::{Error, Result, tokenizer::Tokenizer};

/// The namespace of the tools that a developer defines.
pub(in crate::chat) const FUNCTIONS: &str = "functions";

/// How a conversation is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether reasoning is left out that comes before the first final message, once the last
    /// message of the assistant is a final one. Reasoning after that is kept, as OpenAI's library
    /// keeps it; [`Conversation::from_chat`] drops all that is no longer needed.
    pub auto_drop_analysis: bool,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { auto_drop_analysis: true }
    }
}

impl Harmony {
    /// The tokens of `conversation`.
    ///
    /// # Errors
    /// Of kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a tool's message does not
    /// name the tool, or if what a system or developer message says is in another one; the fact
    /// `parameter` is the message's place. Otherwise as [`Tokenizer::encode_ordinary`].
    pub fn render(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
        options: RenderOptions,
    ) -> Result<Vec<u32>> {
        let messages = &conversation.messages;
        let has_functions =
            messages.iter().flat_map(|message| &message.content).any(defines_functions);
        let mut renderer = Renderer { harmony: self, tokenizer, has_functions, ids: Vec::new() };
        let n_finished = if options.auto_drop_analysis { n_finished(messages) } else { 0 };
        for (index, message) in messages.iter().enumerate() {
            if index >= n_finished || !message.is_on(ANALYSIS) {
                renderer.message(index, message)?;
            }
        }
        Ok(renderer.ids)
    }

    /// As [`Harmony::render`], followed by the beginning of a message of `next`: what a model is
    /// given to write that message.
    ///
    /// # Errors
    /// As [`Harmony::render`].
    pub fn render_for_completion(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
        next: Role,
        options: RenderOptions,
    ) -> Result<Vec<u32>> {
        let mut ids = self.render(tokenizer, conversation, options)?;
        ids.push(self.start);
        ids.extend(tokenizer.encode_ordinary(next.as_str())?);
        Ok(ids)
    }

    /// As [`Harmony::render`], but a final message of the assistant at the end is ended as the
    /// model ends it.
    ///
    /// # Errors
    /// As [`Harmony::render`].
    pub fn render_for_training(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
        options: RenderOptions,
    ) -> Result<Vec<u32>> {
        let mut ids = self.render(tokenizer, conversation, options)?;
        let last = conversation.messages.last();
        if last.is_some_and(|last| last.role == Role::Assistant && last.is_on(FINAL)) {
            ids.pop();
            ids.push(self.return_);
        }
        Ok(ids)
    }
}

/// How many messages belong to turns whose reasoning is not needed any more.
fn n_finished(messages: &[Message]) -> usize {
    let last = messages.iter().rev().find(|message| message.role == Role::Assistant);
    if !last.is_some_and(|last| last.is_on(FINAL)) {
        return 0;
    }
    messages.iter().position(|message| message.is_on(FINAL)).unwrap_or(0)
}

fn defines_functions(content: &Content) -> bool {
    let Content::DeveloperContent(DeveloperContent { tools: Some(tools), .. }) = content else {
        return false;
    };
    tools.get(FUNCTIONS).is_some_and(|namespace| !namespace.tools.is_empty())
}

struct Renderer<'a> {
    harmony: &'a Harmony,
    tokenizer: &'a Tokenizer,
    /// Whether a developer message of the conversation defines functions.
    has_functions: bool,
    ids: Vec<u32>,
}

impl Renderer<'_> {
    fn text(&mut self, text: &str) -> Result<()> {
        self.ids.extend(self.tokenizer.encode_ordinary(text)?);
        Ok(())
    }

    fn message(&mut self, index: usize, message: &Message) -> Result<()> {
        let refused = |why| Error::argument(why).with("parameter", format!("messages[{index}]"));
        self.ids.push(self.harmony.start);
        match (message.role, &message.name) {
            (Role::Tool, Some(name)) => self.text(name)?,
            (Role::Tool, None) => return Err(refused("the message of a tool does not name it")),
            (role, name) => {
                self.text(role.as_str())?;
                if let Some(name) = name {
                    self.text(&format!(":{name}"))?;
                }
            }
        }
        if let Some(recipient) = message.recipient.as_deref().filter(|name| *name != EVERYONE) {
            self.text(&format!(" to={recipient}"))?;
        }
        if let Some(channel) = &message.channel {
            self.ids.push(self.harmony.channel);
            self.text(channel)?;
        }
        if let Some(content_type) = &message.content_type {
            self.content_type(content_type)?;
        }
        self.ids.push(self.harmony.message);
        for content in &message.content {
            match (content, message.role) {
                (Content::Text { text }, _) => self.text(text)?,
                (Content::SystemContent(content), Role::System) => {
                    self.text(&self.system_text(content))?;
                }
                (Content::DeveloperContent(content), Role::Developer) => {
                    self.text(&developer_text(content))?;
                }
                (Content::SystemContent(_), _) => {
                    return Err(refused("what a system message says is in another message"));
                }
                (Content::DeveloperContent(_), _) => {
                    return Err(refused("what a developer message says is in another message"));
                }
            }
        }
        let is_call = message.role == Role::Assistant && message.recipient.is_some();
        self.ids.push(if is_call { self.harmony.call } else { self.harmony.end });
        Ok(())
    }

    /// The type of a content, in which `<|constrain|>` is a marker where it comes first.
    fn content_type(&mut self, content_type: &str) -> Result<()> {
        match content_type.strip_prefix(CONSTRAIN) {
            Some(format) => {
                self.text(" ")?;
                self.ids.push(self.harmony.constrain);
                self.text(format)
            }
            None => self.text(&format!(" {content_type}")),
        }
    }

    fn system_text(&self, content: &SystemContent) -> String {
        let labelled =
            |label: &str, value: &Option<String>| Some(format!("{label}: {}", value.as_ref()?));
        let top = [
            content.model_identity.clone(),
            labelled("Knowledge cutoff", &content.knowledge_cutoff),
            labelled("Current date", &content.conversation_start_date),
        ];
        let top: Vec<String> = top.into_iter().flatten().collect();
        let effort =
            content.reasoning_effort.map(|effort| format!("Reasoning: {}", effort.as_str()));
        let tools = content.tools.as_ref().filter(|tools| !tools.is_empty()).map(tools_section);
        let sections =
            [(!top.is_empty()).then(|| top.join("\n")), effort, tools, self.channels(content)];
        sections.into_iter().flatten().collect::<Vec<String>>().join("\n\n")
    }

    fn channels(&self, content: &SystemContent) -> Option<String> {
        let config = content.channel_config.as_ref()?;
        if config.valid_channels.is_empty() {
            return None;
        }
        let mut text = format!("# Valid channels: {}.", config.valid_channels.join(", "));
        if config.channel_required {
            text.push_str(" Channel must be included for every message.");
        }
        if self.has_functions {
            text.push_str("\nCalls to these tools must go to the commentary channel: 'functions'.");
        }
        Some(text)
    }
}

fn developer_text(content: &DeveloperContent) -> String {
    let instructions =
        content.instructions.as_ref().map(|text| format!("# Instructions\n\n{text}"));
    let tools = content.tools.as_ref().filter(|tools| !tools.is_empty()).map(tools_section);
    let formats = &content.response_formats;
    let formats = (!formats.is_empty()).then(|| response_formats_section(formats));
    [instructions, tools, formats].into_iter().flatten().collect::<Vec<String>>().join("\n\n")
}
