//! Locks between the tabs of a site: one writer, or several readers, for each stored model; and word of
//! how far the writer is.

use std::{cell::RefCell, rc::Rc};

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, BroadcastChannel, MessageEvent};

use super::error::{cast, from_thrown, set};
use crate::{
    error::{Error, ErrorKind, Result},
    store::Access,
};

/// A lock that is held until it is dropped.
pub struct Lock(Option<Function>);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(release) = &self.0 {
            // A promise's own resolve function does not throw.
            let _ = release.call0(&JsValue::NULL);
        }
    }
}

impl Lock {
    /// Waits for the lock called `name`.
    ///
    /// # Errors
    /// `aborted`; `storage` where the browser refuses.
    pub async fn wait(name: &str, access: Access, signal: &AbortSignal) -> Result<Self> {
        let options = Object::new();
        set(&options, "signal", signal.as_ref());
        match request(name, access, &options).await {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(Error::new(ErrorKind::Storage, "the browser gives no lock")),
            Err(_) if signal.aborted() => {
                Err(Error::new(ErrorKind::Aborted, "cancelled by the caller"))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the lock called `name` if nobody holds it.
    ///
    /// # Errors
    /// `storage` where the browser refuses.
    pub async fn try_take(name: &str, access: Access) -> Result<Option<Self>> {
        let options = Object::new();
        set(&options, "ifAvailable", &JsValue::TRUE);
        request(name, access, &options).await
    }
}

/// Whether a file can be open for several readers. Browsers that know no modes of access open files for
/// one alone, whatever it is for.
fn readers_share_files() -> bool {
    let member = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).ok();
    member(&js_sys::global(), "FileSystemSyncAccessHandle")
        .and_then(|class| member(&class, "prototype"))
        .is_some_and(|prototype| Reflect::has(&prototype, &"mode".into()).unwrap_or_default())
}

/// Asks for a lock; gives `None` where it is held by another and was only wanted if it is not.
async fn request(name: &str, access: Access, options: &Object) -> Result<Option<Lock>> {
    let failed =
        |thrown: JsValue| from_thrown(ErrorKind::Storage, "the browser refused a lock", &thrown);
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).map_err(failed)?;
    let locks = Reflect::get(&navigator, &"locks".into()).map_err(failed)?;
    if locks.is_undefined() {
        // Where there are no locks there are no other tabs to agree with.
        return Ok(Some(Lock(None)));
    }
    let mode = match access {
        Access::Read if readers_share_files() => "shared",
        Access::Read | Access::Write => "exclusive",
    };
    set(options, "mode", &mode.into());
    let mut release = None;
    let held = Promise::new(&mut |resolve, _| release = Some(resolve.unchecked_into::<Function>()));
    let (sender, receiver) = oneshot::channel();
    let on_granted = Closure::once_into_js(move |lock: JsValue| -> JsValue {
        let is_granted = !lock.is_null();
        // Whoever waited may be gone: the lock then goes back at once.
        let is_wanted = sender.send(is_granted).is_ok();
        if is_granted && is_wanted { held.into() } else { JsValue::UNDEFINED }
    });
    let request = Reflect::get(&locks, &"request".into()).map_err(failed)?;
    let request: Function = cast(ErrorKind::Storage, "locks.request", request)?;
    let over = request.call3(&locks, &name.into(), options, &on_granted).map_err(failed)?;
    let over = JsFuture::from(cast::<Promise>(ErrorKind::Storage, "locks.request", over)?);
    match select(receiver, over).await {
        Either::Left((Ok(true), over)) => {
            // It settles when the lock is let go, which nobody waits for.
            wasm_bindgen_futures::spawn_local(async { drop(over.await) });
            Ok(Some(Lock(release)))
        }
        Either::Left(_) | Either::Right((Ok(_), _)) => Ok(None),
        Either::Right((Err(thrown), _)) => Err(failed(thrown)),
    }
}

/// Word from the tab that downloads a model to those that wait for it.
pub struct Channel {
    channel: Option<BroadcastChannel>,
    _on_message: Option<Closure<dyn FnMut(MessageEvent)>>,
}

impl Channel {
    /// A channel to speak on.
    pub fn speaking(name: &str) -> Self {
        Self { channel: BroadcastChannel::new(name).ok(), _on_message: None }
    }

    /// A channel to listen on.
    pub fn listening(name: &str, on_word: impl FnMut(&JsValue) + 'static) -> Self {
        let on_word = Rc::new(RefCell::new(on_word));
        let on_message = Closure::new(move |event: MessageEvent| {
            if let Ok(mut on_word) = on_word.try_borrow_mut() {
                on_word(&event.data());
            }
        });
        let channel = BroadcastChannel::new(name).ok();
        if let Some(channel) = &channel {
            channel.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        }
        Self { channel, _on_message: Some(on_message) }
    }

    /// Says something to those that listen.
    pub fn say(&self, word: &JsValue) {
        if let Some(channel) = &self.channel {
            // Whoever misses a word of progress hears the next.
            let _ = channel.post_message(word);
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.close();
        }
    }
}
