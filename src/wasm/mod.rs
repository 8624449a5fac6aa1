//! The bindings to JavaScript: the only part of the crate that knows there is one.
//!
//! [`Model`] is what the package's worker holds. Arguments come as plain objects that the package has
//! checked; what fails is thrown as `{ name: "PesiError", kind, message, details }`.

mod error;
mod file;
mod folder;
mod forecast;
mod generation;
mod host;
mod http;
mod load;
mod lock;
mod models;
mod opfs;
mod options;
mod reporter;
mod sums;
mod team;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::Promise;
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use self::{
    error::to_js,
    generation::Generation,
    host::WorkerHost,
    models::VerifyOptions,
    options::{
        GenerateOptions, Info, LoadOptions, RenderOptions, SourceOptions, Target, from_js,
        to_plain_js,
    },
};
use crate::{
    chat::harmony::ChatRequest,
    error::{Error, ErrorKind, Result},
    session::{Description, Request, Session},
};

/// Makes defects tell where they are.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
}

/// A model in the worker.
#[wasm_bindgen]
pub struct Model {
    info: Info,
    description: Rc<Description>,
    /// Absent once disposed of; taken out while a call computes.
    session: Rc<RefCell<Option<Session>>>,
    disposed: Cell<bool>,
    host: Rc<WorkerHost>,
}

#[wasm_bindgen]
impl Model {
    /// Loads a model: from browser storage if it is there, else from `source` and into storage.
    pub async fn load(source: JsValue, options: JsValue) -> Result<Model, JsValue> {
        let source: SourceOptions = SourceOptions::from_js(&source).map_err(to_js)?;
        let options = LoadOptions::from_js(&options).map_err(to_js)?;
        let host = Rc::new(WorkerHost::new());
        let loaded = load::load(&source, &options, &host).await.map_err(to_js)?;
        Ok(Self {
            info: loaded.info,
            description: loaded.session.description.clone(),
            session: Rc::new(RefCell::new(Some(loaded.session))),
            disposed: Cell::new(false),
            host,
        })
    }

    /// What the model is and where it runs.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        to_plain_js(&self.info).map_err(to_js)
    }

    /// Token ids of `text`; special tokens in it are recognised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.description.tokenizer.encode(text).map_err(to_js)
    }

    /// Token ids of `text` as the start of a prompt: with the token that begins one, if the model has it.
    #[wasm_bindgen(js_name = encodePrompt)]
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.description.prompt_tokens(text).map_err(to_js)
    }

    /// Text of token ids.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.description.tokenizer.decode(ids)
    }

    /// Token ids of messages in the model's chat format.
    #[wasm_bindgen(js_name = renderChat)]
    pub fn render_chat(&self, messages: JsValue, options: JsValue) -> Result<Vec<u32>, JsValue> {
        self.render(messages, options).map_err(to_js)
    }

    /// Logits after each of `tokens`, [n_tokens, n_vocab].
    pub fn logits(&self, tokens: Vec<u32>, signal: AbortSignal) -> Promise {
        let (session, host) = (self.session.clone(), self.host.clone());
        let disposed = self.disposed.get();
        promise(async move {
            let mut session = Lease::take(&session, disposed)?;
            let aborted = || signal.aborted();
            let logits = session.get().logits(&tokens, host.as_ref(), &aborted).await?;
            Ok(js_sys::Float32Array::from(logits.as_slice()).into())
        })
    }

    /// The residual stream ahead of the first layer and after each, for each of `tokens`,
    /// [n_layers + 1, n_tokens, n_embd].
    #[wasm_bindgen(js_name = hiddenStates)]
    pub fn hidden_states(&self, tokens: Vec<u32>, signal: AbortSignal) -> Promise {
        let (session, host) = (self.session.clone(), self.host.clone());
        let disposed = self.disposed.get();
        promise(async move {
            let mut session = Lease::take(&session, disposed)?;
            let aborted = || signal.aborted();
            let states = session.get().hidden_states(&tokens, host.as_ref(), &aborted).await?;
            Ok(js_sys::Float32Array::from(states.as_slice()).into())
        })
    }

    /// What answers `options.tokens`, once it runs.
    pub fn begin(&self, options: JsValue) -> Result<Generation, JsValue> {
        self.begun(options).map_err(to_js)
    }

    /// Whether something is demanded of an answer with these `options` that takes grammars.
    #[wasm_bindgen(js_name = isGuided)]
    pub fn is_guided(&self, options: JsValue) -> Result<bool, JsValue> {
        let options: GenerateOptions = from_js(options).map_err(to_js)?;
        Ok(self.description.is_guided(&Request::from(options)))
    }

    /// Bytes in use now.
    #[wasm_bindgen(js_name = memoryInUse)]
    pub fn memory_in_use(&self) -> Result<JsValue, JsValue> {
        self.in_use().map_err(to_js)
    }

    /// Frees everything on the device; tells how many bytes that were.
    pub fn dispose(&self) -> Promise {
        let session = self.session.clone();
        let already = self.disposed.replace(true);
        promise(async move {
            let mut lease = Lease::take(&session, already)?;
            let freed_bytes = lease.0.take().map_or(0, Session::dispose);
            to_plain_js(&options::Freed { freed_bytes })
        })
    }
}

impl Model {
    fn begun(&self, options: JsValue) -> Result<Generation> {
        let options: GenerateOptions = from_js(options)?;
        let with_logprobs = options.logprobs;
        let mut lease = Lease::take(&self.session, self.disposed.get())?;
        let generation = lease.get().begin(Request::from(options))?;
        drop(lease);
        let (session, host) = (self.session.clone(), self.host.clone());
        Ok(Generation::new(generation, with_logprobs, session, host))
    }

    fn in_use(&self) -> Result<JsValue> {
        let mut lease = Lease::take(&self.session, self.disposed.get())?;
        let session = lease.get();
        to_plain_js(&options::InUse {
            device_bytes: session.in_use(),
            set_aside_bytes: session.set_aside_bytes(),
            heap_bytes: options::heap_bytes(),
        })
    }

    fn render(&self, messages: JsValue, options: JsValue) -> Result<Vec<u32>> {
        let chat = self.description.chat.as_ref().ok_or_else(|| {
            Error::unsupported("the model is not made for conversations")
                .with("model", self.info.id.as_str())
        })?;
        let options: RenderOptions = from_js(options)?;
        chat.render(
            &self.description.tokenizer,
            &ChatRequest {
                messages: from_js(messages)?,
                tools: options.tools,
                response_format: options.response_format,
                reasoning_effort: options.reasoning_effort,
                now: (js_sys::Date::now() / 1e3) as i64,
            },
        )
    }
}

/// What the model at `source` would take on this device, from the heads of its files.
#[wasm_bindgen]
pub fn forecast(source: JsValue, options: JsValue) -> Promise {
    promise(async move {
        let source = SourceOptions::from_js(&source)?;
        let target = Target::from_js(&options)?;
        let host = Rc::new(WorkerHost::new());
        to_plain_js(&forecast::forecast(&source, &target, &host).await?)
    })
}

/// The models in browser storage, as an array of plain objects; interrupted downloads too where
/// `options.incomplete` is true.
#[wasm_bindgen(js_name = listModels)]
pub fn list_models(options: JsValue) -> Promise {
    promise(async move { to_plain_js(&models::list(&from_js(options)?).await?) })
}

/// Removes the model `options.id` from browser storage; tells how many bytes that were.
#[wasm_bindgen(js_name = removeModel)]
pub fn remove_model(options: JsValue) -> Promise {
    promise(async move { to_plain_js(&models::remove(&from_js(options)?).await?) })
}

/// Checks what browser storage has of the model `options.id`, and mends it where `options.repair` is
/// true.
#[wasm_bindgen(js_name = verifyModel)]
pub fn verify_model(options: JsValue) -> Promise {
    promise(async move {
        let signal = options::signal(&options)?;
        let on_progress = options::on_progress(&options)?;
        let which = from_js(options.clone())?;
        let VerifyOptions { repair } = from_js(options)?;
        let host = Rc::new(WorkerHost::new());
        to_plain_js(&models::verify(&which, repair, &signal, &on_progress, &host).await?)
    })
}

/// A session taken out for one call, put back at its end.
struct Lease<'a>(Option<Session>, &'a RefCell<Option<Session>>);

impl<'a> Lease<'a> {
    fn take(place: &'a RefCell<Option<Session>>, disposed: bool) -> Result<Self> {
        if disposed {
            return Err(Error::new(ErrorKind::Disposed, "the model was disposed of"));
        }
        match place.borrow_mut().take() {
            Some(session) => Ok(Self(Some(session), place)),
            None => Err(Error::argument("the model computes for another call")),
        }
    }

    fn get(&mut self) -> &mut Session {
        self.0.as_mut().expect("a lease holds its session until it is dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        *self.1.borrow_mut() = self.0.take();
    }
}

fn promise(future: impl Future<Output = Result<JsValue>> + 'static) -> Promise {
    wasm_bindgen_futures::future_to_promise(async move { future.await.map_err(to_js) })
}
