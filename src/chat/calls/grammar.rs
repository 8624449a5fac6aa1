//! What answers with calls may be: grammars in `llguidance`'s dialect of Lark.
//!
//! Calls are written just as templates write them, since models were trained on that. A mark that is a
//! control token of the vocabulary is that token; elsewhere it is spelled out, and text ends where it
//! first stands.

use std::fmt::Write;

use super::{CallFormat, hermes, mistral};

/// What may stand in an answer beside calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside<'a> {
    /// Nothing: there is to be a call.
    Nothing,
    /// Text, in place of calls and ahead of them; none in which a call could be read.
    Text,
    /// What this grammar describes, in place of calls.
    Rule(&'a str),
}

/// A grammar in the making.
struct Writer<'a> {
    control: &'a dyn Fn(&str) -> Option<u32>,
    rules: String,
}

impl CallFormat {
    /// The grammar of an answer that may call `tools`, which are names with those of the grammars of
    /// arguments: once at most where `is_single`. `control` has the ids of control tokens.
    pub fn grammar(
        self,
        control: &dyn Fn(&str) -> Option<u32>,
        tools: &[(&str, String)],
        beside: Beside<'_>,
        is_single: bool,
    ) -> String {
        let mut writer = Writer { control, rules: String::new() };
        let mark = match self {
            // Where the vocabulary has no token for it, calls have no mark.
            Self::Llama => writer.control_token(self.open()),
            Self::Hermes | Self::Mistral => Some(writer.terminal(self.open())),
        };
        let mut answers = Vec::new();
        match beside {
            Beside::Nothing => {}
            Beside::Text => answers.push(writer.text(self)),
            Beside::Rule(name) => answers.push(format!("@{name}")),
        }
        if !tools.is_empty() {
            writer.calls(self, tools, mark.as_deref(), is_single);
            let is_unmarked = self == Self::Llama;
            match (mark, beside) {
                (Some(_), Beside::Text) if (writer.control)(self.open()).is_none() => {
                    writer.rule("head[lazy]", &format!("/(?s:.*)/ {}", quoted(self.open())));
                    answers.push("head calls".to_owned());
                }
                (Some(mark), Beside::Text) => answers.push(format!("text? {mark} calls")),
                (Some(mark), _) => answers.push(format!("lines? {mark} calls")),
                (None, _) => {}
            }
            if is_unmarked {
                answers.push("lines? calls".to_owned());
            }
            // What models write after their thoughts.
            writer.rule("lines", r"/\n{1,2}/");
        }
        writer.rule("start", &answers.join(" | "));
        writer.rules
    }
}

impl Writer<'_> {
    fn rule(&mut self, name: &str, is: &str) {
        writeln!(self.rules, "{name}: {is}").expect("writing to a text does not fail");
    }

    /// The token of this name, if it is a control token.
    fn control_token(&self, name: &str) -> Option<String> {
        (self.control)(name).map(|id| format!("<[{id}]>"))
    }

    /// A mark in calls.
    fn terminal(&self, name: &str) -> String {
        self.control_token(name).unwrap_or_else(|| quoted(name))
    }

    /// Defines text that is no call and has none in it; returns what stands for any of it, or none.
    fn text(&mut self, format: CallFormat) -> String {
        // An answer of Llama that begins with a bracket is a call.
        let any = if format == CallFormat::Llama { r"\s*[^\s{](?s:.*)" } else { "(?s:.+)" };
        let mark = spelled(format.open());
        self.rule("text", "TEXT");
        self.rule("TEXT", &format!("/{any}/ & ~/(?s:.*){mark}(?s:.*)/"));
        "text?".to_owned()
    }

    /// Defines calls after the first mark, if they have one.
    fn calls(
        &mut self,
        format: CallFormat,
        tools: &[(&str, String)],
        mark: Option<&str>,
        is_single: bool,
    ) {
        let mark = mark.unwrap_or_default();
        let one_of = |write: &dyn Fn(&str, &str) -> String| {
            let calls: Vec<String> = tools.iter().map(|(name, rule)| write(name, rule)).collect();
            calls.join(" | ")
        };
        let all = |first: &str, next: &str| {
            if is_single { first.to_owned() } else { format!("{first} ({next})*") }
        };
        let object = |start: &str, key: &str, name: &str, rule: &str| {
            let start = format!("{start}{{\"name\": \"{name}\", \"{key}\": ");
            format!("{} @{rule}", quoted(&start))
        };
        match format {
            CallFormat::Hermes => {
                let close = self.terminal(hermes::CLOSE);
                let call = one_of(&|name, rule| {
                    format!("{} \"}}\\n\" {close}", object("\n", "arguments", name, rule))
                });
                self.rule("call", &call);
                self.rule("calls", &all("call", &format!("\"\\n\" {mark} call")));
            }
            CallFormat::Llama => {
                let call = one_of(&|name, rule| {
                    format!("{} \"}}\"", object("", "parameters", name, rule))
                });
                self.rule("call", &call);
                self.rule("calls", &all("call", "\"; \" call"));
            }
            CallFormat::Mistral => {
                let id = r#"(", \"id\": \"" ID "\"")?"#;
                let member = one_of(&|name, rule| {
                    format!("{} {id} \"}}\"", object("", "arguments", name, rule))
                });
                self.rule("member", &member);
                self.rule("list", &format!("/ ?\\[/ {} \"]\"", all("member", "\", \" member")));
                let mut marks = String::new();
                if let Some(mark) = self.control_token(mistral::CALL_ID) {
                    write!(marks, "({mark} ID)? ").expect("writing to a text does not fail");
                }
                if let Some(mark) = self.control_token(mistral::ARGUMENTS) {
                    marks.push_str(&mark);
                }
                let call = one_of(&|name, rule| format!("{} {marks} @{rule}", quoted(name)));
                self.rule("call", &call);
                let named = all("call", &format!("{mark} call"));
                self.rule("calls", &format!("list | {named}"));
                self.rule("ID", "/[a-zA-Z0-9]{9}/");
            }
        }
    }
}

/// A text as Lark has it: as JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A regular expression for just this text.
fn spelled(text: &str) -> String {
    text.chars().map(|c| format!("\\x{{{:x}}}", u32::from(c))).collect()
}
