//! Which tokens an answer may go on with: the grammar of what is said, in the chat format around it.
//!
//! In harmony, all of an answer's structure is given once anything is demanded of it: headers are those
//! of thoughts, of what is said ahead of calls, of calls and of the answer, token by token; thoughts are
//! free and end with `<|end|>`; a grammar begins with the text of the message that it is for. In other
//! formats one grammar has the text with the calls in it (`chat::calls::grammar`), and begins after what
//! the model thinks if it does. While a grammar cannot end, no token that ends a turn may come; when it is
//! complete, nothing else may.

use super::{Demands, Request, ToolChoice};
use crate::{
    chat::{
        ChatFormat,
        calls::{Beside, CallFormat},
        harmony::{ANALYSIS, COMMENTARY, FINAL, Harmony},
    },
    constrain::{Constraint, Grammar, Grammars, Mask},
    error::{Error, Result},
    sampler::is_excluded,
    tokenizer::Tokenizer,
};

/// What marks the thoughts of models whose format is a template.
const THINK: [&str; 2] = ["<think>", "</think>"];

/// Follows an answer, and knows what may come next.
pub(super) struct Guide {
    stage: Stage,
    /// What the messages of a harmony answer may be; absent in other formats.
    messages: Option<Messages>,
    /// All tokens that are text.
    text: Mask,
    /// Tokens that a bias takes out.
    excluded: Vec<u32>,
}

/// What may come next.
pub(super) enum Next {
    /// Anything: the answer has ended, and is continued all the same.
    Any,
    /// One of these tokens.
    Among(Mask),
}

enum Stage {
    /// One of some lists of tokens, of which the first `n_matched` have come.
    Listed { lists: Vec<(Vec<u32>, Kind)>, n_matched: usize },
    /// Thoughts and the like: text up to a token.
    Free { end: u32, kind: Kind },
    /// Thoughts of a format without messages, and what comes after.
    Thoughts { end: u32, then: Box<Said> },
    /// What the grammar is for.
    Said(Box<Said>),
    /// Past the end of the answer.
    Over,
}

/// Text that is followed by a token that ends the turn.
struct Said {
    /// Any text where there is none.
    grammar: Option<Grammar>,
    ends: Vec<u32>,
    /// A pair of tokens that surround thoughts, of which the first may come in place of the text.
    thoughts: Option<[u32; 2]>,
}

/// A message of a harmony answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Analysis,
    Preamble,
    Final,
    /// A call of this one of the tools that may be called.
    Call(usize),
}

struct Messages {
    /// `<|start|>assistant`.
    start: Vec<u32>,
    /// Each kind of message with its header.
    headers: Vec<(Vec<u32>, Kind)>,
    answer: Option<Grammar>,
    /// Grammars of the arguments of tools that may be called.
    calls: Vec<Grammar>,
    /// What ends a message that another follows, an answer, a call.
    end: u32,
    return_: u32,
    call: u32,
}

impl Guide {
    /// A guide at the start of an answer to the prompt of `request`, in the format that the answer has, if
    /// it is one in a conversation.
    ///
    /// # Errors
    /// Those of [`Grammars::compile`]; `invalid_argument` for demands that contradict each other;
    /// `unsupported` for calls of a model whose format is not known.
    pub fn new(
        request: &Request,
        tokenizer: &Tokenizer,
        chat: Option<&ChatFormat>,
        grammars: &Grammars,
    ) -> Result<Self> {
        let Request { demands, sampling, tokens: prompt, chat: is_chat, .. } = request;
        let answer = demands.answer.as_ref().map(|answer| grammars.compile(answer)).transpose()?;
        let (stage, messages) = match chat {
            Some(ChatFormat::Harmony(harmony)) => {
                let messages = Messages::new(demands, tokenizer, harmony, grammars, answer)?;
                (Stage::Listed { lists: messages.headers.clone(), n_matched: 0 }, Some(messages))
            }
            _ => {
                let has_calls = !demands.tools.is_empty() || demands.must_call();
                let grammar = match chat {
                    _ if !has_calls => answer,
                    Some(ChatFormat::Template(template)) if template.calls().is_some() => {
                        let format = template.calls().expect("one that is known");
                        Some(with_calls(demands, format, tokenizer, grammars)?)
                    }
                    _ => {
                        return Err(Error::unsupported("demands on calls in this chat format")
                            .with("parameter", "tools"));
                    }
                };
                let ends = tokenizer.stop_ids().to_vec();
                let thoughts = if *is_chat { think_tokens(tokenizer)? } else { None };
                (Said { grammar, ends, thoughts }.after(prompt), None)
            }
        };
        let mut text = Mask::none(grammars.n_vocab());
        let is_text = |id: &u32| !tokenizer.is_special(*id) && tokenizer.token_bytes(*id).is_some();
        (0..tokenizer.n_vocab() as u32).filter(is_text).for_each(|id| text.allow(id));
        tokenizer.stop_ids().iter().for_each(|&id| text.remove(id));
        let biases = sampling.biases(grammars.n_vocab());
        let excluded = (0..).zip(&biases).filter(|(_, bias)| is_excluded(bias));
        Ok(Self { stage, messages, text, excluded: excluded.map(|(id, _)| id).collect() })
    }

    /// What may come next.
    ///
    /// # Errors
    /// `invalid_argument` where biases take out all that may.
    pub fn next(&mut self) -> Result<Next> {
        let mut mask = match &mut self.stage {
            Stage::Over => return Ok(Next::Any),
            Stage::Listed { lists, n_matched } => {
                let mut mask = self.text.emptied();
                lists.iter().for_each(|(tokens, _)| mask.allow(tokens[*n_matched]));
                mask
            }
            Stage::Free { end, .. } | Stage::Thoughts { end, .. } => {
                let mut mask = self.text.clone();
                mask.allow(*end);
                mask
            }
            Stage::Said(said) => {
                let (mut mask, may_end) = match &mut said.grammar {
                    Some(grammar) => grammar.allowed()?,
                    None => (self.text.clone(), true),
                };
                if may_end {
                    said.ends.iter().for_each(|&end| mask.allow(end));
                }
                if let Some([begin, _]) = said.thoughts {
                    mask.allow(begin);
                }
                mask
            }
        };
        self.excluded.iter().for_each(|&token| mask.remove(token));
        if mask.is_empty() {
            return Err(Error::argument("no token is left that the answer may go on with")
                .with("parameter", "logit_bias"));
        }
        Ok(Next::Among(mask))
    }

    /// Takes the token that came, which is one that may.
    ///
    /// # Errors
    /// `invalid_argument` where the grammar has become too complex.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Stage::Over,
            Stage::Listed { mut lists, mut n_matched } => {
                lists.retain(|(tokens, _)| tokens.get(n_matched) == Some(&token));
                n_matched += 1;
                match (&lists[..], &self.messages) {
                    ([(tokens, kind)], Some(messages)) if tokens.len() == n_matched => {
                        messages.content(*kind)
                    }
                    _ => Stage::Listed { lists, n_matched },
                }
            }
            Stage::Free { end, kind } if token == end => match &mut self.messages {
                Some(messages) => messages.following(kind),
                None => Stage::Over,
            },
            Stage::Thoughts { end, then } if token == end => Stage::Said(then),
            stage @ (Stage::Free { .. } | Stage::Thoughts { .. }) => stage,
            Stage::Said(mut said) => match said.thoughts.take() {
                Some([begin, end]) if token == begin => Stage::Thoughts { end, then: said },
                _ if said.ends.contains(&token) => Stage::Over,
                _ => {
                    if let Some(grammar) = &mut said.grammar {
                        grammar.push(token)?;
                    }
                    Stage::Said(said)
                }
            },
        };
        Ok(())
    }

    /// Whether nothing can follow, and no token is there to say so.
    pub fn is_complete(&self) -> bool {
        match &self.stage {
            Stage::Said(said) => {
                said.ends.is_empty() && said.grammar.as_ref().is_some_and(Grammar::is_complete)
            }
            _ => false,
        }
    }
}

impl Said {
    /// Where an answer begins after `prompt`, which may end in the midst of thoughts.
    fn after(mut self, prompt: &[u32]) -> Stage {
        if let Some([begin, end]) = self.thoughts {
            let last = prompt.iter().rev().find(|token| [begin, end].contains(token));
            if last == Some(&begin) {
                self.thoughts = None;
                return Stage::Thoughts { end, then: Box::new(self) };
            }
        }
        Stage::Said(Box::new(self))
    }
}

impl Messages {
    fn new(
        demands: &Demands,
        tokenizer: &Tokenizer,
        harmony: &Harmony,
        grammars: &Grammars,
        answer: Option<Grammar>,
    ) -> Result<Self> {
        demands.check()?;
        let header = |channel, call| harmony.answer_header(tokenizer, channel, call);
        let mut headers = vec![(header(ANALYSIS, None)?, Kind::Analysis)];
        let mut calls = Vec::new();
        for tool in &demands.tools {
            if !demands.may_call(tool) {
                continue;
            }
            headers.push((header(COMMENTARY, Some(&tool.name))?, Kind::Call(calls.len())));
            calls.push(grammars.compile(&tool.arguments(grammars)?)?);
        }
        if !demands.must_call() {
            headers.push((header(FINAL, None)?, Kind::Final));
        }
        if demands.tool_choice == ToolChoice::Auto && !demands.tools.is_empty() {
            headers.push((header(COMMENTARY, None)?, Kind::Preamble));
        }
        let [return_, call] = harmony.stop_ids();
        Ok(Self {
            start: harmony.answer_start(tokenizer)?,
            headers,
            answer,
            calls,
            end: harmony.end_id(),
            return_,
            call,
        })
    }

    /// What follows the header of a message.
    fn content(&self, kind: Kind) -> Stage {
        let said =
            |grammar, end| Stage::Said(Box::new(Said { grammar, ends: vec![end], thoughts: None }));
        match kind {
            Kind::Analysis | Kind::Preamble => Stage::Free { end: self.end, kind },
            Kind::Final => said(self.answer.clone(), self.return_),
            Kind::Call(tool) => said(Some(self.calls[tool].clone()), self.call),
        }
    }

    /// What follows a message of thoughts or ahead of calls. A model thinks once, and then says one thing
    /// at most ahead of its calls: otherwise it might never come to them.
    fn following(&mut self, ended: Kind) -> Stage {
        self.headers.retain(|(_, kind)| *kind != ended && *kind != Kind::Analysis);
        let lists = self.headers.iter().map(|(header, kind)| {
            let tokens = self.start.iter().chain(header).copied().collect();
            (tokens, *kind)
        });
        Stage::Listed { lists: lists.collect(), n_matched: 0 }
    }
}

/// The grammar of an answer that may have calls in it, or must, in a format without messages.
fn with_calls(
    demands: &Demands,
    format: CallFormat,
    tokenizer: &Tokenizer,
    grammars: &Grammars,
) -> Result<Grammar> {
    const ANSWER: &str = "answer";
    demands.check()?;
    let (mut tools, mut parts) = (Vec::new(), Vec::new());
    for tool in demands.tools.iter().filter(|tool| demands.may_call(tool)) {
        let rule = format!("arguments_{}", tools.len());
        parts.push((rule.clone(), tool.arguments(grammars)?));
        tools.push((tool.name.as_str(), rule));
    }
    let beside = match &demands.answer {
        _ if demands.must_call() => Beside::Nothing,
        None => Beside::Text,
        Some(answer) => {
            parts.push((ANSWER.to_owned(), answer.clone()));
            Beside::Rule(ANSWER)
        }
    };
    let control = |name: &str| tokenizer.special_id(name);
    let lark = format.grammar(&control, &tools, beside, demands.single_call);
    grammars.compose(&Constraint::Lark(lark), &parts)
}

/// The tokens around thoughts, where the vocabulary has them.
fn think_tokens(tokenizer: &Tokenizer) -> Result<Option<[u32; 2]>> {
    let mut tokens = [0; 2];
    for (token, name) in tokens.iter_mut().zip(THINK) {
        match tokenizer.encode(name)?[..] {
            [id] => *token = id,
            _ => return Ok(None),
        }
    }
    Ok(Some(tokens))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::Tool, *};
    use crate::{chat::ChatTemplate, tokenizer::GgufVocabulary};

    const END: &str = "<|im_end|>";

    /// A model in a format without messages, with a token for each of a few characters.
    struct Model {
        tokenizer: Arc<Tokenizer>,
        grammars: Grammars,
    }

    impl Model {
        /// One that thinks.
        fn new() -> Self {
            let names = ["{", "}", "a", "1", "\u{10a}", "<think>", "</think>", END];
            Self::of(&names, &[1, 1, 1, 1, 1, 4, 4, 3])
        }

        /// One that has control tokens for its calls.
        fn calling() -> Self {
            let names = ["{", "}", "a", "f", "[", "[TOOL_CALLS]", "[ARGS]", END];
            Self::of(&names, &[1, 1, 1, 1, 1, 3, 3, 3])
        }

        fn of(names: &[&str], types: &[i32]) -> Self {
            let tokenizer = Tokenizer::from_gguf_vocabulary(&GgufVocabulary {
                model: "gpt2",
                pre: Some("gpt-4o"),
                tokens: names.to_vec(),
                token_types: types,
                ..Default::default()
            });
            let tokenizer = Arc::new(tokenizer.unwrap());
            // The embedding has more rows than there are tokens.
            let grammars = Grammars::new(tokenizer.clone(), 40).unwrap();
            Self { tokenizer, grammars }
        }

        fn guide(&self, prompt: &str, chat: bool) -> Guide {
            let answer = Some(Constraint::Regex("\\{\\}1?".to_owned()));
            self.held_to(Demands { answer, ..Default::default() }, prompt, chat, None)
        }

        /// A guide for calls of `f`, whose arguments are any object.
        fn calling_guide(&self, tool_choice: ToolChoice, single_call: bool) -> Guide {
            let template = ChatTemplate::new("{{ tools }}[TOOL_CALLS]", None, None).unwrap();
            let chat = ChatFormat::Template(Box::new(template));
            let (name, parameters) = ("f".to_owned(), "{}".to_owned());
            let tools = vec![Tool { name, parameters, strict: true }];
            let demands = Demands { answer: None, tools, tool_choice, single_call };
            self.held_to(demands, "a", true, Some(&chat))
        }

        fn held_to(
            &self,
            demands: Demands,
            prompt: &str,
            is_chat: bool,
            format: Option<&ChatFormat>,
        ) -> Guide {
            let request = Request {
                tokens: self.tokenizer.encode(prompt).unwrap(),
                max_tokens: None,
                reuse_prefix: true,
                chat: is_chat,
                demands,
                ..Default::default()
            };
            Guide::new(&request, &self.tokenizer, format, &self.grammars).unwrap()
        }

        /// The names of the tokens that may come next; none where all may.
        fn next(&self, guide: &mut Guide) -> Vec<String> {
            let Next::Among(mask) = guide.next().unwrap() else { return Vec::new() };
            let ids = (0..40).filter(|&id| mask.has(id));
            ids.map(|id| self.tokenizer.decode(&[id])).collect()
        }

        fn push(&self, guide: &mut Guide, text: &str) {
            let tokens = self.tokenizer.encode(text).unwrap();
            tokens.into_iter().for_each(|token| guide.push(token).unwrap());
        }
    }

    const THOUGHTS: [&str; 7] = ["{", "}", "a", "1", "\n", "<think>", "</think>"];

    #[test]
    fn a_grammar_begins_with_the_text_or_after_what_is_thought() {
        let model = Model::new();
        let mut guide = model.guide("a", true);
        assert_eq!(model.next(&mut guide), ["{", "<think>"]);
        model.push(&mut guide, "<think>");
        assert_eq!(model.next(&mut guide), THOUGHTS);
        model.push(&mut guide, "a}1a");
        assert_eq!(model.next(&mut guide), THOUGHTS);
        model.push(&mut guide, "</think>");
        assert_eq!(model.next(&mut guide), ["{"]);
        model.push(&mut guide, "{");
        assert_eq!(model.next(&mut guide), ["}"]);
        model.push(&mut guide, "}");
        assert_eq!(model.next(&mut guide), ["1", END]);
        model.push(&mut guide, "1");
        assert_eq!(model.next(&mut guide), [END]);
        assert!(!guide.is_complete());
        model.push(&mut guide, END);
        assert_eq!(model.next(&mut guide), [""; 0]);
    }

    #[test]
    fn thoughts_may_have_begun_in_the_prompt_and_need_not_come() {
        let model = Model::new();
        let mut guide = model.guide("<think>a</think>a<think>", true);
        assert_eq!(model.next(&mut guide), THOUGHTS);
        model.push(&mut guide, "</think>{");
        assert_eq!(model.next(&mut guide), ["}"]);

        let mut guide = model.guide("<think></think>", true);
        model.push(&mut guide, "{");
        assert_eq!(model.next(&mut guide), ["}"]);

        let mut guide = model.guide("<think>", false);
        assert_eq!(model.next(&mut guide), ["{"]);
    }
    #[test]
    fn marks_of_calls_that_are_control_tokens_come_as_such() {
        let model = Model::calling();
        let mut guide = model.calling_guide(ToolChoice::Required, false);
        assert_eq!(model.next(&mut guide), ["[TOOL_CALLS]"]);
        model.push(&mut guide, "[TOOL_CALLS]");
        assert_eq!(model.next(&mut guide), ["f", "["]);
        model.push(&mut guide, "f");
        assert_eq!(model.next(&mut guide), ["[ARGS]"]);
        model.push(&mut guide, "[ARGS]{");
        assert_eq!(model.next(&mut guide), ["}"]);
        model.push(&mut guide, "}");
        assert_eq!(model.next(&mut guide), ["[TOOL_CALLS]", END]);
        model.push(&mut guide, "[TOOL_CALLS]f[ARGS]{}");
        model.push(&mut guide, END);
        assert_eq!(model.next(&mut guide), [""; 0]);

        let mut guide = model.calling_guide(ToolChoice::Auto, true);
        let text = ["{", "}", "a", "f", "[", "[TOOL_CALLS]", END];
        assert_eq!(model.next(&mut guide), text);
        model.push(&mut guide, "a{[");
        assert_eq!(model.next(&mut guide), text);
        model.push(&mut guide, "[TOOL_CALLS]f[ARGS]{}");
        assert_eq!(model.next(&mut guide), [END]);

        let mut guide = model.calling_guide(ToolChoice::None, false);
        assert_eq!(model.next(&mut guide), ["{", "}", "a", "f", "[", END]);
    }
}
