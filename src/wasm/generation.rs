//! A generation in the worker, which may take several turns.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use super::{Lease, host::WorkerHost, options, options::to_plain_js, promise};
use crate::{
    error::{Error, Result},
    session::{self, FinishReason, Host, Session, Summary, TokenEvent},
    source::LocalFuture,
};

/// An answer under way. Dropping it frees what it has set aside.
#[wasm_bindgen]
pub struct Generation {
    /// Taken out while it runs; absent once it is over.
    generation: Rc<Cell<Option<session::Generation>>>,
    with_logprobs: bool,
    session: Rc<RefCell<Option<Session>>>,
    host: Rc<WorkerHost>,
}

impl Generation {
    /// A generation of the session in its place.
    pub(super) fn new(
        generation: session::Generation,
        with_logprobs: bool,
        session: Rc<RefCell<Option<Session>>>,
        host: Rc<WorkerHost>,
    ) -> Self {
        Self { generation: Rc::new(Cell::new(Some(generation))), with_logprobs, session, host }
    }
}

#[wasm_bindgen]
impl Generation {
    /// Goes on until the generation is over, or gives way as `is_awaited` says that others wait: then the
    /// promise has no value. `on_tokens` takes batches of `{ token, text, logprob?, … }`.
    pub fn run(&self, signal: AbortSignal, is_awaited: Function, on_tokens: Function) -> Promise {
        let (place, host) = (self.generation.clone(), self.host.clone());
        let (session, with_logprobs) = (self.session.clone(), self.with_logprobs);
        promise(async move {
            let over = || Error::argument("the generation is over");
            let mut generation = place.take().ok_or_else(over)?;
            let mut session = Lease::take(&session, false)?;
            let session = session.get();
            let description = session.description.clone();
            let mut emit = |events: &[TokenEvent]| -> Result<()> {
                let tokenizer = &description.tokenizer;
                let batch = options::token_batch(events, with_logprobs, tokenizer)?;
                // What the callback throws is a defect of the worker's own code.
                on_tokens.call1(&JsValue::NULL, &batch).map(drop).map_err(|thrown| {
                    Error::argument(format!("the token callback failed: {thrown:?}"))
                })
            };
            let host = SharedHost { host: &host, is_awaited };
            let aborted = || signal.aborted();
            let summary = session.run(&mut generation, &host, &aborted, &mut emit).await?;
            match summary {
                Some(summary) => to_plain_js(&outcome(summary)),
                None => {
                    place.set(Some(generation));
                    Ok(JsValue::UNDEFINED)
                }
            }
        })
    }
}

fn outcome(summary: Summary) -> options::Outcome {
    options::Outcome {
        finish_reason: match summary.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        },
        prompt_tokens: summary.prompt_tokens,
        cached_tokens: summary.cached_tokens,
        completion_tokens: summary.completion_tokens,
        prefill_ms: summary.prefill_ms,
        decode_ms: summary.decode_ms,
        time_to_first_token_ms: summary.first_token_ms,
    }
}

/// The worker, and whether others wait in it.
struct SharedHost<'a> {
    host: &'a WorkerHost,
    is_awaited: Function,
}

impl Host for SharedHost<'_> {
    fn now(&self) -> f64 {
        self.host.now()
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        self.host.yield_now()
    }

    fn is_awaited(&self) -> bool {
        self.is_awaited.call0(&JsValue::NULL).is_ok_and(|answer| answer.is_truthy())
    }
}
