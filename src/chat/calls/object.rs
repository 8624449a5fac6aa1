//! A call as JSON: an object with the name of a function and its arguments, in either order.
//!
//! Arguments are passed on as they come, once the name is known: they are the text of the value as
//! the model wrote it, or what a text says that has them in it. Other members are read and dropped.

use super::{
    Problem,
    arguments::{ArgumentsRead, ArgumentsReader},
    output::Output,
    scanner::{Scanned, Scanner, TextScanned, TextScanner, is_blank},
};

/// What a character is to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// It belongs to the call, and more has to come.
    Inside,
    /// The call ends with it, whatever it was.
    Last,
    /// The text is no call, and nothing says that it was to be one.
    NoCall,
    /// A call does not go on like this.
    Invalid,
}

/// Reads one object, after its opening bracket.
#[derive(Clone, Debug)]
pub(super) struct ObjectReader {
    /// Whether it is known that the object was to be a call. Without a mark, only what has a name and
    /// arguments was, and nothing ahead of them that calls do not have.
    is_marked: bool,
    state: State,
    name: Option<String>,
    arguments: Option<Arguments>,
}

#[derive(Clone, Debug)]
enum State {
    FirstKey,
    NextKey,
    Key(TextScanner, String),
    Colon(Member),
    Value(Member),
    Name(TextScanner, String),
    Arguments(ArgumentsReader),
    Other(Scanner),
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Name,
    Arguments,
    Other,
}

/// What became of arguments so far.
#[derive(Clone, Debug)]
enum Arguments {
    /// They wait for the name.
    Held(String),
    Told,
}

impl ObjectReader {
    pub fn new(is_marked: bool) -> Self {
        Self { is_marked, state: State::FirstKey, name: None, arguments: None }
    }

    /// Whether it is known that the object was to be a call.
    pub fn is_marked(&self) -> bool {
        self.is_marked
    }

    pub fn push(&mut self, c: char, out: &mut Output) -> Read {
        match self.read(c, out) {
            Read::Invalid if !self.is_marked => Read::NoCall,
            read => read,
        }
    }

    fn read(&mut self, c: char, out: &mut Output) -> Read {
        match &mut self.state {
            State::Key(scanner, key) => match scanner.push(c) {
                TextScanned::Char(c) => key.push(c),
                TextScanned::Inside => {}
                TextScanned::End => {
                    let key = std::mem::take(key);
                    return self.key(&key, out);
                }
                TextScanned::Invalid => return Read::Invalid,
            },
            State::Name(scanner, name) => match scanner.push(c) {
                TextScanned::Char(c) => name.push(c),
                TextScanned::Inside => {}
                TextScanned::End => {
                    let name = std::mem::take(name);
                    self.state = State::After;
                    self.named(name, out);
                }
                TextScanned::Invalid => return Read::Invalid,
            },
            State::Arguments(reader) => {
                let read = reader.push(c);
                if reader.has_ended() {
                    self.state = State::After;
                }
                match read {
                    ArgumentsRead::Text(c) => self.argue(c, out),
                    ArgumentsRead::Nothing => {}
                    ArgumentsRead::Wrong(_) if !self.was_to_be_call() => return Read::NoCall,
                    ArgumentsRead::Wrong(rest) => {
                        self.reject(Problem::BadArguments, out);
                        self.state = rest.map_or(State::After, State::Other);
                    }
                    ArgumentsRead::Invalid => return Read::Invalid,
                }
            }
            State::Other(scanner) => match scanner.push(c) {
                Scanned::Inside => {}
                Scanned::Last => self.state = State::After,
                Scanned::Past => {
                    self.state = State::After;
                    return self.read(c, out);
                }
                Scanned::Invalid => return Read::Invalid,
            },
            _ if is_blank(c) => {}
            State::FirstKey | State::NextKey if c == '"' => {
                self.state = State::Key(TextScanner::default(), String::new());
            }
            State::Colon(member) if c == ':' => self.state = State::Value(*member),
            State::Value(member) => {
                let member = *member;
                return self.begin_value(member, c, out);
            }
            State::After if c == ',' => self.state = State::NextKey,
            State::FirstKey | State::After if c == '}' => return self.close(out),
            _ => return Read::Invalid,
        }
        Read::Inside
    }

    fn key(&mut self, key: &str, out: &mut Output) -> Read {
        let member = match key {
            _ if out.is_shown() => Member::Other,
            "name" => Member::Name,
            "arguments" | "parameters" => Member::Arguments,
            "type" | "id" => Member::Other,
            _ if !self.is_marked => return Read::NoCall,
            _ => Member::Other,
        };
        self.state = State::Colon(member);
        let is_repeated = match member {
            Member::Name => self.name.is_some(),
            Member::Arguments => self.arguments.is_some(),
            Member::Other => false,
        };
        let has_unknown_name = self.name.as_ref().is_some_and(|name| !out.has(name));
        let problem = match member {
            _ if is_repeated && !self.is_marked => return Read::NoCall,
            _ if is_repeated => Some(Problem::Repeated),
            Member::Arguments if has_unknown_name => Some(Problem::UnknownTool),
            _ => None,
        };
        if let Some(problem) = problem {
            self.reject(problem, out);
            self.state = State::Colon(Member::Other);
        }
        Read::Inside
    }

    /// Whether arguments, which have begun, make the object one that was to be a call: of what is not
    /// marked, they tell only after a name, which then is that of a function.
    fn was_to_be_call(&self) -> bool {
        self.is_marked || self.name.is_some()
    }

    /// Reports a problem. The rest of the object is read to find where it ends.
    fn reject(&mut self, problem: Problem, out: &mut Output) {
        self.is_marked = true;
        out.reject(problem);
    }

    fn begin_call(&mut self, function: &str, out: &mut Output) {
        self.is_marked = true;
        out.begin_call(function);
        self.arguments = Some(Arguments::Told);
    }

    fn begin_value(&mut self, member: Member, c: char, out: &mut Output) -> Read {
        match (member, c) {
            (Member::Name, '"') => self.state = State::Name(TextScanner::default(), String::new()),
            (Member::Arguments, '{') => {
                self.arguments = Some(Arguments::Held(String::new()));
                self.state = State::Arguments(ArgumentsReader::object());
                self.argue(c, out);
            }
            (Member::Arguments, '"') => {
                self.arguments = Some(Arguments::Held(String::new()));
                self.state = State::Arguments(ArgumentsReader::text());
            }
            _ => {
                match member {
                    Member::Other => {}
                    _ if !self.was_to_be_call() => return Read::NoCall,
                    Member::Name => self.reject(Problem::MissingName, out),
                    Member::Arguments => self.reject(Problem::BadArguments, out),
                }
                self.state = State::Other(Scanner::default());
                return self.read(c, out);
            }
        }
        Read::Inside
    }

    fn named(&mut self, name: String, out: &mut Output) {
        if !out.has(&name) {
            // Of what is not marked, only the arguments tell that it was to be a call.
            if self.is_marked || self.arguments.is_some() {
                self.reject(Problem::UnknownTool, out);
            }
        } else if let Some(Arguments::Held(held)) = self.arguments.take() {
            self.begin_call(&name, out);
            out.argue(&held);
        }
        self.name = Some(name);
    }

    fn argue(&mut self, c: char, out: &mut Output) {
        if out.is_shown() {
            return;
        }
        if let Some(Arguments::Held(held)) = &mut self.arguments {
            match self.name.take() {
                None => return held.push(c),
                Some(name) => {
                    self.begin_call(&name, out);
                    self.name = Some(name);
                }
            }
        }
        out.argue(c.encode_utf8(&mut [0; 4]));
    }

    fn close(&mut self, out: &mut Output) -> Read {
        if out.is_shown() {
            return Read::Last;
        }
        if !self.is_marked && (self.name.is_none() || self.arguments.is_none()) {
            return Read::NoCall;
        }
        let Some(name) = self.name.take() else {
            self.reject(Problem::MissingName, out);
            return Read::Last;
        };
        // A function without parameters can be called without arguments.
        if self.arguments.is_none() {
            self.begin_call(&name, out);
            out.argue("{}");
        }
        out.complete_call();
        Read::Last
    }
}
