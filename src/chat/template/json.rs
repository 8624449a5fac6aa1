//! The `tojson` filter as `transformers` defines it: `json.dumps` of Python.

use std::io;

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// How many bytes of JSON cost one unit of fuel.
const BYTES_PER_FUEL: u64 = 16;

/// `value|tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
///
/// Unlike the filter of Jinja2 itself it escapes nothing for HTML, and keys keep their order.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let separators: Option<Value> = options.get("separators")?;
    let style = Style::new(
        indent.filter(|indent| !indent.is_none()),
        separators.filter(|separators| !separators.is_none()),
        options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    )?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    if sort_keys {
        let mut json: serde_json::Value =
            serde_json::from_str(&dump(state, value, &Style::default())?).map_err(failed)?;
        json.sort_all_objects();
        dump(state, &json, &style)
    } else {
        dump(state, value, &style)
    }
}

/// Writes `value`, paying fuel for what is written while it is written: a value can be larger than
/// memory, since the engine repeats lists lazily.
fn dump(state: &State<'_, '_>, value: &impl Serialize, style: &Style) -> Result<String, Error> {
    let mut metered = Metered { state, bytes: Vec::new(), n_unpaid: 0 };
    let formatter = PythonFormatter { style, depth: 0, has_elements: false };
    value.serialize(&mut Serializer::with_formatter(&mut metered, formatter)).map_err(|error| {
        if error.is_io() { Error::from(ErrorKind::OutOfFuel) } else { failed(error) }
    })?;
    String::from_utf8(metered.bytes)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "tojson wrote malformed text"))
}

fn failed(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadSerialization, "tojson cannot write this value").with_source(error)
}

/// A buffer that takes fuel for the bytes written to it.
struct Metered<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    bytes: Vec<u8>,
    n_unpaid: u64,
}

impl io::Write for Metered<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.n_unpaid += bytes.len() as u64;
        self.state.consume_fuel(self.n_unpaid / BYTES_PER_FUEL).map_err(io::Error::other)?;
        self.n_unpaid %= BYTES_PER_FUEL;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The options of `json.dumps`.
struct Style {
    /// What one level is indented by; `None` writes all on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            indent: None,
            item_separator: ", ".to_owned(),
            key_separator: ": ".to_owned(),
            ensure_ascii: false,
        }
    }
}

impl Style {
    /// The longest indentation of one level.
    const MAX_INDENT: usize = 64;

    fn new(
        indent: Option<Value>,
        separators: Option<Value>,
        ensure_ascii: bool,
    ) -> Result<Self, Error> {
        let invalid = |what: &'static str| Error::new(ErrorKind::InvalidOperation, what);
        let mut style = Self { ensure_ascii, ..Self::default() };
        if let Some(indent) = indent {
            let text = match indent.as_str() {
                Some(text) => Some(text.to_owned()),
                None => i64::try_from(indent).ok().map(|n_spaces| {
                    " ".repeat(usize::try_from(n_spaces).unwrap_or(0).min(Self::MAX_INDENT + 1))
                }),
            };
            let fits = |text: &String| text.len() <= Self::MAX_INDENT;
            let text = text.filter(fits).ok_or_else(|| invalid("tojson: bad indent"))?;
            style.indent = Some(text);
            style.item_separator = ",".to_owned();
        }
        if let Some(separators) = separators {
            let is_list = separators.kind() == ValueKind::Seq && separators.len() == Some(2);
            let member = |index: usize| {
                let text = separators.get_item_by_index(index).ok()?;
                Some(text.as_str()?.to_owned())
            };
            let pair = is_list.then(|| member(0).zip(member(1))).flatten();
            (style.item_separator, style.key_separator) =
                pair.ok_or_else(|| invalid("tojson: bad separators"))?;
        }
        Ok(style)
    }
}

/// Writes JSON the way Python does.
struct PythonFormatter<'a> {
    style: &'a Style,
    depth: usize,
    /// Whether the innermost list or object has any element yet.
    has_elements: bool,
}

impl PythonFormatter<'_> {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_elements = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_elements {
            self.break_line(writer)?;
        }
        self.has_elements = true;
        writer.write_all(bracket)
    }

    fn separate<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.style.item_separator.as_bytes())?;
        }
        self.break_line(writer)
    }

    fn break_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        if let Some(indent) = &self.style.indent {
            writer.write_all(b"\n")?;
            for _ in 0..self.depth {
                writer.write_all(indent.as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Formatter for PythonFormatter<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_elements = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.style.key_separator.as_bytes())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_elements = true;
        Ok(())
    }

    /// Python and Rust agree on the digits and on when to write an exponent, but Python gives the
    /// exponent a sign and at least two digits.
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => writer.write_all(text.as_bytes()),
            Some((digits, exponent)) => {
                let magnitude = exponent.trim_start_matches('-');
                let sign = if magnitude.len() < exponent.len() { '-' } else { '+' };
                write!(writer, "{digits}e{sign}{magnitude:0>2}")
            }
        }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.style.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if matches!(character, ' '..='~') {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}
