//! One generation over time: its prompt, its answer, and the turns it takes with others.
//!
//! A generation that gives way has everything set aside that the next token follows from: keys and
//! values bit for bit, its tokens, and what reads them. Noise is a hash of the seed and the number of
//! the token, so that what it draws later is what it would have drawn.

use super::{
    FinishReason, Host, Pace, Request, Session, Summary, TokenEvent, check_abort,
    guide::{Guide, Next},
    lookup::{Guessing, Lookup},
    park::KeptConversation,
    pieces::Pieces,
    text::TextStream,
};
use crate::{engine::Outputs, error::Result, sampler::Sampled};

/// For how long a generation computes while others wait, in milliseconds: long enough that copies of
/// keys and values are little beside it, short enough that a short answer comes soon.
const SLICE_MS: f64 = 500.0;

/// An answer under way, see [`Session::begin`].
pub struct Generation {
    request: Request,
    text: TextStream,
    guide: Option<Guide>,
    lookup: Lookup,
    pace: Pace,
    /// Tokens at most.
    max_tokens: usize,
    stage: Stage,
    /// The tokens drawn so far.
    generated: Vec<u32>,
    summary: Summary,
    /// Milliseconds that its turns took so far.
    spent: f64,
    /// What was in the caches when it gave way.
    kept: Option<KeptConversation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is computed yet.
    New,
    /// The prompt is being computed.
    Prompt,
    /// Tokens are drawn.
    Answer,
}

/// The time from where a generation begins to compute to where it is over or gives way.
struct Turn<'a> {
    host: &'a dyn Host,
    started: f64,
    /// Milliseconds of the turns before.
    before: f64,
    /// From when on others wait.
    slice_started: f64,
    /// Whether it has got any further.
    has_advanced: bool,
}

impl<'a> Turn<'a> {
    fn begin(host: &'a dyn Host, before: f64) -> Self {
        let started = host.now();
        Self { host, started, before, slice_started: started, has_advanced: false }
    }

    /// Milliseconds of all turns.
    fn elapsed(&self) -> f64 {
        self.before + self.host.now() - self.started
    }

    /// Whether others are to have theirs.
    fn is_over(&self) -> bool {
        self.has_advanced
            && self.host.is_awaited()
            && self.host.now() - self.slice_started >= SLICE_MS
    }
}

impl Session {
    /// What answers `request`, once it [runs](Self::run).
    ///
    /// # Errors
    /// `invalid_argument`, `context_exceeded`, and `unsupported` for demands that cannot be met.
    pub fn begin(&mut self, request: Request) -> Result<Generation> {
        self.check_tokens(&request.tokens)?;
        request.sampling.validate(self.config().n_vocab)?;
        let text = TextStream::new(&request.stop, self.answer_reader(&request))?;
        let guide = self.guide(&request)?;
        let prompt_tokens = request.tokens.len();
        let room = self.context_length - prompt_tokens;
        Ok(Generation {
            text,
            lookup: self.lookup(&request, guide.is_some()),
            guide,
            pace: Pace::new(self.engine.max_batch()),
            // The last token drawn needs no place in the cache.
            max_tokens: request.max_tokens.unwrap_or(usize::MAX).min(room + 1),
            stage: Stage::New,
            generated: Vec::new(),
            summary: Summary {
                finish_reason: FinishReason::Length,
                prompt_tokens,
                cached_tokens: 0,
                completion_tokens: 0,
                guessed_tokens: 0,
                accepted_tokens: 0,
                prefill_ms: 0.0,
                first_token_ms: 0.0,
                decode_ms: 0.0,
            },
            spent: 0.0,
            kept: None,
            request,
        })
    }

    /// Goes on with a generation of this session until it is over, or until it gives way to others that
    /// [wait](Host::is_awaited), which `None` tells: run it again for the rest. `on_tokens` takes each
    /// batch of tokens as it comes. Where there is no memory to set a conversation aside, it does not
    /// give way.
    ///
    /// # Errors
    /// `aborted`, `invalid_argument` where no token may follow, and those of the device. After an error a
    /// generation is over.
    pub async fn run(
        &mut self,
        generation: &mut Generation,
        host: &dyn Host,
        aborted: &dyn Fn() -> bool,
        on_tokens: &mut dyn FnMut(&[TokenEvent]) -> Result<()>,
    ) -> Result<Option<Summary>> {
        let mut turn = Turn::begin(host, generation.spent);
        self.take_up(generation).await?;
        let is_over = self.prefill(generation, &mut turn, aborted).await?
            && self.decode(generation, &mut turn, aborted, on_tokens).await?;
        generation.spent = turn.elapsed();
        Ok(is_over.then_some(generation.summary))
    }

    /// Puts back what the generation had when it gave way.
    async fn take_up(&mut self, generation: &mut Generation) -> Result<()> {
        let Some(kept) = generation.kept.take() else { return Ok(()) };
        self.set_aside(&kept.conversation.tokens).await?;
        self.put_back(&kept.conversation)?;
        drop(kept);
        // The token drawn last was not in the caches yet; what follows comes of it.
        match generation.generated.last() {
            Some(&token) => self.extend(&[token], Outputs::Last).await,
            None => Ok(()),
        }
    }

    /// Sets aside what the generation has, where others are to have their turn; tells whether they are.
    async fn give_way(&mut self, generation: &mut Generation, turn: &mut Turn<'_>) -> Result<bool> {
        if !turn.is_over() {
            return Ok(false);
        }
        // What is set aside may take as much again as the caches themselves.
        let max_bytes = self.engine.memory().caches;
        let parked = self.park().await?;
        generation.kept = parked.and_then(|parked| self.shelf.keep(parked, max_bytes));
        self.is_aside = generation.kept.is_some();
        turn.slice_started = turn.host.now();
        Ok(self.is_aside)
    }

    /// Computes what the caches do not hold of the prompt; tells whether all of it is there.
    async fn prefill(
        &mut self,
        generation: &mut Generation,
        turn: &mut Turn<'_>,
        aborted: &dyn Fn() -> bool,
    ) -> Result<bool> {
        if generation.stage == Stage::New {
            generation.summary.cached_tokens = self.find(&generation.request).await?;
            generation.stage = Stage::Prompt;
        }
        if generation.stage == Stage::Answer {
            return Ok(true);
        }
        let n_prompt = generation.request.tokens.len();
        while self.cached.len() < n_prompt {
            turn.host.yield_now().await;
            check_abort(aborted)?;
            if self.give_way(generation, turn).await? {
                return Ok(false);
            }
            let start = self.cached.len();
            let end = n_prompt.min(start + self.chunk_pace.chunk());
            let chunk_started = turn.host.now();
            let outputs = if end == n_prompt { Outputs::Last } else { Outputs::None };
            self.extend(&generation.request.tokens[start..end], outputs).await?;
            self.chunk_pace.record(end - start, turn.host.now() - chunk_started);
            turn.has_advanced = true;
        }
        generation.stage = Stage::Answer;
        generation.summary.prefill_ms = turn.elapsed();
        // The first token is drawn from what the prompt led to.
        turn.has_advanced = false;
        Ok(true)
    }

    /// Draws tokens, and tells whether the answer is over.
    async fn decode(
        &mut self,
        generation: &mut Generation,
        turn: &mut Turn<'_>,
        aborted: &dyn Fn() -> bool,
        on_tokens: &mut dyn FnMut(&[TokenEvent]) -> Result<()>,
    ) -> Result<bool> {
        if generation.max_tokens == 0 {
            return Ok(true);
        }
        let Request { sampling, tokens: prompt, .. } = &generation.request;
        self.engine.resume(sampling, prompt, &generation.generated)?;
        // The token drawn last, where it is not in the caches.
        let mut pending = None;
        let mut finished = false;
        while !finished {
            turn.host.yield_now().await;
            check_abort(aborted)?;
            if self.give_way(generation, turn).await? {
                return Ok(false);
            }
            let batch_started = turn.host.now();
            let mask = match &mut generation.guide {
                Some(guide) => {
                    self.engine.advance()?;
                    // The last token is in the cache from here on, whatever becomes of the grammar.
                    self.note_cached(pending.take());
                    guide.next()?
                }
                None => Next::Any,
            };
            let n_left = generation.max_tokens - generation.summary.completion_tokens;
            let guess = match pending {
                Some(_) => self.guess(generation, n_left),
                None => Vec::new(),
            };
            let drawn = match &mask {
                Next::Any if !guess.is_empty() => {
                    // Rings hold what comes of the guess, right or wrong, and of the token before it.
                    self.written = self.written.max(self.cached.len() + 1 + guess.len());
                    self.engine.decode_guessed(&guess).await
                }
                Next::Any => self.engine.decode(generation.pace.batch().min(n_left)).await,
                Next::Among(mask) => {
                    self.engine.decode_within(mask.words()).await.map(|drawn| vec![drawn])
                }
            };
            let drawn = match drawn {
                Ok(drawn) => drawn,
                Err(error) => {
                    self.cached.clear();
                    return Err(error);
                }
            };
            let summary = &mut generation.summary;
            if summary.completion_tokens == 0 {
                summary.first_token_ms = turn.elapsed();
            } else {
                let took = turn.host.now() - batch_started;
                // Where nothing is pending, the layers were computed before.
                if pending.is_some() {
                    generation.lookup.record(guess.len(), drawn.len(), took);
                }
                if guess.is_empty() {
                    generation.pace.record(drawn.len(), took);
                }
            }
            let right = guess.iter().zip(&drawn).filter(|(guess, drawn)| **guess == drawn.token);
            summary.guessed_tokens += guess.len();
            summary.accepted_tokens += right.count();
            summary.decode_ms = turn.elapsed() - summary.first_token_ms;
            turn.has_advanced = true;

            let mut events = Vec::with_capacity(drawn.len());
            for sampled in drawn {
                self.note_cached(pending.replace(sampled.token));
                if !finished {
                    let (event, is_last) = self.take(generation, sampled)?;
                    events.push(event);
                    finished = is_last;
                }
            }
            on_tokens(&events)?;
        }
        Ok(true)
    }

    /// What an answer is looked up in, where that can make it faster.
    fn lookup(&self, request: &Request, is_guided: bool) -> Lookup {
        let is_off = is_guided || self.engine.max_guesses() == 0;
        Lookup::new(if is_off { Guessing::Never } else { self.guessing }, &request.tokens)
    }

    /// What is computed along with the next of `n_left` tokens.
    fn guess(&self, generation: &Generation, n_left: usize) -> Vec<u32> {
        let ends = |token: u32| {
            !generation.request.ignore_eos && self.tokenizer().stop_ids().contains(&token)
        };
        generation.lookup.guess(self.engine.max_guesses().min(n_left - 1), ends)
    }

    /// Takes note of a drawn token that the caches hold now.
    fn note_cached(&mut self, token: Option<u32>) {
        self.cached.extend(token);
        self.written = self.written.max(self.cached.len());
    }

    /// What is told with a drawn token, and whether it is the last.
    fn take(&self, generation: &mut Generation, sampled: Sampled) -> Result<(TokenEvent, bool)> {
        let Generation { request, text, guide, lookup, max_tokens, generated, summary, .. } =
            generation;
        generated.push(sampled.token);
        lookup.push(sampled.token);
        summary.completion_tokens += 1;
        if let Some(guide) = guide {
            guide.push(sampled.token)?;
        }
        let ends_turn = self.tokenizer().stop_ids().contains(&sampled.token);
        let bytes = self.tokenizer().token_bytes(sampled.token).unwrap_or_default();
        let (pieces, finished) = if ends_turn && !request.ignore_eos {
            summary.finish_reason = FinishReason::Stop;
            (text.end(sampled.token), true)
        } else {
            let (mut pieces, mut stopped) = text.push(sampled.token, bytes);
            let is_complete = guide.as_ref().is_some_and(Guide::is_complete);
            let is_last = summary.completion_tokens == *max_tokens || is_complete;
            if is_last && !stopped {
                let (rest, stopped_in_rest) = text.cut();
                pieces.append(rest);
                stopped = stopped_in_rest;
            }
            if stopped || is_complete {
                summary.finish_reason = FinishReason::Stop;
            }
            (pieces, stopped || is_last)
        };
        let Pieces { first: piece, further } = pieces;
        let Sampled { token, logprob, top: top_logprobs } = sampled;
        Ok((TokenEvent { token, piece, further, logprob, top_logprobs }, finished))
    }
}
