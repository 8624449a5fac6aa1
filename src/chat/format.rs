//! How a model wants conversations written, whichever way that is.

use super::{
    ChatTemplate, TemplateRequest,
    harmony::{ChatRequest, Conversation, Harmony, RenderOptions, Role},
};
use crate::{Result, tokenizer::Tokenizer};

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
    /// `invalid_argument` for messages that cannot be used, `template` where the model's template fails.
    pub fn render(&self, tokenizer: &Tokenizer, request: &ChatRequest) -> Result<Vec<u32>> {
        match self {
            Self::Harmony(harmony) => {
                let conversation = Conversation::from_chat(request)?;
                let options = RenderOptions::default();
                harmony.render_for_completion(tokenizer, &conversation, Role::Assistant, options)
            }
            Self::Template(template) => {
                let effort = request.reasoning_effort.iter();
                let text = template.render(&TemplateRequest {
                    messages: request.messages.clone(),
                    tools: request.tools.clone(),
                    add_generation_prompt: true,
                    extra: effort
                        .map(|effort| ("reasoning_effort".to_owned(), effort.as_str().into()))
                        .collect(),
                    now: request.now,
                })?;
                tokenizer.encode(&text)
            }
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
