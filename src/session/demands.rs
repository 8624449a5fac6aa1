//! What is demanded of an answer: its form, and the tools that it may or must call.

use serde_json::Value;

use crate::{
    constrain::{Constraint, Grammars},
    error::{Error, Result},
};

/// The longest name of a tool, and how many there may be.
const MAX_NAME: usize = 64;
const MAX_TOOLS: usize = 128;

/// What is demanded of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demands {
    /// What the answer must be.
    pub answer: Option<Constraint>,
    /// The tools that may be called.
    pub tools: Vec<Tool>,
    /// Whether one must be.
    pub tool_choice: ToolChoice,
    /// Whether an answer makes one call at most. In harmony none makes more.
    pub single_call: bool,
}

/// A tool that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name, without a namespace.
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: String,
    /// Whether the arguments must follow the schema.
    pub strict: bool,
}

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// None is.
    None,
    /// The model decides.
    #[default]
    Auto,
    /// One is, of the model's choice.
    Required,
    /// This one is.
    Named(String),
}

impl Demands {
    /// Whether tokens have to be kept from a model at all, one that answers in harmony or another.
    pub(super) fn are_needed(&self, in_harmony: bool) -> bool {
        self.answer.is_some()
            || self.tools.iter().any(|tool| tool.strict)
            || match self.tool_choice {
                ToolChoice::Auto => self.single_call && !in_harmony && !self.tools.is_empty(),
                ToolChoice::None => !self.tools.is_empty(),
                ToolChoice::Required | ToolChoice::Named(_) => true,
            }
    }

    /// # Errors
    /// `invalid_argument` for what contradicts itself.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |message: &'static str| Error::argument(message).with("parameter", "tools");
        if self.tools.len() > MAX_TOOLS {
            return Err(wrong("there are too many tools")
                .with("found", self.tools.len())
                .with("limit", MAX_TOOLS));
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        for (index, tool) in self.tools.iter().enumerate() {
            let name = tool.name.as_str();
            if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_allowed) {
                return Err(wrong(
                    "a name is not made of letters, digits, underscores and hyphens",
                )
                .with("found", name)
                .with("limit", MAX_NAME));
            }
            if self.tools[..index].iter().any(|other| other.name == name) {
                return Err(wrong("two tools have the same name").with("found", name));
            }
        }
        let chosen = |name: &str| self.tools.iter().any(|tool| tool.name == name);
        match &self.tool_choice {
            ToolChoice::Required if self.tools.is_empty() => {
                Err(wrong("a call is required, and there are no tools"))
            }
            ToolChoice::Named(name) if !chosen(name) => {
                Err(wrong("the tool to call is not one of the tools").with("found", name.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is to be a call, whatever the model would rather say.
    pub(super) fn must_call(&self) -> bool {
        matches!(self.tool_choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// Whether the tool may be called.
    pub(super) fn may_call(&self, tool: &Tool) -> bool {
        match &self.tool_choice {
            ToolChoice::None => false,
            ToolChoice::Auto | ToolChoice::Required => true,
            ToolChoice::Named(name) => *name == tool.name,
        }
    }
}

impl Tool {
    /// What arguments of calls must be, where anything about answers is demanded: what the schema
    /// describes, unless it cannot be served and need not be followed.
    ///
    /// # Errors
    /// Those of [`Grammars::compile`] for a tool that is strict.
    pub(super) fn arguments(&self, grammars: &Grammars) -> Result<Constraint> {
        let schema = Constraint::JsonSchema(of_objects(&self.parameters));
        match grammars.compile(&schema) {
            Ok(_) => Ok(schema),
            Err(error) if self.strict => Err(error.with("tool", &*self.name)),
            Err(_) => Ok(Constraint::JsonObject),
        }
    }
}

/// The schema for objects alone, which arguments are: some leave out what goes without saying.
fn of_objects(schema: &str) -> String {
    const TYPE: &str = "type";
    const OBJECT: &str = "object";
    let Ok(Value::Object(mut keywords)) = serde_json::from_str(schema) else {
        return schema.to_owned();
    };
    let is_wider = match keywords.get(TYPE) {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|name| name == OBJECT),
        Some(_) => false,
    };
    if is_wider {
        keywords.insert(TYPE.to_owned(), OBJECT.into());
    }
    Value::Object(keywords).to_string()
}
