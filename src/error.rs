//! The one error type of the crate.
//!
//! Every failure that data from outside can cause (a file, the network, a GPU, a caller in
//! JavaScript) is an [`Error`] with a stable [`ErrorKind`] and the facts behind it: the tensor or
//! key concerned, a byte offset, what was needed and what was there.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// What went wrong, as a stable name. [`ErrorKind::as_str`] is what JavaScript sees as
/// `PesiError.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A model file, tokenizer or configuration contradicts itself or its size.
    InvalidModel,
    /// Well-formed, but something this version does not run.
    Unsupported,
    /// A caller passed a value that cannot be used.
    InvalidArgument,
    /// The prompt does not fit the context.
    ContextExceeded,
    /// The chat template failed or exceeded its budget.
    Template,
    /// A request failed or was answered with an error.
    Network,
    /// Reading or writing a local file or browser storage failed.
    Storage,
    /// Browser storage or the disk is full.
    QuotaExceeded,
    /// No GPU adapter that can run the model.
    NoAdapter,
    /// The device has less memory than the model needs.
    OutOfMemory,
    /// The GPU device was lost.
    DeviceLost,
    /// The GPU rejected work: a defect in this crate or in a driver.
    Gpu,
    /// The caller cancelled.
    Aborted,
    /// The model was disposed of.
    Disposed,
}

impl ErrorKind {
    /// The stable name of the kind, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidModel => "invalid_model",
            Self::Unsupported => "unsupported",
            Self::InvalidArgument => "invalid_argument",
            Self::ContextExceeded => "context_exceeded",
            Self::Template => "template",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::QuotaExceeded => "quota_exceeded",
            Self::NoAdapter => "no_adapter",
            Self::OutOfMemory => "out_of_memory",
            Self::DeviceLost => "device_lost",
            Self::Gpu => "gpu",
            Self::Aborted => "aborted",
            Self::Disposed => "disposed",
        }
    }
}

/// A fact behind an error: a count or a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Detail {
    /// A count, an offset or a size.
    Number(u64),
    /// A name or a short text.
    Text(String),
}

impl From<u64> for Detail {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Detail {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<u32> for Detail {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: its kind, a sentence, and the facts behind it. It goes from one WebAssembly module to another
/// as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    details: Vec<(Cow<'static, str>, Detail)>,
}

impl Error {
    /// An error of `kind`; `message` is a sentence fragment without a final stop.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), details: Vec::new() }))
    }

    /// Shorthand for [`ErrorKind::InvalidModel`].
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidModel, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Shorthand for [`ErrorKind::InvalidArgument`].
    pub fn argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Adds a fact. Usual names: `tensor`, `key`, `offset`, `needed`, `limit`, `expected`, `found`.
    #[must_use]
    pub fn with(mut self, name: &'static str, detail: impl Into<Detail>) -> Self {
        self.0.details.push((name.into(), detail.into()));
        self
    }

    /// What went wrong, as a stable name.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence alone, without the facts.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts behind the error, in the order they were added.
    pub fn details(&self) -> &[(Cow<'static, str>, Detail)] {
        &self.0.details
    }

    /// The fact called `name`.
    pub fn detail(&self, name: &str) -> Option<&Detail> {
        self.0.details.iter().find(|(key, _)| *key == name).map(|(_, detail)| detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)?;
        for (index, (name, detail)) in self.0.details.iter().enumerate() {
            formatter.write_str(if index == 0 { " (" } else { ", " })?;
            match detail {
                Detail::Number(number) => write!(formatter, "{name}: {number}")?,
                Detail::Text(text) => write!(formatter, "{name}: {text}")?,
            }
        }
        if self.0.details.is_empty() { Ok(()) } else { formatter.write_str(")") }
    }
}

impl std::error::Error for Error {}
