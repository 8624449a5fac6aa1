//! An answer, taken apart as it comes.

use super::{
    Event, Problem,
    format::{CallFormat, Calls, Progress},
    output::{Kind, Output},
    search::{Found, Search},
};
use crate::tokenizer::StreamDecoder;

const THINK: &str = "<think>";
const END_THINK: &str = "</think>";

/// Reads an answer, piece by piece.
///
/// Tokens of their own for markers come like any other text, since some models have them and others
/// spell the same markers out.
#[derive(Clone, Debug)]
pub struct AnswerParser {
    /// How calls are written, where there is something to call.
    format: Option<CallFormat>,
    decoder: StreamDecoder,
    out: Output,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Thinking(Search),
    Saying(Saying),
    Calling(Calls),
}

/// Content, and what is looked for in it.
#[derive(Clone, Debug)]
struct Saying {
    search: Search,
    /// Whether the answer begins here, as far as anybody was told.
    is_start: bool,
    /// Whether only calls are to follow.
    is_after_call: bool,
}

impl AnswerParser {
    /// A parser at the start of an answer to a prompt that ends with `prompt_end`: some end within
    /// thoughts. Calls are looked for where there are `functions`.
    pub fn new(format: Option<CallFormat>, functions: Vec<String>, prompt_end: &str) -> Self {
        let format = format.filter(|_| !functions.is_empty());
        let mut out = Output::new(functions);
        let state = if prompt_end.trim_end().ends_with(THINK) {
            State::thinking(&mut out)
        } else {
            let saying = Saying::new([THINK].into_iter().chain(format.map(CallFormat::open)));
            State::Saying(Saying { is_start: true, ..saying })
        };
        Self { format, decoder: StreamDecoder::new(), out, state }
    }

    /// Reads the bytes of the next token, unless that ends the answer.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let text = self.decoder.push(bytes);
        text.chars().for_each(|c| self.read(c));
        self.out.take_events()
    }

    /// Ends the answer where the model does.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Event> {
        self.end(true)
    }

    /// Ends the answer where a limit does: a call that it cuts is not malformed. As of a header in
    /// harmony, nothing is told of one whose arguments have not begun.
    #[must_use]
    pub fn cut(&mut self) -> Vec<Event> {
        self.end(false)
    }

    fn end(&mut self, ends_by_itself: bool) -> Vec<Event> {
        self.decoder.finish().chars().for_each(|c| self.read(c));
        let out = &mut self.out;
        match &mut self.state {
            State::Thinking(search) => out.say(Kind::Reasoning, &search.finish()),
            State::Saying(saying) => {
                let text = saying.search.finish();
                saying.say(&text, out);
            }
            State::Calling(calls) if calls.is_unmarked() => out.show(),
            State::Calling(calls) => {
                let is_unfinished = calls.is_within() && out.has_untold();
                if ends_by_itself && is_unfinished && !out.is_shown() {
                    out.reject(Problem::Unfinished);
                }
                out.end_calls();
            }
        }
        out.end();
        out.take_events()
    }

    fn read(&mut self, c: char) {
        let (out, format) = (&mut self.out, self.format);
        match &mut self.state {
            State::Thinking(search) => match search.push(c) {
                Found::Text(text) => out.say(Kind::Reasoning, &text),
                Found::Marker(..) => {
                    out.end();
                    out.trim();
                    let saying = Saying::new(format.map(CallFormat::open));
                    self.state = State::Saying(Saying { is_start: true, ..saying });
                }
            },
            State::Saying(saying) => {
                if let Some(next) = saying.read(c, format, out) {
                    self.state = next;
                }
            }
            State::Calling(calls) => {
                out.keep(c.encode_utf8(&mut [0; 4]));
                let saying = || Saying::new(format.map(CallFormat::open));
                let saying_after_call =
                    || Saying::new(format.into_iter().flat_map(CallFormat::markers));
                let was_within = calls.is_within();
                match calls.push(c, out) {
                    // What follows a call is kept: it may be text, in which calls are looked for.
                    Progress::Inside if was_within || calls.is_within() => out.flush(),
                    Progress::Inside => {}
                    Progress::Over { is_closed } => {
                        let is_after_call = !is_closed && !out.is_shown();
                        out.end_calls();
                        self.state = State::Saying(Saying { is_after_call, ..saying() });
                    }
                    Progress::Passed => {
                        let is_after_call = !out.is_shown();
                        let text = out.take_kept();
                        self.state = State::Saying(Saying { is_after_call, ..saying_after_call() });
                        text.chars().for_each(|c| self.read(c));
                    }
                    Progress::NoCall => {
                        out.take_back();
                        out.show();
                        self.state = State::Saying(saying());
                        self.read(c);
                    }
                    Progress::Failed(problem) => {
                        out.take_back();
                        // Where what opens a call is told as content, what closes it is so too.
                        let is_told = out.current() == Some(Kind::Call);
                        if !out.is_shown() {
                            out.reject(problem);
                        }
                        out.end_calls();
                        let saying = if is_told { saying_after_call() } else { saying() };
                        self.state = State::Saying(saying);
                        self.read(c);
                    }
                }
            }
        }
    }
}

impl State {
    fn thinking(out: &mut Output) -> Self {
        out.trim();
        Self::Thinking(Search::new([END_THINK]))
    }
}

impl Saying {
    fn new(markers: impl IntoIterator<Item = &'static str>) -> Self {
        Self { search: Search::new(markers), is_start: false, is_after_call: false }
    }

    /// What follows, if it is no content.
    fn read(&mut self, c: char, format: Option<CallFormat>, out: &mut Output) -> Option<State> {
        if self.is_start && self.search.is_between() {
            let calls = format.and_then(|format| format.unmarked_calls(c));
            if calls.is_some() {
                out.keep(&self.search.finish());
                out.keep(c.encode_utf8(&mut [0; 4]));
                return calls.map(State::Calling);
            }
        }
        match self.search.push(c) {
            Found::Text(text) => self.say(&text, out),
            Found::Marker(THINK, _) => return Some(State::thinking(out)),
            Found::Marker(marker, spaces) => {
                let format = format.filter(|format| format.open() == marker);
                if let Some(format) = format {
                    out.keep(&spaces);
                    out.keep(marker);
                    return Some(State::Calling(format.calls()));
                }
            }
        }
        None
    }

    fn say(&mut self, text: &str, out: &mut Output) {
        if !text.trim_start().is_empty() {
            if self.is_start {
                self.is_start = false;
                // Content may be about thoughts; only an answer that begins with them has any.
                self.search.ignore(THINK);
            }
            if std::mem::take(&mut self.is_after_call) {
                out.reject_text();
            }
        }
        out.say(Kind::Content, text);
    }
}
