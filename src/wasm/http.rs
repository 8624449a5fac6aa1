//! A file at a URL, as a source.
//!
//! Readers ask in rising order, so one response is read as a stream for as long as they do; only a jump
//! starts another request. A connection that fails in the middle is taken up again where it stopped. A
//! server without range requests works too: what lies before the wanted bytes is skipped.

use std::cell::RefCell;

use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, Headers, ReadableStreamDefaultReader, RequestInit, Response, WorkerGlobalScope,
};

use super::error::{cast, from_thrown};
use crate::{
    error::{Error, ErrorKind, Result},
    source::{LocalFuture, Source},
};

/// Bytes that are rather skipped than asked for anew.
const MAX_SKIP: u64 = 1 << 20;

/// Failures in a row, without a byte between them, after which a read fails.
const MAX_FAILURES: u32 = 4;

/// Pause after the first failure in a row, in milliseconds; it doubles with each.
const FIRST_PAUSE_MS: i32 = 250;

/// A file at a URL.
pub struct HttpSource {
    url: String,
    len: u64,
    signal: AbortSignal,
    stream: RefCell<Option<Stream>>,
}

/// A response being read.
struct Stream {
    reader: ReadableStreamDefaultReader,
    /// Offset in the file of what comes next.
    position: u64,
    /// What has arrived and is not taken yet.
    chunk: Option<Uint8Array>,
}

impl HttpSource {
    /// Asks for the file at `url`; reading goes on with the same response.
    ///
    /// # Errors
    /// `network` with the status, or when the server does not tell the file's size; `aborted`.
    pub async fn open(url: &str, signal: &AbortSignal) -> Result<Self> {
        let (stream, len) = request(url, 0, signal).await?;
        let len = len.ok_or_else(|| {
            Error::new(ErrorKind::Network, "the server does not tell the file's size")
                .with("url", url)
        })?;
        Ok(Self {
            url: url.to_owned(),
            len,
            signal: signal.clone(),
            stream: RefCell::new(Some(stream)),
        })
    }

    /// A stream that stands at or shortly before `offset`.
    async fn stream_at(&self, offset: u64) -> Result<Stream> {
        if let Some(stream) = self.stream.take()
            && stream.position <= offset
            && offset - stream.position <= MAX_SKIP
        {
            return Ok(stream);
        }
        let (stream, len) = request(&self.url, offset, &self.signal).await?;
        match len {
            Some(len) if len != self.len => {
                Err(Error::new(ErrorKind::Network, "the file changed while it was read")
                    .with("url", self.url.as_str())
                    .with("expected", self.len)
                    .with("found", len))
            }
            _ => Ok(stream),
        }
    }

    async fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        let mut failures = 0;
        while filled < buffer.len() {
            let position = offset + filled as u64;
            let result = match self.stream_at(position).await {
                Ok(stream) => self.take_from(stream, position, &mut buffer[filled..]).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(taken) => {
                    filled += taken;
                    failures = 0;
                }
                Err(error) if self.signal.aborted() => {
                    return Err(Error::new(ErrorKind::Aborted, error.to_string()));
                }
                Err(error) => {
                    failures += 1;
                    if failures == MAX_FAILURES || error.detail("status").is_some() {
                        return Err(error);
                    }
                    pause(FIRST_PAUSE_MS << (failures - 1)).await;
                }
            }
        }
        Ok(())
    }

    /// Takes what the stream's next chunk has for `buffer`, which begins at `position`.
    async fn take_from(
        &self,
        mut stream: Stream,
        position: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let chunk = match stream.chunk.take() {
            Some(chunk) => chunk,
            None => match next_chunk(&stream.reader, &self.url).await? {
                Some(chunk) => chunk,
                None => {
                    return Err(Error::new(ErrorKind::Network, "the connection ended early")
                        .with("url", self.url.as_str())
                        .with("offset", stream.position)
                        .with("expected", self.len));
                }
            },
        };
        let available = u64::from(chunk.length());
        let skipped = (position - stream.position).min(available);
        let taken = (available - skipped).min(buffer.len() as u64);
        let end = (skipped + taken) as u32;
        chunk.subarray(skipped as u32, end).copy_to(&mut buffer[..taken as usize]);
        stream.position += skipped + taken;
        if skipped + taken < available {
            stream.chunk = Some(chunk.subarray(end, chunk.length()));
        }
        *self.stream.borrow_mut() = Some(stream);
        Ok(taken as usize)
    }
}

impl Source for HttpSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.fill(offset, buffer))
    }

    /// Browsers keep few connections to a server: a response that nobody reads would take one away.
    fn rest(&self) {
        self.stream.take();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let cancelled = self.reader.cancel();
        // It rejects where the response had failed before, which is of no interest any more.
        wasm_bindgen_futures::spawn_local(async { drop(JsFuture::from(cancelled).await) });
    }
}

async fn pause(milliseconds: i32) {
    let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
    let timer = Promise::new(&mut |resolve, _| {
        // Without a timer there is no pause.
        let _ = scope.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
    });
    // It only ever resolves.
    let _ = JsFuture::from(timer).await;
}

/// Asks for the file from `offset` on; returns the response's stream and the file's size, if told.
async fn request(url: &str, offset: u64, signal: &AbortSignal) -> Result<(Stream, Option<u64>)> {
    let failed = |thrown: JsValue| {
        from_thrown(ErrorKind::Network, "the request failed", &thrown).with("url", url)
    };
    let headers = Headers::new().map_err(failed)?;
    headers.set("Range", &format!("bytes={offset}-")).map_err(failed)?;
    let init = RequestInit::new();
    init.set_headers(&headers);
    init.set_signal(Some(signal));
    let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
    let response =
        JsFuture::from(scope.fetch_with_str_and_init(url, &init)).await.map_err(failed)?;
    let response: Response = cast(ErrorKind::Network, "fetch", response)?;
    let header = |name: &str| response.headers().get(name).ok().flatten();
    let (position, len) = match response.status() {
        200 => (0, header("content-length").and_then(|value| value.parse().ok())),
        206 => {
            let range = header("content-range").unwrap_or_default();
            let (start, len) = parse_content_range(&range).ok_or_else(|| {
                Error::new(ErrorKind::Network, "the server's range cannot be read")
                    .with("url", url)
                    .with("found", range.as_str())
            })?;
            if start != offset {
                return Err(Error::new(ErrorKind::Network, "the server answered another range")
                    .with("url", url)
                    .with("expected", offset)
                    .with("found", start));
            }
            (start, len)
        }
        status => {
            return Err(Error::new(ErrorKind::Network, "the server refused the request")
                .with("url", url)
                .with("status", u32::from(status)));
        }
    };
    let body = response.body().ok_or_else(|| {
        Error::new(ErrorKind::Network, "the response has no body").with("url", url)
    })?;
    let reader = cast(ErrorKind::Network, "getReader", body.get_reader().into())?;
    Ok((Stream { reader, position, chunk: None }, len))
}

/// The start and the size of the whole in `bytes START-END/SIZE`; the size may be `*`.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    Some((start.parse().ok()?, size))
}

async fn next_chunk(reader: &ReadableStreamDefaultReader, url: &str) -> Result<Option<Uint8Array>> {
    let failed = |thrown: JsValue| {
        from_thrown(ErrorKind::Network, "the connection failed", &thrown).with("url", url)
    };
    let result = JsFuture::from(reader.read()).await.map_err(failed)?;
    if Reflect::get(&result, &"done".into()).map_err(failed)?.is_truthy() {
        return Ok(None);
    }
    let value = Reflect::get(&result, &"value".into()).map_err(failed)?;
    cast(ErrorKind::Network, "read", value).map(Some)
}
