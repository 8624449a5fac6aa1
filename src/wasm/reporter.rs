//! Tells the page how far a load is, and the other tabs too where they wait for it.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use js_sys::Function;
use wasm_bindgen::JsValue;
use web_sys::AbortSignal;

use super::{
    host::WorkerHost,
    lock::Channel,
    options::{Progress, to_plain_js},
};
use crate::{
    error::{Error, ErrorKind, Result},
    session::Host,
};

/// Time over which the speed is taken, in milliseconds.
const SPEED_WINDOW_MS: f64 = 3000.0;

/// Time between two reports, in milliseconds.
const REPORT_INTERVAL_MS: f64 = 50.0;

/// Reports of one load.
pub struct Reporter {
    state: RefCell<State>,
    on_progress: Function,
    signal: AbortSignal,
    host: Rc<WorkerHost>,
}

struct State {
    /// `None` between phases.
    progress: Option<Progress>,
    /// Bytes that have been taken in.
    done: u64,
    /// Those of them that were there before.
    kept: u64,
    /// Bytes that have arrived in this phase.
    arrived: u64,
    /// Times and bytes within the window.
    samples: VecDeque<(f64, u64)>,
    reported_at: f64,
    channel: Option<Channel>,
}

impl Reporter {
    /// Reports to `on_progress` until `signal` is aborted.
    pub fn new(on_progress: &Function, signal: &AbortSignal, host: &Rc<WorkerHost>) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                progress: None,
                done: 0,
                kept: 0,
                arrived: 0,
                samples: VecDeque::new(),
                reported_at: f64::NEG_INFINITY,
                channel: None,
            }),
            on_progress: on_progress.clone(),
            signal: signal.clone(),
            host: host.clone(),
        })
    }

    /// Tells the tabs that listen on `channel` as well; `None` ends that.
    pub fn share(&self, channel: Option<Channel>) {
        self.state.borrow_mut().channel = channel;
    }

    /// Begins a phase of `total_bytes`.
    ///
    /// # Errors
    /// As [`done`](Self::done).
    pub fn begin(&self, phase: &'static str, file: &str, total_bytes: u64) -> Result<()> {
        let mut state = self.state.borrow_mut();
        (state.done, state.kept, state.arrived) = (0, 0, 0);
        state.samples = VecDeque::from([(self.host.now(), 0)]);
        state.reported_at = f64::NEG_INFINITY;
        state.progress = Some(Progress {
            phase,
            file: file.to_owned(),
            loaded_bytes: 0,
            total_bytes,
            bytes_per_second: 0.0,
            eta_seconds: 0.0,
        });
        drop(state);
        self.report()
    }

    /// Ends a phase: bytes that arrive until the next are not counted.
    pub fn pause(&self) {
        self.state.borrow_mut().progress = None;
    }

    /// Counts bytes that arrive, of which not all may have been taken in.
    pub fn arrived(&self, bytes: u64) {
        self.state.borrow_mut().arrived += bytes;
        // A load that was cancelled, or whose page fails, ends at the next piece.
        let _ = self.report();
    }

    /// Counts `bytes` of `file` that have been taken in; `was_kept`: from where they had been kept.
    ///
    /// # Errors
    /// `aborted`; `invalid_argument` when the page's callback throws.
    pub fn done(&self, bytes: u64, file: Option<&str>, was_kept: bool) -> Result<()> {
        {
            let mut state = self.state.borrow_mut();
            state.done += bytes;
            state.kept += if was_kept { bytes } else { 0 };
            if let (Some(progress), Some(file)) = (&mut state.progress, file)
                && progress.file != file
            {
                file.clone_into(&mut progress.file);
            }
        }
        self.report()
    }

    /// # Errors
    /// `aborted` once the caller has cancelled.
    pub fn check(&self) -> Result<()> {
        match self.signal.aborted() {
            true => Err(Error::new(ErrorKind::Aborted, "cancelled by the caller")),
            false => Ok(()),
        }
    }

    fn report(&self) -> Result<()> {
        self.check()?;
        let mut state = self.state.borrow_mut();
        let State { progress, done, kept, arrived, samples, reported_at, channel } = &mut *state;
        let Some(progress) = progress else { return Ok(()) };
        let loaded = (*kept + *arrived).max(*done).min(progress.total_bytes);
        let now = self.host.now();
        samples.push_back((now, loaded));
        while samples.len() > 2 && now - samples[0].0 > SPEED_WINDOW_MS {
            samples.pop_front();
        }
        if now - *reported_at < REPORT_INTERVAL_MS
            && (loaded < progress.total_bytes || progress.loaded_bytes == loaded)
        {
            return Ok(());
        }
        *reported_at = now;
        let (then, bytes) = samples[0];
        let seconds = (now - then) / 1e3;
        progress.loaded_bytes = loaded;
        if seconds > 0.0 && loaded > bytes {
            progress.bytes_per_second = (loaded - bytes) as f64 / seconds;
            let left = progress.total_bytes - loaded;
            progress.eta_seconds = left as f64 / progress.bytes_per_second;
        }
        let event = to_plain_js(progress)?;
        if let Some(channel) = channel {
            channel.say(&event);
        }
        drop(state);
        self.on_progress
            .call1(&JsValue::NULL, &event)
            .map(drop)
            .map_err(|thrown| Error::argument(format!("the progress callback failed: {thrown:?}")))
    }
}
