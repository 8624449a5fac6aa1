//! Fuel for what the engine does not charge for before it is too late.
//!
//! The engine pays for strings as operators and filters make them, but the methods of Python's
//! strings come from another crate, and lists become text in one go: one that repeats a long string
//! is small until it is written out. Here the cost is measured first.

use std::fmt::{self, Write as _};

use minijinja::{
    Error, ErrorKind, Output, State, Value,
    value::{Kwargs, StringInput, ValueKind},
};
use minijinja_contrib::pycompat;

/// How many bytes of text cost one unit of fuel.
const BYTES_PER_FUEL: usize = 64;

/// The longest run of digits in a format string: a field may be 999 characters wide.
const MAX_FORMAT_DIGITS: usize = 3;

/// Takes the fuel that `value` as text costs, and fails if there is not enough.
fn charge_text(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    struct Meter<'a, 'b, 'c>(&'a State<'b, 'c>);

    impl fmt::Write for Meter<'_, '_, '_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let fuel = text.len().div_ceil(BYTES_PER_FUEL);
            self.0.consume_fuel(fuel as u64).map_err(|_| fmt::Error)
        }
    }

    if value.as_object().is_none() {
        return Ok(());
    }
    write!(Meter(state), "{value}").map_err(|_| ErrorKind::OutOfFuel.into())
}

/// Writes the value of an expression.
pub(super) fn write_value(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    charge_text(state, value)?;
    minijinja::escape_formatter(output, state, value)
}

/// `value|join(separator, attribute)`.
pub(super) fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    separator: Option<StringInput<'_>>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    charge_text(state, value)?;
    minijinja::filters::join(state, value, separator, attribute, options)
}

/// The methods of Python's strings, lists and dictionaries.
pub(super) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        match (method, arguments) {
            ("join", [list]) => return state.apply_filter("join", &[list.clone(), value.clone()]),
            ("replace", _) => {
                let all: Vec<Value> = [value].into_iter().chain(arguments).cloned().collect();
                return state.apply_filter("replace", &all);
            }
            ("format", _) => charge_format(state, value, arguments)?,
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}

/// Takes the fuel for `format.format(arguments)`, each of which may be written many times.
fn charge_format(state: &State<'_, '_>, format: &Value, arguments: &[Value]) -> Result<(), Error> {
    let format = format.as_str().unwrap_or_default();
    let wide = |run: &str| run.len() > MAX_FORMAT_DIGITS;
    if format.split(|character: char| !character.is_ascii_digit()).any(wide) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a field of a format is too wide"));
    }
    for _ in format.matches('{') {
        for argument in arguments {
            charge_text(state, argument)?;
            let n_bytes = argument.as_str().map_or(0, str::len);
            state.consume_fuel((n_bytes / BYTES_PER_FUEL) as u64)?;
        }
    }
    Ok(())
}
