//! A cursor over the first bytes of a file that knows how long the whole file is.

use crate::{Error, Result, error::Detail};

/// The largest header that is read, in bytes. The largest published ones, whose vocabularies have
/// some 260,000 entries, take about 16 MiB.
pub(super) const MAX_HEADER_BYTES: u64 = 64 << 20;

/// The longest name of a key or a tensor, in bytes: what the format allows for keys.
pub(super) const MAX_NAME_BYTES: u64 = (1 << 16) - 1;

/// How far a parser came with the first bytes of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed<T> {
    /// The header was complete.
    Complete(T),
    /// The header continues after the bytes that were given.
    NeedMore {
        /// How many bytes of the file to give next time, from its start: more than were given and
        /// no more than the file has. At least twice as many as were given unless the file is
        /// shorter, so that parsing again from the start costs no more than parsing once.
        at_least: u64,
    },
}

/// Parses `prefix`, the first bytes of a file of `file_len` bytes.
pub(super) fn parse_prefix<T>(
    prefix: &[u8],
    file_len: u64,
    parse: impl FnOnce(&mut Reader<'_>) -> Read<T>,
) -> Result<Parsed<T>> {
    let given = prefix.len() as u64;
    if given > file_len {
        return Err(Error::argument("more bytes were given than the file has")
            .with("found", given)
            .with("limit", file_len));
    }
    match parse(&mut Reader::new(prefix, file_len)) {
        Ok(header) => Ok(Parsed::Complete(header)),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::NeedMore(end)) => {
            let at_least = end.max(given.saturating_mul(2)).min(file_len);
            Ok(Parsed::NeedMore { at_least })
        }
    }
}

/// Why reading stopped early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The prefix ends before byte `0` of the file, which lies within the file.
    NeedMore(u64),
    /// The file is wrong, or not supported.
    Failed(Error),
}

impl Stop {
    /// Adds a fact to an error.
    pub(super) fn with(self, name: &'static str, detail: impl Into<Detail>) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.with(name, detail)),
            need_more => need_more,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What reading returns.
pub(super) type Read<T> = std::result::Result<T, Stop>;

/// Reads little-endian values from `prefix`, the first bytes of a file of `file_len` bytes.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    prefix: &'a [u8],
    /// At most `prefix.len()`.
    position: usize,
    file_len: u64,
}

impl<'a> Reader<'a> {
    fn new(prefix: &'a [u8], file_len: u64) -> Self {
        Self { prefix, position: 0, file_len }
    }

    /// The offset of the next byte in the file.
    pub(super) fn position(&self) -> u64 {
        self.position as u64
    }

    /// Succeeds if the next `needed` bytes are in the prefix. Anything whose size follows from a
    /// number in the file is allocated only after this, so that memory follows real bytes.
    pub(super) fn require(&self, needed: u64) -> Read<usize> {
        let position = self.position();
        let left = self.file_len.saturating_sub(position);
        if needed > left {
            return Err(Error::invalid("the file ends inside its header")
                .with("offset", position)
                .with("needed", needed)
                .with("limit", left)
                .into());
        }
        let end = position + needed;
        if end > MAX_HEADER_BYTES {
            return Err(Error::unsupported("the header of the file is too large")
                .with("offset", position)
                .with("needed", end)
                .with("limit", MAX_HEADER_BYTES)
                .into());
        }
        if end > self.prefix.len() as u64 {
            return Err(Stop::NeedMore(end));
        }
        Ok(end as usize)
    }

    /// The next `n_bytes` bytes.
    pub(super) fn take(&mut self, n_bytes: u64) -> Read<&'a [u8]> {
        let end = self.require(n_bytes)?;
        let bytes = &self.prefix[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    /// The next `N` bytes, as the `from_le_bytes` functions want them.
    pub(super) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length in 8 bytes, then that many bytes of UTF-8.
    pub(super) fn str(&mut self) -> Read<&'a str> {
        let len = self.u64()?;
        let offset = self.position();
        utf8(self.take(len)?, offset)
    }

    /// The name of a key or a tensor: a string of at most [`MAX_NAME_BYTES`].
    pub(super) fn name(&mut self) -> Read<&'a str> {
        let len = u64::from_le_bytes(self.clone().array()?);
        if len > MAX_NAME_BYTES {
            return Err(Error::invalid("a name is too long")
                .with("offset", self.position())
                .with("needed", len)
                .with("limit", MAX_NAME_BYTES)
                .into());
        }
        self.str()
    }
}

/// `bytes`, which begin at `offset` in the file, as text.
pub(super) fn utf8(bytes: &[u8], offset: u64) -> Read<&str> {
    str::from_utf8(bytes).map_err(|error| {
        Error::invalid("a string is not UTF-8")
            .with("offset", offset + error.valid_up_to() as u64)
            .into()
    })
}
