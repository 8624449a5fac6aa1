//! JSON, character by character: whether what has come so far is the beginning of a text, and where
//! that text ends. Nothing is kept but which brackets are open.

/// How deep objects and lists may stand in each other: shallower than what `serde_json` reads, so
/// that a call can stand in the messages of the next prompt.
const MAX_DEPTH: usize = 100;

/// Whether JSON has `c` between its parts, where it means nothing.
pub(super) const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// What a character is to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// It belongs to the value, or comes before it, and more has to come.
    Inside,
    /// The value ends with it.
    Last,
    /// The value, a number, has ended before it.
    Past,
    /// No value goes on like this.
    Invalid,
}

/// Reads one value. Once that has ended, nothing more may be pushed.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanner {
    open: Vec<Bracket>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Object,
    List,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    AfterValue,
    Text {
        scanner: TextScanner,
        is_key: bool,
    },
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Word(&'static str),
}

/// What of a number has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Scanner {
    /// Goes on with a text that `scanner` has begun.
    pub fn in_text(scanner: TextScanner) -> Self {
        Self { open: Vec::new(), state: State::Text { scanner, is_key: false } }
    }

    pub fn push(&mut self, c: char) -> Scanned {
        if let State::Number(number) = self.state {
            match number.next(c) {
                Some(next) => {
                    self.state = State::Number(next);
                    return Scanned::Inside;
                }
                None if !number.is_whole() => return Scanned::Invalid,
                None if self.open.is_empty() => return Scanned::Past,
                None => self.state = State::AfterValue,
            }
        }
        let bracket = self.open.last().copied();
        match (&mut self.state, c) {
            (State::Text { scanner, is_key }, _) => match scanner.push(c) {
                TextScanned::End if *is_key => self.state = State::Colon,
                TextScanned::End => return self.end_value(),
                TextScanned::Invalid => return Scanned::Invalid,
                TextScanned::Char(_) | TextScanned::Inside => {}
            },
            (State::Word(rest), _) => match rest.strip_prefix(c) {
                Some("") => return self.end_value(),
                Some(after) => self.state = State::Word(after),
                None => return Scanned::Invalid,
            },
            _ if is_blank(c) => {}
            (State::FirstElement, ']') | (State::FirstKey, '}') => return self.close(),
            (State::AfterValue, '}') if bracket == Some(Bracket::Object) => return self.close(),
            (State::AfterValue, ']') if bracket == Some(Bracket::List) => return self.close(),
            (State::AfterValue, ',') => {
                let is_object = bracket == Some(Bracket::Object);
                self.state = if is_object { State::Key } else { State::Value };
            }
            (State::FirstKey | State::Key, '"') => {
                self.state = State::Text { scanner: TextScanner::default(), is_key: true };
            }
            (State::Colon, ':') => self.state = State::Value,
            (State::Value | State::FirstElement, _) => return self.begin_value(c),
            _ => return Scanned::Invalid,
        }
        Scanned::Inside
    }

    fn begin_value(&mut self, c: char) -> Scanned {
        self.state = match c {
            '{' | '[' if self.open.len() == MAX_DEPTH => return Scanned::Invalid,
            '{' => {
                self.open.push(Bracket::Object);
                State::FirstKey
            }
            '[' => {
                self.open.push(Bracket::List);
                State::FirstElement
            }
            '"' => State::Text { scanner: TextScanner::default(), is_key: false },
            't' => State::Word("rue"),
            'f' => State::Word("alse"),
            'n' => State::Word("ull"),
            '-' => State::Number(Number::Minus),
            '0' => State::Number(Number::Zero),
            '1'..='9' => State::Number(Number::Digits),
            _ => return Scanned::Invalid,
        };
        Scanned::Inside
    }

    fn close(&mut self) -> Scanned {
        self.open.pop();
        self.end_value()
    }

    fn end_value(&mut self) -> Scanned {
        self.state = State::AfterValue;
        if self.open.is_empty() { Scanned::Last } else { Scanned::Inside }
    }
}

impl Number {
    fn next(self, c: char) -> Option<Self> {
        Some(match (self, c) {
            (Self::Minus, '0') => Self::Zero,
            (Self::Minus, '1'..='9') | (Self::Digits, '0'..='9') => Self::Digits,
            (Self::Zero | Self::Digits, '.') => Self::Point,
            (Self::Point | Self::Fraction, '0'..='9') => Self::Fraction,
            (Self::Zero | Self::Digits | Self::Fraction, 'e' | 'E') => Self::Exponent,
            (Self::Exponent, '+' | '-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, '0'..='9') => {
                Self::ExponentDigits
            }
            _ => return None,
        })
    }

    const fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Digits | Self::Fraction | Self::ExponentDigits)
    }
}

/// What a character is to a text in quotation marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextScanned {
    /// It completes this character of the text.
    Char(char),
    /// It belongs to an escape that is not complete.
    Inside,
    /// It is the closing quotation mark.
    End,
    /// No text goes on like this.
    Invalid,
}

/// Reads a text, after its opening quotation mark.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TextScanner {
    state: Escape,
    /// The first of two code units that make one character together.
    high: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    /// After `\`.
    Begun,
    /// Within the four digits of a code unit.
    Unit { n_digits: u8, value: u32 },
}

impl TextScanner {
    pub fn push(&mut self, c: char) -> TextScanned {
        match self.state {
            Escape::None => match c {
                '\\' => {
                    self.state = Escape::Begun;
                    TextScanned::Inside
                }
                _ if self.high.is_some() => TextScanned::Invalid,
                '"' => TextScanned::End,
                '\0'..' ' => TextScanned::Invalid,
                _ => TextScanned::Char(c),
            },
            Escape::Begun => {
                if c == 'u' {
                    self.state = Escape::Unit { n_digits: 0, value: 0 };
                    return TextScanned::Inside;
                }
                self.state = Escape::None;
                match escaped(c) {
                    Some(c) if self.high.is_none() => TextScanned::Char(c),
                    _ => TextScanned::Invalid,
                }
            }
            Escape::Unit { n_digits, value } => {
                let Some(digit) = c.to_digit(16) else { return TextScanned::Invalid };
                let value = value * 16 + digit;
                if n_digits < 3 {
                    self.state = Escape::Unit { n_digits: n_digits + 1, value };
                    return TextScanned::Inside;
                }
                self.state = Escape::None;
                self.unit(value)
            }
        }
    }

    fn unit(&mut self, unit: u32) -> TextScanned {
        let character = match (self.high.take(), unit) {
            (None, 0xD800..0xDC00) => {
                self.high = Some(unit);
                return TextScanned::Inside;
            }
            (Some(high), 0xDC00..0xE000) => 0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00),
            (Some(_), _) => return TextScanned::Invalid,
            (None, _) => unit,
        };
        char::from_u32(character).map_or(TextScanned::Invalid, TextScanned::Char)
    }
}

/// What a backslash and `c` stand for.
const fn escaped(c: char) -> Option<char> {
    Some(match c {
        '"' | '\\' | '/' => c,
        'b' => '\u{8}',
        'f' => '\u{C}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a value ends with the last character of `text`, and not earlier.
    fn is_whole(text: &str) -> bool {
        let mut scanner = Scanner::default();
        let mut ended = false;
        for c in text.chars() {
            if ended {
                return false;
            }
            match scanner.push(c) {
                Scanned::Inside => {}
                Scanned::Last => ended = true,
                Scanned::Past | Scanned::Invalid => return false,
            }
        }
        ended
    }

    #[test]
    fn a_value_ends_where_its_bracket_closes() {
        for text in [
            "{}",
            " \n[ ]",
            r#"{"a":{"}":["]",{}]},"b":"\"}"}"#,
            r#"[-0.5e+7,0,10,1E2,true,false,null,"è🙂\u00e8\ud83d\ude42\/\b\f\n\r\t"]"#,
            r#"{"a" : 1 , "b" : [ 2 , [ ] ] }"#,
            "\"\"",
        ] {
            assert!(is_whole(text), "{text}");
            let shorter = &text[..text.len() - 1];
            assert!(!is_whole(shorter), "{shorter}");
        }
        let deep = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(is_whole(&deep));
        assert!(!is_whole(&format!("[{deep}]")));
        assert!(serde_json::from_str::<serde_json::Value>(&deep).is_ok());
    }

    #[test]
    fn what_is_not_json_is_invalid_where_it_leaves_it() {
        for (text, n_valid) in [
            ("{a", 1),
            ("{\"a\",", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("[1,]", 3),
            ("[1}", 2),
            ("{\"a\":1]", 6),
            ("[01", 2),
            ("[-,", 2),
            ("[1.]", 3),
            ("[1e]", 3),
            ("[.5", 1),
            ("[tru,", 4),
            ("['a'", 1),
            ("[\"a\n", 3),
            (r#"["\x"#, 3),
            (r#"["\u12g"#, 6),
            (r#"["\ude42"#, 7),
            (r#"["\ud83dx"#, 8),
            (r#"["\ud83d\n"#, 9),
            (r#"["\ud83d\u0041"#, 13),
            (r#"["\ud83d""#, 8),
            ("]", 0),
            ("\u{a0}1", 0),
        ] {
            let mut scanner = Scanner::default();
            let found = text.chars().position(|c| scanner.push(c) == Scanned::Invalid);
            assert_eq!(found, Some(n_valid), "{text}");
        }
    }

    #[test]
    fn a_number_alone_ends_before_what_cannot_belong_to_it() {
        let mut scanner = Scanner::default();
        assert_eq!(
            "-1.5".chars().map(|c| scanner.push(c)).collect::<Vec<_>>(),
            [Scanned::Inside; 4]
        );
        assert_eq!(scanner.push('}'), Scanned::Past);
    }

    /// Texts of the characters that matter in JSON.
    fn json_like() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            proptest::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\", "\\u00e8", "1", "-", "0", ".",
                "e", "true", "null", " ", "\n", "è",
            ]),
            0..12,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whole_values_are_those_that_serde_json_reads(inner in json_like()) {
            for text in [format!("[{inner}]"), format!("{{\"a\":{inner}}}"), format!("\"{inner}\"")] {
                let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                prop_assert_eq!(is_whole(&text), is_json, "{}", text);
            }
        }
    }
}
