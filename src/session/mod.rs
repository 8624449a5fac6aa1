//! A model in use: prefill, decode, prefix reuse, stopping, cancelling.
//!
//! Inputs are tokens and settings, outputs [`TokenEvent`]s. The session keeps the list of tokens
//! whose keys and values the device holds; a prompt that begins like it is computed from the first
//! difference on. A cancelled or failed run leaves that list true, so the next run just works. A
//! [`Generation`] may give way to others and go on later, with the tokens that it would have had.

mod demands;
mod generation;
mod gguf_set;
mod guide;
mod heads;
mod lookup;
mod open;
mod pace;
mod park;
mod pieces;
mod safetensors_set;
pub mod stop;
mod text;
#[cfg(feature = "gpu")]
mod tuning;

use std::rc::Rc;

use crate::{
    chat::{
        ChatFormat,
        calls::AnswerParser,
        harmony::{Role, StreamParser},
    },
    config::ModelConfig,
    constrain::Grammars,
    engine::{Engine, MemoryUse, Outputs},
    error::{Error, ErrorKind, Result},
    memory::room_for,
    ops::CacheShape,
    sampler::{SamplingParams, TokenLogprob},
    source::LocalFuture,
    tokenizer::{StreamDecoder, Tokenizer},
};
pub use demands::{Demands, Tool, ToolChoice};
pub use generation::Generation;
use guide::Guide;
pub use heads::Heads;
pub use lookup::Guessing;
pub use open::{Description, Entry, Opened};
use pace::ChunkPace;
pub(crate) use pace::Pace;
use park::{ParkedConversation, Shelf};
pub use pieces::{Message, Piece};
use text::Reader;
#[cfg(feature = "gpu")]
pub use tuning::tune;

/// What the surroundings provide: a clock, and turns for other work.
pub trait Host {
    /// Milliseconds from some fixed moment.
    fn now(&self) -> f64;

    /// Lets pending events of the surroundings be handled.
    fn yield_now(&self) -> LocalFuture<'_, ()>;

    /// Whether others wait for the model: a generation that has computed for a while gives way then.
    fn is_awaited(&self) -> bool {
        false
    }
}

/// Positions to make room for where the caller does not say, for a model made for `longest`.
pub fn default_context_length(longest: usize) -> usize {
    longest.min(4096)
}

/// What to generate: by default the likeliest tokens after a text, up to the end of the turn.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Most tokens to generate; as many as the context holds when absent.
    pub max_tokens: Option<usize>,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Generation ends before the first of these in the text.
    pub stop: Vec<String>,
    /// Whether tokens that end a turn are treated like any other.
    pub ignore_eos: bool,
    /// Whether what the cache holds of an equal beginning is used.
    pub reuse_prefix: bool,
    /// Whether the prompt is a conversation in the model's chat format, so that the answer is read as
    /// that format has it.
    pub chat: bool,
    /// What the answer must be.
    pub demands: Demands,
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEvent {
    /// Its id.
    pub token: u32,
    /// Text that became certain with it: none at times, that of several tokens at others.
    pub piece: Piece,
    /// What of further messages did so.
    pub further: Vec<Piece>,
    /// Natural logarithm of the token's probability in the model's own distribution, see
    /// [`TokenLogprob`].
    pub logprob: f32,
    /// The likeliest tokens in its place, where they were asked for.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A token that ends a turn, or a stop string.
    Stop,
    /// The limit on tokens, or the end of the context.
    Length,
}

/// What a generation took, without the time in which it had given way to others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, tokens whose keys and values were in the cache already.
    pub cached_tokens: usize,
    /// Tokens generated.
    pub completion_tokens: usize,
    /// Tokens that were looked up and computed along with others, see [`Guessing`].
    pub guessed_tokens: usize,
    /// Of those, tokens that were drawn.
    pub accepted_tokens: usize,
    /// From the start to the end of the prompt, in milliseconds.
    pub prefill_ms: f64,
    /// From the start to the first token, in milliseconds.
    pub first_token_ms: f64,
    /// From the first token to the last, in milliseconds.
    pub decode_ms: f64,
}

/// A model on a device.
pub struct Session {
    engine: Box<dyn Engine>,
    /// What the files say of the model.
    pub description: Rc<Description>,
    /// Most positions the cache holds.
    pub context_length: usize,
    /// Whether tokens are looked up and computed along with others, which changes nothing but the time that
    /// an answer takes.
    pub guessing: Guessing,
    /// Tokens whose keys and values the cache holds.
    cached: Vec<u32>,
    /// Positions that were ever written since position 0 was: rings hold the last of them.
    written: usize,
    /// Tokens of a prompt that are computed at once.
    chunk_pace: ChunkPace,
    /// Whether what the caches hold is set aside already.
    is_aside: bool,
    /// Other conversations.
    shelf: Shelf,
    /// Made when the first grammar is asked for.
    grammars: Option<Grammars>,
}

impl Session {
    /// A session on an engine whose weights are loaded and that holds `context_length` positions.
    pub fn new(engine: Box<dyn Engine>, description: Description, context_length: usize) -> Self {
        Self {
            chunk_pace: ChunkPace::new(engine.max_chunk()),
            engine,
            description: Rc::new(description),
            context_length,
            guessing: Guessing::default(),
            cached: Vec::new(),
            written: 0,
            is_aside: false,
            shelf: Shelf::default(),
            grammars: None,
        }
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.description.config
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.description.tokenizer
    }

    /// The form of the model's conversations.
    pub fn chat(&self) -> Option<&ChatFormat> {
        self.description.chat.as_ref()
    }

    /// The device, to be measured; the caches hold nothing of a conversation afterwards.
    pub fn engine(&mut self) -> &mut dyn Engine {
        self.cached.clear();
        self.engine.as_mut()
    }

    /// What computes, for people.
    pub fn device_name(&self) -> String {
        self.engine.device_name()
    }

    /// Bytes on the device.
    pub fn memory(&self) -> MemoryUse {
        self.engine.memory()
    }

    /// Bytes in use on the device now: those of [`memory`](Self::memory), and what came since, such as
    /// conversations that are set aside.
    pub fn in_use(&self) -> u64 {
        self.engine.in_use(self.shelf.bytes())
    }

    /// Of the bytes in use, those of conversations that are set aside.
    pub fn set_aside_bytes(&self) -> u64 {
        self.shelf.bytes()
    }

    /// Frees everything on the device; returns how many bytes that were.
    pub fn dispose(self) -> u64 {
        let parked = self.shelf.bytes();
        drop(self.shelf);
        self.engine.dispose() + parked
    }

    /// Logits after each of `tokens`, [n_tokens, n_vocab].
    ///
    /// # Errors
    /// `invalid_argument` for unknown tokens, `context_exceeded`, `out_of_memory` where so many numbers
    /// do not fit into memory, `aborted`, and those of the device.
    pub async fn logits(
        &mut self,
        tokens: &[u32],
        host: &dyn Host,
        aborted: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        let (n_vocab, max_chunk) = (self.config().n_vocab, self.engine.max_evaluation());
        self.evaluate(tokens, [1, n_vocab], max_chunk, host, aborted, async |session, chunk, _| {
            session.extend(chunk, Outputs::All).await?;
            session.engine.logits().await
        })
        .await
    }

    /// The residual stream after the embedding and after each layer for each of `tokens`,
    /// [n_layers + 1, n_tokens, n_embd].
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub async fn hidden_states(
        &mut self,
        tokens: &[u32],
        host: &dyn Host,
        aborted: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>> {
        let shape = [self.config().n_layers + 1, self.config().n_embd];
        let max_chunk = self.engine.max_chunk();
        self.evaluate(tokens, shape, max_chunk, host, aborted, async |session, chunk, position| {
            session.engine.hidden_states(chunk, position).await
        })
        .await
    }

    /// What `compute` makes of chunks of at most `max_chunk` of `tokens`, the position of each given with
    /// it, [n_states, n_tokens, width]: of a chunk, it makes [n_states, n_tokens of the chunk, width].
    async fn evaluate(
        &mut self,
        tokens: &[u32],
        [n_states, width]: [usize; 2],
        max_chunk: usize,
        host: &dyn Host,
        aborted: &dyn Fn() -> bool,
        mut compute: impl AsyncFnMut(&mut Self, &[u32], usize) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        self.check_tokens(tokens)?;
        self.cached.clear();
        let mut values = room_for(n_states as u64 * tokens.len() as u64 * width as u64)?;
        values.resize(n_states * tokens.len() * width, 0.0);
        let mut position = 0;
        for chunk in tokens.chunks(max_chunk) {
            check_abort(aborted)?;
            let computed = compute(self, chunk, position).await?;
            for (state, rows) in computed.chunks(chunk.len() * width).enumerate() {
                let at = (state * tokens.len() + position) * width;
                values[at..at + rows.len()].copy_from_slice(rows);
            }
            position += chunk.len();
            host.yield_now().await;
        }
        Ok(values)
    }

    /// Generates after `request.tokens`; `on_tokens` takes each batch of tokens as it comes.
    ///
    /// # Errors
    /// `invalid_argument`, `context_exceeded`, `aborted`, and those of the device.
    pub async fn generate(
        &mut self,
        request: &Request,
        host: &dyn Host,
        aborted: &dyn Fn() -> bool,
        on_tokens: &mut dyn FnMut(&[TokenEvent]) -> Result<()>,
    ) -> Result<Summary> {
        let mut generation = self.begin(request.clone())?;
        loop {
            let summary = self.run(&mut generation, host, aborted, on_tokens).await?;
            if let Some(summary) = summary {
                return Ok(summary);
            }
        }
    }

    /// What keeps an answer to what is demanded of it.
    fn guide(&mut self, request: &Request) -> Result<Option<Guide>> {
        let description = &self.description;
        if !description.is_guided(request) {
            return Ok(None);
        }
        let chat = description.chat.as_ref().filter(|_| request.chat);
        let grammars = match self.grammars.take() {
            Some(grammars) => grammars,
            None => Grammars::new(description.tokenizer.clone(), description.config.n_vocab)?,
        };
        let grammars = self.grammars.insert(grammars);
        Guide::new(request, &description.tokenizer, chat, grammars).map(Some)
    }

    /// What takes an answer apart, where it is one in the model's chat format.
    fn answer_reader(&self, request: &Request) -> Reader {
        match self.chat().filter(|_| request.chat) {
            None => Reader::Plain(StreamDecoder::new()),
            Some(ChatFormat::Harmony(harmony)) => {
                Reader::Harmony(Box::new(StreamParser::new(harmony, Some(Role::Assistant))))
            }
            Some(ChatFormat::Template(template)) => {
                // Enough for a marker that is spelled out, and some blank space after it.
                const N_LAST: usize = 16;
                let tokens = &request.tokens;
                let last = &tokens[tokens.len().saturating_sub(N_LAST)..];
                Reader::Template(Box::new(AnswerParser::new(
                    template.calls(),
                    request.demands.tools.iter().map(|tool| tool.name.clone()).collect(),
                    &self.tokenizer().decode(last),
                )))
            }
        }
    }

    /// Looks up what the caches hold of a prompt, and of the conversations set aside; returns how many
    /// tokens need not be computed.
    async fn find(&mut self, request: &Request) -> Result<usize> {
        let tokens = &request.tokens;
        if request.reuse_prefix {
            self.change_conversation(tokens).await?;
        }
        let n_common = park::n_common(&self.cached, tokens);
        // At least one token is computed: logits follow from it.
        let n_common = n_common.min(tokens.len() - 1);
        let n_reused = if request.reuse_prefix { self.still_held(n_common) } else { 0 };
        self.cached.truncate(n_reused);
        Ok(n_reused)
    }

    /// Puts back the conversation that `tokens` continue, if it was set aside; sets the one in the caches
    /// aside if that is another.
    async fn change_conversation(&mut self, tokens: &[u32]) -> Result<()> {
        let returning = self.shelf.take(tokens, &self.cached);
        self.set_aside(tokens).await?;
        if let Some(conversation) = returning {
            self.put_back(&conversation)?;
        }
        Ok(())
    }

    /// Sets the conversation in the caches aside, if it is another than the one that `tokens` continue,
    /// and is not set aside yet.
    async fn set_aside(&mut self, tokens: &[u32]) -> Result<()> {
        if self.is_aside || !park::is_worth_parking(&self.cached, tokens) {
            return Ok(());
        }
        if let Some(conversation) = self.park().await? {
            self.shelf.put(conversation, self.engine.memory().caches);
        }
        Ok(())
    }

    /// A copy of the conversation in the caches, for which others make room that were used longest ago;
    /// `None` where there is no memory for it.
    async fn park(&mut self) -> Result<Option<ParkedConversation>> {
        loop {
            let caches = self.engine.park(self.cached.len(), self.written).await?;
            if let Some(caches) = caches {
                let (tokens, written) = (self.cached.clone(), self.written);
                return Ok(Some(ParkedConversation { tokens, written, caches }));
            }
            if !self.shelf.drop_oldest() {
                return Ok(None);
            }
        }
    }

    fn put_back(&mut self, conversation: &ParkedConversation) -> Result<()> {
        self.engine.unpark(&conversation.caches)?;
        self.cached.clone_from(&conversation.tokens);
        self.written = conversation.written;
        self.is_aside = false;
        Ok(())
    }

    /// Of the first `n_common` positions, how many can be continued: all of them, or none if a ring has
    /// lost what the next token would see.
    fn still_held(&self, n_common: usize) -> usize {
        let held = |shape: &CacheShape| {
            let first_held = self.written.saturating_sub(shape.capacity(self.context_length));
            shape.first_seen(n_common) >= first_held
        };
        if self.engine.caches().iter().all(held) { n_common } else { 0 }
    }

    async fn extend(&mut self, chunk: &[u32], outputs: Outputs) -> Result<()> {
        let position = self.cached.len();
        self.is_aside = false;
        self.written =
            if position == 0 { chunk.len() } else { self.written.max(position + chunk.len()) };
        match self.engine.extend(chunk, position, outputs).await {
            Ok(()) => {
                self.cached.extend_from_slice(chunk);
                Ok(())
            }
            Err(error) => {
                self.cached.clear();
                Err(error)
            }
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::argument("there are no tokens to compute"));
        }
        if tokens.len() > self.context_length {
            return Err(Error::new(
                ErrorKind::ContextExceeded,
                "the prompt is longer than the context",
            )
            .with("needed", tokens.len())
            .with("limit", self.context_length));
        }
        match tokens.iter().find(|&&token| token as usize >= self.config().n_vocab) {
            Some(&token) => Err(Error::argument("token id is not in the vocabulary")
                .with("found", token)
                .with("limit", self.config().n_vocab)),
            None => Ok(()),
        }
    }
}

fn check_abort(aborted: &dyn Fn() -> bool) -> Result<()> {
    if aborted() { Err(Error::new(ErrorKind::Aborted, "cancelled by the caller")) } else { Ok(()) }
}
