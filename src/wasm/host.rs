//! The worker as surroundings of a session: its clock, and turns for messages.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{MessageChannel, MessagePort, Performance, WorkerGlobalScope};

use crate::{session::Host, source::LocalFuture};

/// A worker's clock and event loop.
///
/// Turns are given by messages to itself: they queue behind what has arrived, such as a cancellation,
/// and are not delayed like timers.
pub struct WorkerHost {
    performance: Option<Performance>,
    port: MessagePort,
    waiting: Rc<RefCell<VecDeque<Function>>>,
    _on_message: Closure<dyn FnMut()>,
}

impl WorkerHost {
    /// The host of the current worker.
    pub fn new() -> Self {
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let channel = MessageChannel::new().expect("workers have message channels");
        let waiting: Rc<RefCell<VecDeque<Function>>> = Rc::default();
        let arrived = waiting.clone();
        let on_message = Closure::new(move || {
            let resolve = arrived.borrow_mut().pop_front();
            if let Some(resolve) = resolve {
                // A promise's own resolve function does not throw.
                let _ = resolve.call0(&JsValue::NULL);
            }
        });
        channel.port1().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        Self {
            performance: scope.performance(),
            port: channel.port2(),
            waiting,
            _on_message: on_message,
        }
    }
}

impl Host for WorkerHost {
    fn now(&self) -> f64 {
        self.performance.as_ref().map_or_else(js_sys::Date::now, Performance::now)
    }

    fn yield_now(&self) -> LocalFuture<'_, ()> {
        let turn = Promise::new(&mut |resolve, _| {
            self.waiting.borrow_mut().push_back(resolve.unchecked_into());
        });
        Box::pin(async move {
            if self.port.post_message(&JsValue::NULL).is_ok() {
                // It only ever resolves.
                let _ = JsFuture::from(turn).await;
            }
        })
    }
}
