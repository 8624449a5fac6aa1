//! What of an answer is told: messages begin with their first text, so that none is empty.

use super::{Event, Problem};
use crate::chat::harmony::{ANALYSIS, COMMENTARY, CONSTRAIN, FINAL, FUNCTIONS, Header, Role};

/// Collects the events of an answer.
///
/// What a call consists of beside its arguments is told nobody. It is kept until it is certain that
/// it is a call, and becomes content where it is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// The functions that may be called.
    functions: Vec<String>,
    events: Vec<Event>,
    n_started: usize,
    current: Option<Kind>,
    /// Whether blank space is left out that comes next: messages stand apart from each other anyway.
    trims: bool,
    /// What was read as part of a call since something was told.
    raw: String,
    /// Whether `raw` is told as content, since it is no call.
    is_shown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reasoning,
    Content,
    Call,
}

impl Output {
    pub fn new(functions: Vec<String>) -> Self {
        Self { functions, ..Self::default() }
    }

    pub fn has(&self, function: &str) -> bool {
        self.functions.iter().any(|name| name == function)
    }

    /// What message is being told.
    pub fn current(&self) -> Option<Kind> {
        self.current
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Tells text of a message of this kind, the current one if it is of that kind.
    pub fn say(&mut self, kind: Kind, text: &str) {
        let text = if self.trims { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.trims = false;
        self.turn_to(kind);
        match self.events.last_mut() {
            Some(Event::Text { text: last, .. }) => last.push_str(text),
            _ => {
                let index = self.n_started - 1;
                self.events.push(Event::Text { index, text: text.to_owned() });
            }
        }
    }

    /// Leaves out blank space up to the next text.
    pub fn trim(&mut self) {
        self.trims = true;
    }

    fn turn_to(&mut self, kind: Kind) {
        if self.current != Some(kind) {
            self.start(kind, None);
        }
    }

    fn start(&mut self, kind: Kind, function: Option<&str>) {
        self.end();
        let channel = match kind {
            Kind::Reasoning => ANALYSIS,
            Kind::Content => FINAL,
            Kind::Call => COMMENTARY,
        };
        let header = Header {
            role: Role::Assistant,
            name: None,
            recipient: function.map(|name| format!("{FUNCTIONS}.{name}")),
            channel: Some(channel.to_owned()),
            content_type: function.map(|_| format!("{CONSTRAIN}json")),
        };
        self.events.push(Event::Started { index: self.n_started, header });
        self.n_started += 1;
        self.current = Some(kind);
    }

    /// Ends the current message, if there is one.
    pub fn end(&mut self) {
        if self.current.take().is_some() {
            self.events.push(Event::Ended { index: self.n_started - 1 });
            self.trims = true;
        }
    }

    /// Keeps what may be part of a call.
    pub fn keep(&mut self, text: &str) {
        self.raw.push_str(text);
    }

    /// Whether anything of a call is kept, or one has begun.
    pub fn has_untold(&self) -> bool {
        self.current == Some(Kind::Call) || !self.raw.trim_start().is_empty()
    }

    /// Begins the call of a function.
    pub fn begin_call(&mut self, function: &str) {
        self.start(Kind::Call, Some(function));
        self.raw.clear();
    }

    /// Tells a part of the arguments of the call that has begun.
    pub fn argue(&mut self, text: &str) {
        self.say(Kind::Call, text);
        self.raw.clear();
    }

    /// Ends the call, which is whole.
    pub fn complete_call(&mut self) {
        self.end();
        self.raw.clear();
    }

    /// Reports what is wrong with what was read as a call. If the call has begun, the problem is its
    /// own, and ends it. What was not told of it is content.
    pub fn reject(&mut self, problem: Problem) {
        if self.current != Some(Kind::Call) {
            self.turn_to(Kind::Content);
        }
        self.events.push(Event::Malformed { problem });
        if self.current == Some(Kind::Call) {
            self.end();
        }
        self.is_shown = true;
    }

    /// Reports that something follows a call which is none; it is content.
    pub fn reject_text(&mut self) {
        self.turn_to(Kind::Content);
        self.events.push(Event::Malformed { problem: Problem::TextAfterCall });
    }

    pub fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Tells what was kept as content, if that is what it is.
    pub fn flush(&mut self) {
        if self.is_shown {
            self.show();
        }
    }

    /// Tells what was kept as content.
    pub fn show(&mut self) {
        let raw = std::mem::take(&mut self.raw);
        self.say(Kind::Content, &raw);
    }

    /// Begins with what may be another call, whatever became of the one before it.
    pub fn renew(&mut self) {
        self.is_shown = false;
    }

    /// Drops a mark between calls, unless it stands after one that is told as content.
    pub fn drop_mark(&mut self) {
        if !self.is_shown {
            self.raw.clear();
        }
    }

    /// Ends what was read as calls.
    pub fn end_calls(&mut self) {
        if self.is_shown {
            self.show();
        } else {
            self.raw.clear();
            self.trims = true;
        }
        self.is_shown = false;
    }

    /// Takes back all that was kept, since it comes after calls.
    pub fn take_kept(&mut self) -> String {
        self.is_shown = false;
        std::mem::take(&mut self.raw)
    }

    /// Takes the last character back from what was kept.
    pub fn take_back(&mut self) {
        self.raw.pop();
    }
}
