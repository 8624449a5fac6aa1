//! How many tokens to draw between two readbacks.
//!
//! A readback costs a round trip that some browsers answer on a timer (Firefox: 100 ms), so drawing
//! one token a readback can cap the speed. More tokens a readback cost latency and, at the end, work
//! past the stop. The batch doubles while nobody sees the delay, and beyond that while it makes tokens
//! clearly faster and a batch stays short.

/// A batch twice as long as this is not seen to come later: about two frames of a screen, in milliseconds.
const UNSEEN_BATCH_MS: f64 = 16.0;

/// A batch up to this long is tried at twice its size, in milliseconds. How much of it is readback, and
/// would be shared, only the trial shows.
const TRIED_BATCH_MS: f64 = 150.0;

/// Longest batch that is kept: the delay before an abort takes effect, in milliseconds.
const LONGEST_BATCH_MS: f64 = 300.0;

/// A larger batch must be this much faster a token to be kept.
const WORTHWHILE: f64 = 0.9;

/// Chooses batch sizes from measured times.
#[derive(Clone, Debug)]
pub struct Pace {
    max_batch: usize,
    batch: usize,
    /// Milliseconds a token at half the present batch.
    before: Option<f64>,
    /// Milliseconds a token at the present batch, smoothed, and how many batches it is from.
    measured: Option<(f64, u32)>,
    settled: bool,
}

impl Pace {
    /// Begins at one token a batch.
    pub fn new(max_batch: usize) -> Self {
        Self { max_batch, batch: 1, before: None, measured: None, settled: max_batch == 1 }
    }

    /// Tokens to draw next.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Takes the time that a whole batch took, in milliseconds.
    pub fn record(&mut self, n_tokens: usize, milliseconds: f64) {
        if n_tokens != self.batch {
            return;
        }
        let per_token = milliseconds / n_tokens as f64;
        let (smoothed, n_batches) = match self.measured {
            Some((earlier, n)) => (earlier.min(per_token), n + 1),
            None => (per_token, 1),
        };
        self.measured = Some((smoothed, n_batches));
        if milliseconds > LONGEST_BATCH_MS && self.batch > 1 {
            self.step_to(self.batch / 2);
            self.settled = true;
        } else if !self.settled && n_batches >= 2 {
            let took = smoothed * self.batch as f64;
            if took <= UNSEEN_BATCH_MS && self.batch < self.max_batch {
                self.step_to((self.batch * 2).min(self.max_batch));
            } else if self.before.is_some_and(|before| smoothed > before * WORTHWHILE) {
                self.step_to(self.batch / 2);
                self.settled = true;
            } else if self.batch * 2 <= self.max_batch && took <= TRIED_BATCH_MS {
                self.before = Some(smoothed);
                self.step_to(self.batch * 2);
            } else {
                self.settled = true;
            }
        }
    }

    fn step_to(&mut self, batch: usize) {
        self.batch = batch.max(1);
        self.measured = None;
    }
}

/// Tokens of the first chunk of a prompt, at most.
const FIRST_CHUNK: usize = 128;

/// A chunk that took less than this is tried at twice its size, in milliseconds.
const SHORT_CHUNK_MS: f64 = 200.0;

/// A chunk that took more than this is halved: an abort waits for its end, and so does the screen where a
/// GPU draws it as well. In milliseconds.
const LONG_CHUNK_MS: f64 = 800.0;

/// Chunks are not halved below this: a tile of products has as many tokens.
const SMALLEST_CHUNK: usize = 32;

/// Chooses how many tokens of a prompt are computed at once.
#[derive(Clone, Debug)]
pub struct ChunkPace {
    max: usize,
    chunk: usize,
}

impl ChunkPace {
    /// Begins with a chunk that is short on most devices.
    pub fn new(max: usize) -> Self {
        Self { max, chunk: max.min(FIRST_CHUNK) }
    }

    /// Tokens of the next chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Takes the time that a chunk took, in milliseconds.
    pub fn record(&mut self, n_tokens: usize, milliseconds: f64) {
        if n_tokens == self.chunk && milliseconds < SHORT_CHUNK_MS {
            self.chunk = self.max.min(self.chunk * 2);
        } else if milliseconds > LONG_CHUNK_MS && self.chunk > SMALLEST_CHUNK {
            self.chunk = (self.chunk / 2).max(SMALLEST_CHUNK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_while_they_are_short_and_shrink_where_they_are_long() {
        let settled = |max: usize, milliseconds_a_token: f64| {
            let mut pace = ChunkPace::new(max);
            for _ in 0..20 {
                pace.record(pace.chunk(), pace.chunk() as f64 * milliseconds_a_token);
            }
            pace.chunk()
        };
        assert_eq!(settled(512, 0.1), 512);
        assert_eq!(settled(512, 2.0), 128);
        assert_eq!(settled(512, 10.0), 64);
        assert_eq!(settled(512, 1000.0), 32);
        assert_eq!(settled(16, 1000.0), 16);
        // The rest of a prompt tells nothing.
        let mut pace = ChunkPace::new(512);
        pace.record(5, 1.0);
        assert_eq!(pace.chunk(), 128);
    }

    /// Runs batches of which each takes `overhead + n · step` milliseconds; returns the last size.
    fn run(max_batch: usize, overhead: f64, step: f64) -> usize {
        let mut pace = Pace::new(max_batch);
        for _ in 0..40 {
            let n = pace.batch();
            pace.record(n, overhead + n as f64 * step);
        }
        pace.batch()
    }

    #[test]
    fn slow_readbacks_are_shared_by_many_tokens() {
        assert!(run(32, 2.0, 1.0) >= 8);
        assert!(run(32, 0.5, 8.0) <= 2);
    }

    #[test]
    fn batches_that_nobody_sees_grow_without_being_faster() {
        assert_eq!(run(32, 0.0, 0.2), 32);
        assert_eq!(run(32, 0.1, 3.0), 8);
    }

    #[test]
    fn slow_steps_are_read_back_one_by_one() {
        assert_eq!(run(32, 5.0, 400.0), 1);
        assert_eq!(run(1, 100.0, 1.0), 1);
    }

    #[test]
    fn a_timer_of_100_ms_does_not_cap_the_speed() {
        let n = run(32, 100.0, 3.0);
        assert!(n >= 8, "{n} tokens a readback");
    }
}
