//! The engine behind chat templates: the crate `minijinja`, with what templates expect of Python.
//!
//! A template is untrusted: it runs with a budget of fuel, which pays for its steps, for the memory
//! it takes and for the text it writes. It can reach nothing but its inputs. The engine does not
//! charge for lists that are added to themselves over and over: a template made for it can still
//! exhaust the worker it runs in, which is why rendering belongs in one.

mod json;
mod metering;

use std::{collections::BTreeMap, fmt};

use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Serde,
};

use super::{TemplateRequest, date};
use crate::{Error, ErrorKind, Result};

/// The fuel of one rendering. One unit pays for a step of the template or for 64 bytes, so that a
/// template can neither run for more than a few seconds nor take or write more than 128 MB.
const FUEL: u64 = 2_000_000;

/// How deep templates may recurse, in units of the engine: a macro call takes about ten.
const MAX_RECURSION: usize = 250;

/// The longest message of an error taken from a template, in bytes.
const MAX_MESSAGE: usize = 1000;

/// The name under which the engine knows the one template.
const NAME: &str = "chat_template";

/// A compiled template.
pub struct Template {
    environment: Environment<'static>,
    /// Whether it reads `tools`.
    takes_tools: bool,
}

impl Template {
    /// Compiles `source`. The texts of the special tokens are what the template sees as
    /// `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// Of kind [`Template`](ErrorKind::Template) if the template is malformed.
    pub fn new(source: &str, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(explain)?);
        environment.set_debug(false);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(metering::call_method);
        environment.set_formatter(metering::write_value);
        environment.add_filter("join", metering::join);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        for (name, token) in [("bos_token", bos_token), ("eos_token", eos_token)] {
            if let Some(token) = token {
                environment.add_global(name, token);
            }
        }
        environment.add_template_owned(NAME, source.to_owned()).map_err(explain)?;
        let template = environment.get_template(NAME).map_err(explain)?;
        let takes_tools = template.undeclared_variables(false).contains("tools");
        Ok(Self { environment, takes_tools })
    }

    /// Whether the template has a place for tools.
    ///
    /// # Errors
    /// None: where the engine is a module of its own, it compiles the template first.
    pub fn takes_tools(&self) -> Result<bool> {
        Ok(self.takes_tools)
    }

    /// The prompt that the template makes of a conversation.
    ///
    /// # Errors
    /// Of kind [`Template`](ErrorKind::Template) if the template fails, with its own message where
    /// it raises an exception, or if it exceeds its budget.
    pub fn render(&self, request: &TemplateRequest) -> Result<String> {
        let now = request.now;
        let strftime_now = Value::from_function(move |format: &str| date::strftime(now, format));
        let extra = request.extra.iter();
        let mut variables: BTreeMap<&str, Value> =
            extra.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))).collect();
        variables.extend([
            ("messages", Value::from(Serde(&request.messages))),
            ("tools", Value::from(Serde(&request.tools))),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(request.add_generation_prompt)),
            ("strftime_now", strftime_now),
        ]);
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(explain)
    }
}

/// The message of an exception that a template raised.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    let kind = minijinja::ErrorKind::InvalidOperation;
    Err(minijinja::Error::new(kind, "the template raised an exception")
        .with_source(Raised(message)))
}

/// The crate's error for one of the engine.
fn explain(error: minijinja::Error) -> Error {
    let causes = || {
        let first: &(dyn std::error::Error + 'static) = &error;
        std::iter::successors(Some(first), |cause| cause.source())
    };
    if let Some(Raised(message)) = causes().find_map(|cause| cause.downcast_ref()) {
        return Error::new(ErrorKind::Template, shortened(message));
    }
    let mut engine_errors = causes().filter_map(|cause| cause.downcast_ref::<minijinja::Error>());
    if engine_errors.any(|error| error.kind() == minijinja::ErrorKind::OutOfFuel) {
        return Error::new(ErrorKind::Template, "the chat template takes too much time or memory")
            .with("limit", FUEL);
    }
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    let message = format!("the chat template failed: {}{detail}", error.kind());
    let failure = Error::new(ErrorKind::Template, shortened(&message));
    match error.line() {
        Some(line) => failure.with("line", line),
        None => failure,
    }
}

fn shortened(message: &str) -> String {
    message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned()
}
