//! A file at a URL, as a source: a request for each range.
//!
//! A request that fails, stalls, ends early or is answered with a passing error is made again for what
//! is still missing. Where an address redirects to another, that one is used until it is refused: links
//! signed for a while are. A server that knows no ranges is read from one stream, in order.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, AbortSignal, Headers, ReadableStreamDefaultReader, RequestCache, RequestInit,
    Response, WorkerGlobalScope,
};

use super::error::{cast, from_thrown};
use crate::{
    error::{Error, ErrorKind, Result},
    source::{LocalFuture, Source},
    store::Reason,
};

/// Bytes of a file that are asked for when it is opened.
const FIRST_BYTES: u64 = 256 << 10;

/// Failures in a row, without a byte between them, after which a read fails.
const MAX_FAILURES: u32 = 6;

/// As many where no byte has come yet: the address may be wrong.
const MAX_FIRST_FAILURES: u32 = 3;

/// Pause after the first failure in a row, in milliseconds; it doubles with each.
const FIRST_PAUSE_MS: i32 = 250;

/// The longest pause that a server's `Retry-After` is followed for, in milliseconds.
const MAX_PAUSE_MS: i32 = 60_000;

/// Time without a byte after which a request is made anew, in milliseconds; it doubles with each
/// failure in a row.
const STALL_MS: i32 = 5_000;

/// Answers that may be others a moment later.
const PASSING: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];

/// Answers of an address that was good for a while.
const EXPIRED: [u16; 5] = [400, 401, 403, 404, 410];

/// Answers with a whole file to requests for a range, after which a server counts as knowing none.
const MAX_IGNORED: u32 = 2;

/// Told about bytes as they arrive.
pub type OnBytes = Rc<dyn Fn(u64)>;

/// A file at a URL.
pub struct HttpSource {
    url: String,
    /// Where the URL leads, as long as that is good.
    direct: RefCell<Option<String>>,
    len: Cell<u64>,
    version: RefCell<Option<String>>,
    signal: AbortSignal,
    on_bytes: OnBytes,
    /// The file's beginning, as far as it was read before the first rest.
    head: RefCell<Vec<u8>>,
    is_opening: Cell<bool>,
    /// Whether the server has answered with a range.
    has_ranges: Cell<bool>,
    /// How often in a row it gave all for a range.
    n_ignored: Cell<u32>,
    /// For servers that know no ranges.
    stream: RefCell<Option<Body>>,
    queue: Queue,
}

/// The body of a response, being read.
struct Body {
    reader: ReadableStreamDefaultReader,
    controller: AbortController,
    /// Offset in the file of what comes next.
    position: u64,
    /// What has arrived and is not taken yet.
    chunk: Option<Uint8Array>,
}

/// What a request came to.
enum Failure {
    /// It may go better the next time, after so many milliseconds at least.
    Passing(Error, i32),
    /// The redirect's target has expired: the URL itself is to be asked.
    Expired,
    /// It will not.
    Final(Error),
}

impl HttpSource {
    /// Asks for the file at `url`, and keeps its beginning.
    ///
    /// # Errors
    /// `network` with the status, or when the server does not tell the file's size; `aborted`.
    pub async fn open(url: &str, signal: &AbortSignal, on_bytes: OnBytes) -> Result<Self> {
        let source = Self::known(url, u64::MAX, None, signal, on_bytes);
        let mut failures = 0;
        let body = loop {
            match source.request(0..FIRST_BYTES, failures).await {
                Ok(body) => break body,
                Err(failure) => source.recover(failure, &mut failures).await?,
            }
        };
        *source.stream.borrow_mut() = Some(body);
        let mut head = vec![0; FIRST_BYTES.min(source.len()) as usize];
        source.read_into(0, &mut head).await?;
        *source.head.borrow_mut() = head;
        source.is_opening.set(true);
        Ok(source)
    }

    /// The file at `url`, of which size and version are known. They are compared with what the server
    /// says when it is first read.
    pub fn known(
        url: &str,
        len: u64,
        version: Option<String>,
        signal: &AbortSignal,
        on_bytes: OnBytes,
    ) -> Self {
        Self {
            url: url.to_owned(),
            direct: RefCell::default(),
            len: Cell::new(len),
            version: RefCell::new(version),
            signal: signal.clone(),
            on_bytes,
            head: RefCell::default(),
            is_opening: Cell::new(false),
            has_ranges: Cell::new(false),
            n_ignored: Cell::new(0),
            stream: RefCell::default(),
            queue: Queue::default(),
        }
    }

    /// Whether the server knows no ranges.
    fn is_sequential(&self) -> bool {
        self.n_ignored.get() >= MAX_IGNORED
    }

    async fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let n_held = {
            let head = self.head.borrow();
            let held = head.get(offset.min(head.len() as u64) as usize..).unwrap_or_default();
            let n_held = held.len().min(buffer.len());
            buffer[..n_held].copy_from_slice(&held[..n_held]);
            n_held
        };
        let rest = &mut buffer[n_held..];
        if rest.is_empty() {
            return Ok(());
        }
        let offset = offset + n_held as u64;
        self.read_into(offset, rest).await?;
        if self.is_opening.get() && self.head.borrow().len() as u64 == offset {
            self.head.borrow_mut().extend_from_slice(rest);
        }
        Ok(())
    }

    async fn read_into(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let (mut filled, mut failures) = (0, 0);
        let mut body = None;
        let mut turn = None;
        while filled < buffer.len() {
            if self.is_sequential() && turn.is_none() {
                body = None;
                turn = Some(self.queue.wait().await);
            }
            let position = offset + filled as u64;
            let result = self.take(&mut body, position, &mut buffer[filled..], failures).await;
            match result {
                Ok(taken) => {
                    filled += taken;
                    failures = 0;
                }
                Err(failure) => {
                    body = None;
                    self.recover(failure, &mut failures).await?;
                }
            }
        }
        if self.is_sequential() {
            *self.stream.borrow_mut() = body;
        }
        Ok(())
    }

    /// Takes what comes next of `body` for `buffer`, which begins at `position`; asks for it first where
    /// there is none.
    async fn take(
        &self,
        body: &mut Option<Body>,
        position: u64,
        buffer: &mut [u8],
        failures: u32,
    ) -> Result<usize, Failure> {
        if body.is_none() {
            // What was opened first, or is read in order, goes on.
            let waiting = self.stream.take().filter(|body| body.position <= position);
            *body = match waiting {
                Some(body) => Some(body),
                None => {
                    Some(self.request(position..position + buffer.len() as u64, failures).await?)
                }
            };
        }
        let open = body.as_mut().expect("asked for above");
        let chunk = match open.chunk.take() {
            Some(chunk) => chunk,
            None => match self.within(stall(failures), next_chunk(&open.reader)).await? {
                Some(chunk) => chunk,
                None => return Err(self.passing("the connection ended early", position)),
            },
        };
        let available = u64::from(chunk.length());
        let skipped = (position - open.position).min(available);
        let taken = (available - skipped).min(buffer.len() as u64);
        let end = (skipped + taken) as u32;
        chunk.subarray(skipped as u32, end).copy_to(&mut buffer[..taken as usize]);
        open.position += skipped + taken;
        if skipped + taken < available {
            open.chunk = Some(chunk.subarray(end, chunk.length()));
        }
        (self.on_bytes)(taken);
        Ok(taken as usize)
    }

    /// Waits before a request is made again, or gives up.
    async fn recover(&self, failure: Failure, failures: &mut u32) -> Result<()> {
        *failures += 1;
        let (error, pause_ms) = match failure {
            Failure::Final(error) => (error, None),
            Failure::Expired => {
                *self.direct.borrow_mut() = None;
                return Ok(());
            }
            Failure::Passing(error, at_least) => {
                let backed_off = FIRST_PAUSE_MS << (*failures - 1).min(8);
                let is_known = self.len.get() != u64::MAX;
                let most = if is_known { MAX_FAILURES } else { MAX_FIRST_FAILURES };
                let may_go_on = *failures < most;
                (error, may_go_on.then_some(backed_off.max(at_least).min(MAX_PAUSE_MS)))
            }
        };
        if self.signal.aborted() {
            return Err(Error::new(ErrorKind::Aborted, "cancelled by the caller"));
        }
        match pause_ms {
            Some(milliseconds) => pause(milliseconds).await,
            None => return Err(error),
        }
        match self.signal.aborted() {
            true => Err(Error::new(ErrorKind::Aborted, "cancelled by the caller")),
            false => Ok(()),
        }
    }

    /// Asks for `range`, or for what comes after its start where the server knows no ranges.
    async fn request(&self, range: std::ops::Range<u64>, failures: u32) -> Result<Body, Failure> {
        let controller = AbortController::new().map_err(|thrown| self.thrown(&thrown))?;
        let signals = js_sys::Array::of2(&self.signal, &controller.signal());
        let headers = Headers::new().map_err(|thrown| self.thrown(&thrown))?;
        let wanted = format!("bytes={}-{}", range.start, range.end.min(self.len.get()) - 1);
        headers.set("Range", &wanted).map_err(|thrown| self.thrown(&thrown))?;
        let init = RequestInit::new();
        init.set_headers(&headers);
        // What is stored need not be in the browser's cache as well.
        init.set_cache(RequestCache::NoStore);
        init.set_signal(Some(&AbortSignal::any(&signals)));
        let direct = self.direct.borrow().clone();
        let url = direct.as_deref().unwrap_or(&self.url);
        let fetched = JsFuture::from(scope().fetch_with_str_and_init(url, &init));
        let response = match self.within(stall(failures), fetched).await {
            Ok(response) => response,
            Err(failure) => {
                controller.abort();
                return Err(failure);
            }
        };
        let response: Response =
            cast(ErrorKind::Network, "fetch", response).map_err(Failure::Final)?;
        match self.judge(&response, &range, direct.is_some()) {
            Ok(position) => {
                if response.redirected() {
                    *self.direct.borrow_mut() = Some(response.url());
                }
                let body = response.body().map(|body| body.get_reader());
                let body =
                    body.ok_or_else(|| self.passing("the response has no body", position))?;
                let reader = cast(ErrorKind::Network, "getReader", body.into());
                let reader = reader.map_err(Failure::Final)?;
                Ok(Body { reader, controller, position, chunk: None })
            }
            Err(failure) => {
                // A body that nobody reads would hold on to its connection.
                controller.abort();
                Err(failure)
            }
        }
    }

    /// The offset at which the body of `response` begins.
    fn judge(
        &self,
        response: &Response,
        range: &std::ops::Range<u64>,
        is_direct: bool,
    ) -> Result<u64, Failure> {
        let header = |name: &str| response.headers().get(name).ok().flatten();
        let status = response.status();
        let (position, len) = match status {
            200 => {
                let len = header("content-length").and_then(|value| value.parse().ok());
                (0, if header("content-encoding").is_some() { None } else { len })
            }
            206 => {
                let found = header("content-range").unwrap_or_default();
                let (start, len) = parse_content_range(&found).ok_or_else(|| {
                    Failure::Final(
                        self.error("the server's range cannot be read").with("found", found),
                    )
                })?;
                if start != range.start {
                    return Err(self.passing("the server answered another range", range.start));
                }
                (start, len)
            }
            // What is asked for from the start of an empty file.
            416 if range.start == 0 && header("content-range").as_deref() == Some("bytes */0") => {
                return Err(Failure::Final(
                    Error::invalid("the file is empty").with("url", &*self.url),
                ));
            }
            416 => return Err(Failure::Final(self.changed())),
            _ if is_direct && EXPIRED.contains(&status) => return Err(Failure::Expired),
            _ => {
                let error =
                    self.error("the server refused the request").with("status", u32::from(status));
                let is_redirected = response.redirected() && EXPIRED.contains(&status);
                return Err(match is_redirected || PASSING.contains(&status) {
                    true => Failure::Passing(error, retry_after(header("retry-after"))),
                    false => Failure::Final(error),
                });
            }
        };
        self.compare(len, header("etag"))?;
        if status == 200 && !self.is_sequential() {
            let n_ignored = self.n_ignored.get() + 1;
            self.n_ignored.set(if self.has_ranges.get() { n_ignored } else { MAX_IGNORED });
            if range.start > 0 {
                return Err(self.passing("the server ignored the range", range.start));
            }
        }
        if status == 206 {
            self.has_ranges.set(true);
            self.n_ignored.set(0);
        }
        Ok(position)
    }

    /// Compares what a response says of the file with what is known of it, and learns what is not.
    fn compare(&self, len: Option<u64>, version: Option<String>) -> Result<(), Failure> {
        let known_len = self.len.get();
        match len {
            Some(len) if known_len == u64::MAX => self.len.set(len),
            Some(len) if len != known_len => {
                let changed = self.changed().with("expected", known_len).with("found", len);
                return Err(Failure::Final(changed));
            }
            None if known_len == u64::MAX => {
                let error = self.error("the server does not tell the file's size");
                return Err(Failure::Final(error));
            }
            _ => {}
        }
        let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
        let Some(version) = version.as_deref().map(opaque) else { return Ok(()) };
        let mut known = self.version.borrow_mut();
        match known.as_deref() {
            Some(known) if known != version => {
                Err(Failure::Final(self.changed().with("expected", known).with("found", version)))
            }
            _ => {
                *known = Some(version);
                Ok(())
            }
        }
    }

    /// The result of `promise`, unless that takes longer than `milliseconds`.
    async fn within<T>(
        &self,
        milliseconds: i32,
        promise: impl Future<Output = Result<T, JsValue>>,
    ) -> Result<T, Failure> {
        let result = std::pin::pin!(promise);
        match select(result, std::pin::pin!(pause(milliseconds))).await {
            Either::Left((result, _)) => result.map_err(|thrown| self.thrown(&thrown)),
            Either::Right(_) => {
                let error = self.error("the server has stopped sending");
                Err(Failure::Passing(error.with("milliseconds", milliseconds as u32), 0))
            }
        }
    }

    fn error(&self, message: &'static str) -> Error {
        Error::new(ErrorKind::Network, message).with("url", self.url.as_str())
    }

    fn changed(&self) -> Error {
        Reason::Changed
            .error(ErrorKind::Network, "the file has changed since it was first read")
            .with("url", self.url.as_str())
    }

    fn passing(&self, message: &'static str, offset: u64) -> Failure {
        Failure::Passing(self.error(message).with("offset", offset), 0)
    }

    fn thrown(&self, thrown: &JsValue) -> Failure {
        let error = from_thrown(ErrorKind::Network, "the request failed", thrown);
        Failure::Passing(error.with("url", self.url.as_str()), 0)
    }
}

impl Source for HttpSource {
    fn len(&self) -> u64 {
        self.len.get()
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.fill(offset, buffer))
    }

    fn version(&self) -> Option<String> {
        self.version.borrow().clone()
    }

    /// Browsers keep few connections to a server: a response that nobody reads would take one away.
    fn rest(&self) {
        self.is_opening.set(false);
        self.stream.take();
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.controller.abort();
    }
}

/// Lets readers of one stream take turns, in the order in which they came.
#[derive(Default)]
struct Queue {
    is_taken: Rc<Cell<bool>>,
    waiting: Rc<RefCell<VecDeque<oneshot::Sender<()>>>>,
}

/// A turn; the next begins when it is dropped.
struct Turn {
    is_taken: Rc<Cell<bool>>,
    waiting: Rc<RefCell<VecDeque<oneshot::Sender<()>>>>,
}

impl Queue {
    async fn wait(&self) -> Turn {
        if self.is_taken.replace(true) {
            let (sender, receiver) = oneshot::channel();
            self.waiting.borrow_mut().push_back(sender);
            // Whoever has the turn passes it on before it is gone.
            let _ = receiver.await;
        }
        Turn { is_taken: self.is_taken.clone(), waiting: self.waiting.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some(next) => {
                    if next.send(()).is_ok() {
                        return;
                    }
                }
                None => {
                    self.is_taken.set(false);
                    return;
                }
            }
        }
    }
}

/// Time without a byte that is waited for after so many failures.
fn stall(failures: u32) -> i32 {
    STALL_MS << failures.min(3)
}

/// Milliseconds that a server asks to wait, where it names seconds.
fn retry_after(header: Option<String>) -> i32 {
    let seconds: Option<i32> = header.and_then(|value| value.trim().parse().ok());
    seconds.unwrap_or(0).clamp(0, MAX_PAUSE_MS / 1000) * 1000
}

/// Resolves after so many milliseconds.
pub async fn pause(milliseconds: i32) {
    let mut timer = Timer(None);
    let scope = scope();
    let promise = Promise::new(&mut |resolve, _| {
        let started =
            scope.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
        // Without a timer there is no pause.
        timer.0 = started.ok();
    });
    if timer.0.is_some() {
        // It only ever resolves.
        let _ = JsFuture::from(promise).await;
    }
}

/// A timer, ended when dropped.
struct Timer(Option<i32>);

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            scope().clear_timeout_with_handle(id);
        }
    }
}

fn scope() -> WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// The start and the size of the whole in `bytes START-END/SIZE`; the size may be `*`.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    Some((start.parse().ok()?, size))
}

async fn next_chunk(reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>, JsValue> {
    let result = JsFuture::from(reader.read()).await?;
    if Reflect::get(&result, &"done".into())?.is_truthy() {
        return Ok(None);
    }
    Reflect::get(&result, &"value".into())?.dyn_into().map(Some)
}
