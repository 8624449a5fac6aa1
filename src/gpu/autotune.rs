//! Sizes of kernels for one token, chosen by trial on the device.
//!
//! Each size is tried with its neighbours in turn, by the time that whole tokens take; what is clearly faster stays.

use super::{
    Extent, GpuEngine, TokenRecordings,
    record::Pipelines,
    tuning::{Sizes, Tuning},
};
use crate::error::{ErrorKind, Result};

/// The values that a size may take, in order.
type Values = &'static [u32];

const LANES: Values = &[4, 8, 16, 32, 64];
const ROWS: Values = &[2, 4, 8];
const GATES: Values = &[1, 2, 4];
const BUSY_THREADS: Values = &[16_384, 32_768, 65_536, 131_072, 262_144];
const SPLIT_KEYS: Values = &[64, 128, 256, 512];

/// By how much a size has to be faster to be taken.
const GAIN: f64 = 0.97;

/// What tokens that are timed together take, at least, in milliseconds.
const TIMED_MS: f64 = 20.0;

/// Tokens that are timed together, at most.
const MAX_TIMED: u32 = 64;

/// Times that two sizes are held against each other; the best counts.
const ROUNDS: usize = 3;

/// After so many milliseconds nothing more is tried: whoever loads a model waits for it.
const TRIAL_MS: f64 = 3000.0;

/// The position of the tokens that are timed, where the context has it.
const POSITION: usize = 1024;

impl Sizes {
    /// Whether a trial could have chosen them: those that were stored may be anything.
    pub fn are_known(&self) -> bool {
        self.each().iter().all(|(value, values)| values.contains(value))
    }

    fn each(&self) -> [(u32, Values); 5] {
        [
            (self.matvec_lanes, LANES),
            (self.matvec_rows, ROWS),
            (self.busy_threads, BUSY_THREADS),
            (self.expert_gates, GATES),
            (self.split_keys, SPLIT_KEYS),
        ]
    }

    /// With another value for the size `index`.
    fn with(self, index: usize, value: u32) -> Self {
        let mut sizes = self;
        let members = [
            &mut sizes.matvec_lanes,
            &mut sizes.matvec_rows,
            &mut sizes.busy_threads,
            &mut sizes.expert_gates,
            &mut sizes.split_keys,
        ];
        *members.into_iter().nth(index).expect("there is such a size") = value;
        sizes
    }
}

/// A token with other sizes, and the pipelines for it, which go with it where it is not taken.
struct Tried {
    token: TokenRecordings,
    tuning: Tuning,
    pipelines: Pipelines,
}

impl GpuEngine {
    /// Whether sizes are worth a trial: those for software adapters are of another kind, and known.
    pub fn is_tunable(&self) -> bool {
        self.tuning.lane_tile.is_none() && self.tuning.sizes.are_known()
    }

    /// Tells apart what sizes depend on: the device, the kernels, and the shapes of the model.
    pub fn tuning_key(&self) -> String {
        let shapes = self.plan.weights.weights.iter().map(|weight| {
            let layouts = weight.segments.iter().map(|segment| segment.layout);
            (weight.n_rows, weight.n_cols, layouts.collect::<Vec<_>>())
        });
        let shapes: Vec<_> = shapes.collect();
        let device = &self.context.capabilities;
        let (precision, caches) = (self.plan.precision, &self.plan.caches);
        let version = env!("CARGO_PKG_VERSION");
        format!("{version} {device:?} {precision:?} {caches:?} {shapes:?}")
    }

    /// The sizes in use.
    pub fn sizes(&self) -> Sizes {
        self.tuning.sizes
    }

    /// Uses other sizes. What the caches hold stays.
    ///
    /// # Errors
    /// `gpu` when a shader or a pipeline is rejected, `out_of_memory`, and `device_lost`: the sizes are as before then.
    ///
    /// # Panics
    /// When no trial could have chosen them.
    pub async fn set_sizes(&mut self, sizes: Sizes) -> Result<()> {
        assert!(sizes.are_known(), "callers have checked");
        self.compiled().await?;
        if sizes != self.sizes() {
            let tried = self.tried(sizes).await?;
            self.take(tried);
        }
        Ok(())
    }

    /// Tries sizes, and uses the fastest from then on; those that the device rejects are none of them. `now` is a clock
    /// in milliseconds. Whatever the caches held is lost.
    ///
    /// # Errors
    /// As [`Engine::extend`](crate::engine::Engine::extend).
    pub async fn tune(&mut self, now: &dyn Fn() -> f64) -> Result<Sizes> {
        self.compiled().await?;
        let longest = self.buffers.caches.iter().map(|cache| cache.capacity).max().unwrap_or(1);
        let position = POSITION.min(longest - 1);
        self.begin_chunk(&[0], position);
        let extent = self.extent(1, position);
        // The device may still be busy with what came before.
        self.timed(&self.token, (extent, 1), now).await?;
        let started = now();
        let n_tokens = self.n_timed(extent, now).await?;
        for index in 0..self.sizes().each().len() {
            // Upwards, and where that gains nothing, downwards.
            for step in [1, -1] {
                let before = self.sizes();
                while let Some(next) = neighbour(self.sizes(), index, step)
                    && now() - started < TRIAL_MS
                {
                    let tried = match self.tried(next).await {
                        Err(error) if error.kind() != ErrorKind::DeviceLost => break,
                        tried => tried?,
                    };
                    let times = self.compared(&tried.token, (extent, n_tokens), now).await?;
                    if times[1] > times[0] * GAIN {
                        break;
                    }
                    self.take(tried);
                }
                if self.sizes() != before {
                    break;
                }
            }
        }
        Ok(self.sizes())
    }

    async fn tried(&self, sizes: Sizes) -> Result<Tried> {
        let Self { context, plan, buffers, .. } = self;
        let tuning = Tuning { sizes, ..self.tuning.clone() };
        let mut pipelines = self.pipelines.clone();
        let record = || Ok(TokenRecordings::new(context, plan, buffers, &tuning, &mut pipelines));
        let token = context.guarded(record).await?;
        Ok(Tried { token, tuning, pipelines })
    }

    fn take(&mut self, Tried { token, tuning, pipelines }: Tried) {
        (self.token, self.tuning, self.pipelines) = (token, tuning, pipelines);
    }

    /// Tokens that take long enough to be timed. The device's clock rises meanwhile.
    async fn n_timed(&self, extent: Extent, now: &dyn Fn() -> f64) -> Result<u32> {
        let mut n_tokens = 1;
        while n_tokens < MAX_TIMED
            && self.timed(&self.token, (extent, n_tokens), now).await? < TIMED_MS
        {
            n_tokens *= 2;
        }
        Ok(n_tokens)
    }

    /// What the present sizes take, and those of `tried`.
    async fn compared(
        &self,
        tried: &TokenRecordings,
        work: (Extent, u32),
        now: &dyn Fn() -> f64,
    ) -> Result<[f64; 2]> {
        let mut best = [f64::INFINITY; 2];
        // The first time some drivers still compile.
        self.timed(tried, (work.0, 1), now).await?;
        for _ in 0..ROUNDS {
            for (best, token) in best.iter_mut().zip([&self.token, tried]) {
                *best = best.min(self.timed(token, work, now).await?);
            }
        }
        Ok(best)
    }

    async fn timed(
        &self,
        token: &TokenRecordings,
        (extent, n_tokens): (Extent, u32),
        now: &dyn Fn() -> f64,
    ) -> Result<f64> {
        let start = now();
        self.submit(|pass| {
            for _ in 0..n_tokens {
                token.encode_to_logits(pass, extent);
            }
        });
        self.context.read(&self.buffers.state, 4).await?;
        Ok(now() - start)
    }
}

/// `sizes` with the next value of one of them, or the one before.
fn neighbour(sizes: Sizes, index: usize, step: isize) -> Option<Sizes> {
    let (value, values) = sizes.each()[index];
    let at = values.iter().position(|known| *known == value)?.checked_add_signed(step)?;
    values.get(at).map(|&value| sizes.with(index, value))
}
