//! What a device does for a session: run chunks of tokens and draw tokens.

use std::{
    ops::{Add, Range},
    rc::Rc,
};

#[cfg(feature = "gpu")]
use crate::gpu::{
    GpuEngine,
    context::{AdapterHints, Context},
};
use crate::{
    cpu::{
        self, CpuDevice, Program,
        team::{Leader, Recruiter},
    },
    error::{Error, ErrorKind, Result},
    ops::{CacheShape, Plan},
    sampler::{Sampled, SamplingParams},
    source::LocalFuture,
    weights::{Section, Sink, WeightId},
};

/// Bytes that a device holds for a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights.
    pub weights: u64,
    /// Keys and values.
    pub caches: u64,
    /// Activations, tables, staging.
    pub scratch: u64,
}

impl MemoryUse {
    /// Everything together.
    pub const fn total(self) -> u64 {
        self.weights + self.caches + self.scratch
    }
}

impl Add for MemoryUse {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            caches: self.caches + other.caches,
            scratch: self.scratch + other.scratch,
        }
    }
}

/// Of which tokens of a chunk the layers are computed to the end. Keys and values are those of all in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Of none: nothing is drawn from this chunk, there is more of the prompt to come.
    None,
    /// Of the last, from which the next token is drawn.
    Last,
    /// Of all.
    All,
}

/// Where a model runs.
#[derive(Clone, Debug)]
pub enum DeviceKind {
    /// The CPU operations, on one thread.
    Cpu,
    /// The CPU operations on several threads, or on one where that does not work out.
    Threads(Rc<dyn Recruiter>),
    /// WebGPU, with what is known of the adapter.
    #[cfg(feature = "gpu")]
    Gpu(AdapterHints),
}

/// Puts `plan` on a device, with room for `context_length` positions; weights are still zero.
///
/// # Errors
/// `no_adapter`, `out_of_memory`, `gpu`, `unsupported`.
pub async fn create_engine(
    kind: &DeviceKind,
    plan: &Plan,
    context_length: usize,
) -> Result<Box<dyn Engine>> {
    match kind {
        DeviceKind::Cpu => {
            let leader = Leader::alone(cpu_device(plan, context_length)?);
            Ok(Box::new(CpuEngine::new(leader, plan.n_vocab)))
        }
        DeviceKind::Threads(recruiter) => {
            let leader = match Leader::of_team(plan, context_length, recruiter.as_ref()).await {
                Ok(leader) => leader,
                Err(_) => Leader::alone(cpu_device(plan, context_length)?),
            };
            Ok(Box::new(CpuEngine::new(leader, plan.n_vocab)))
        }
        #[cfg(feature = "gpu")]
        DeviceKind::Gpu(hints) => {
            let context = Context::request(hints).await?;
            let created = GpuEngine::new(context.clone(), plan.clone(), context_length).await;
            let engine = created.inspect_err(|_| context.device.destroy())?;
            Ok(Box::new(engine))
        }
    }
}

/// Allocates what an engine would hold, and frees it: whether it fits.
///
/// # Errors
/// As [`create_engine`].
pub async fn allocate(kind: &DeviceKind, plan: &Plan, context_length: usize) -> Result<MemoryUse> {
    match kind {
        DeviceKind::Cpu | DeviceKind::Threads(_) => {
            cpu_device(plan, context_length).map(|device| device.memory())
        }
        #[cfg(feature = "gpu")]
        DeviceKind::Gpu(hints) => {
            let context = Context::request(hints).await?;
            let allocated = GpuEngine::allocate(&context, plan, context_length).await;
            context.device.destroy();
            allocated
        }
    }
}

fn cpu_device(plan: &Plan, context_length: usize) -> Result<CpuDevice> {
    let program = Program::whole(plan);
    check_addressable(CpuDevice::needed(&program, context_length).total(), usize::BITS)?;
    CpuDevice::with(program, context_length, None)
}

/// Bytes of a model that fit where addresses have 32 bits, beside the rest of the program: heads of files,
/// the tokenizer, what is being loaded, what products keep.
const ADDRESSABLE: u64 = 7 << 29;

/// Refuses a model of which no memory with addresses of `address_bits` holds the `needed` bytes: a
/// WebAssembly module has 4 GiB.
fn check_addressable(needed: u64, address_bits: u32) -> Result<()> {
    if address_bits == 32 && needed > ADDRESSABLE {
        let message = "the model is too large to run on the CPU in a browser; it needs WebGPU or a \
                       shorter context";
        return Err(Error::new(ErrorKind::OutOfMemory, message)
            .with("needed", needed)
            .with("limit", ADDRESSABLE));
    }
    Ok(())
}

/// Keys and values that are set aside on a device.
pub enum Parked {
    /// In memory.
    Cpu(cpu::team::ParkedCaches),
    /// On the GPU that they came from.
    #[cfg(feature = "gpu")]
    Gpu(crate::gpu::ParkedCaches),
}

impl Parked {
    /// Memory in use.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Cpu(caches) => caches.bytes(),
            #[cfg(feature = "gpu")]
            Self::Gpu(caches) => caches.bytes(),
        }
    }
}

/// A device with a model on it.
///
/// The caller keeps count of positions: keys and values of positions below the `position` given to
/// [`extend`](Self::extend) stay valid, later ones are overwritten.
pub trait Engine: Sink {
    /// Most tokens that [`extend`](Self::extend) takes.
    fn max_chunk(&self) -> usize;

    /// Most tokens in the last chunk for [`logits`](Self::logits) to take, of those that have outputs.
    fn max_evaluation(&self) -> usize;

    /// Most tokens that one [`decode`](Self::decode) draws.
    fn max_batch(&self) -> usize;

    /// The key/value caches of the plan.
    fn caches(&self) -> &[CacheShape];

    /// What computes, for people.
    fn device_name(&self) -> String;

    /// Bytes held.
    fn memory(&self) -> MemoryUse;

    /// Bytes held now, `parked` of them by what is set aside.
    fn in_use(&self, parked: u64) -> u64;

    /// Makes everything ready that would otherwise delay the first chunk; whatever the cache held is
    /// lost.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn warm_up(&mut self) -> LocalFuture<'_, Result<()>>;

    /// Computes the layers for `tokens` at successive positions from `position`.
    ///
    /// # Errors
    /// `device_lost`, `out_of_memory` or `gpu`.
    fn extend<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
        outputs: Outputs,
    ) -> LocalFuture<'a, Result<()>>;

    /// As [`extend`](Self::extend) with all outputs, and gives the residual stream after the embedding and after each
    /// layer, [n_layers + 1, n_tokens, width].
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn hidden_states<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Result<Vec<f32>>>;

    /// Logits of every token of the last chunk that has outputs, [n_tokens, n_vocab], at most
    /// [`max_evaluation`](Self::max_evaluation).
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn logits(&mut self) -> LocalFuture<'_, Result<Vec<f32>>>;

    /// Sets a copy of the first `n_positions` of the caches aside; `n_written` positions were written at
    /// some time, which rings may hold instead. `None` where there is no memory for it.
    ///
    /// # Errors
    /// `device_lost`, or `gpu`.
    fn park(
        &mut self,
        n_positions: usize,
        n_written: usize,
    ) -> LocalFuture<'_, Result<Option<Parked>>>;

    /// Puts back what was parked; the caches hold nothing else then.
    ///
    /// # Errors
    /// `device_lost`.
    ///
    /// # Panics
    /// When it was parked by another engine.
    fn unpark(&mut self, parked: &Parked) -> Result<()>;

    /// Begins a generation after `prompt`.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    fn start(&mut self, params: &SamplingParams, prompt: &[u32]) -> Result<()> {
        self.resume(params, prompt, &[])
    }

    /// Goes on with a generation that has drawn `generated` after `prompt`: what follows is what would
    /// have followed, had nothing come between.
    ///
    /// # Errors
    /// `invalid_argument` for parameters out of range.
    fn resume(&mut self, params: &SamplingParams, prompt: &[u32], generated: &[u32]) -> Result<()>;

    /// The engine, where it is one on a GPU, to be measured and tuned.
    #[cfg(feature = "gpu")]
    fn gpu(&mut self) -> Option<&mut GpuEngine> {
        None
    }

    /// Frees everything; returns how many bytes that were.
    fn dispose(self: Box<Self>) -> u64;

    /// Draws `n_tokens` tokens one after the other. All but the last are in the cache afterwards;
    /// the last one of the call before is, too.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn decode(&mut self, n_tokens: usize) -> LocalFuture<'_, Result<Vec<Sampled>>>;

    /// Most guesses that [`decode_guessed`](Self::decode_guessed) makes use of.
    fn max_guesses(&self) -> usize {
        0
    }

    /// Draws tokens as [`decode`](Self::decode) does, one at least, and goes on while what is drawn is what
    /// `guesses` have in its place: at most [`max_guesses`](Self::max_guesses), which are computed along
    /// with the token drawn last, and lead to the same tokens and log-probabilities as without them.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn decode_guessed<'a>(
        &'a mut self,
        _guesses: &'a [u32],
    ) -> LocalFuture<'a, Result<Vec<Sampled>>> {
        self.decode(1)
    }

    /// Begins what leads to the next logits and does not wait for it: time for the caller to find out
    /// which token may follow.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn advance(&mut self) -> Result<()>;

    /// Draws one token among those whose bits are set in `mask`, `[n_vocab / 32]`, rounded up; a token's
    /// bit is the lowest first. Otherwise as [`decode`](Self::decode).
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn decode_within<'a>(&'a mut self, mask: &'a [u32]) -> LocalFuture<'a, Result<Sampled>>;
}

/// The CPU as a device.
pub struct CpuEngine {
    model: Leader,
    n_vocab: usize,
    sampler: Option<cpu::Sampler>,
    /// The token drawn last, and its position, when it is not in the cache yet.
    pending: Option<u32>,
    next_position: usize,
}

impl CpuEngine {
    /// Wraps a model.
    pub fn new(model: Leader, n_vocab: usize) -> Self {
        Self { model, n_vocab, sampler: None, pending: None, next_position: 0 }
    }

    fn draw(&mut self, mask: Option<&[u32]>) -> Result<Sampled> {
        self.advance()?;
        let sampler = self.sampler.as_mut().expect("`start` comes before `decode`");
        let last = self.model.n_tokens() - 1;
        let sampled = sampler.sample(self.model.logits(last..last + 1)?, mask);
        self.pending = Some(sampled.token);
        Ok(sampled)
    }

    fn draw_guessed(&mut self, guesses: &[u32]) -> Result<Vec<Sampled>> {
        let Some(pending) = self.pending.take() else { return Ok(vec![self.draw(None)?]) };
        let chunk: Vec<u32> = [pending].into_iter().chain(guesses.iter().copied()).collect();
        self.model.extend(&chunk, self.next_position, Outputs::All)?;
        let sampler = self.sampler.as_mut().expect("`start` comes before `decode`");
        let mut drawn = Vec::with_capacity(chunk.len());
        let logits = self.model.logits(0..chunk.len())?;
        for (row, logits) in logits.chunks_exact_mut(self.n_vocab).enumerate() {
            let sampled = sampler.sample(logits, None);
            let is_right = guesses.get(row) == Some(&sampled.token);
            drawn.push(sampled);
            if !is_right {
                break;
            }
        }
        // What was computed beyond is overwritten.
        self.next_position += drawn.len();
        self.pending = drawn.last().map(|sampled| sampled.token);
        Ok(drawn)
    }
}

impl Sink for CpuEngine {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        self.model.write(id, segment, section, rows, bytes)
    }
}

impl Engine for CpuEngine {
    fn max_chunk(&self) -> usize {
        cpu::MAX_CHUNK
    }

    fn max_evaluation(&self) -> usize {
        cpu::MAX_EVALUATION
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn caches(&self) -> &[CacheShape] {
        self.model.caches()
    }

    fn device_name(&self) -> String {
        match self.model.n_threads() {
            1 => "CPU".to_owned(),
            n_threads => format!("CPU, {n_threads} threads"),
        }
    }

    fn memory(&self) -> MemoryUse {
        self.model.memory()
    }

    fn in_use(&self, parked: u64) -> u64 {
        self.memory().total() + parked
    }

    fn warm_up(&mut self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn extend<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
        outputs: Outputs,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.model.extend(tokens, position, outputs)?;
            self.pending = None;
            self.next_position = position + tokens.len();
            Ok(())
        })
    }

    fn hidden_states<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Result<Vec<f32>>> {
        Box::pin(async move {
            let states = self.model.hidden_states(tokens, position)?;
            self.pending = None;
            self.next_position = position + tokens.len();
            Ok(states)
        })
    }

    fn logits(&mut self) -> LocalFuture<'_, Result<Vec<f32>>> {
        Box::pin(async move {
            let n_tokens = self.model.n_tokens();
            Ok(self.model.logits(0..n_tokens)?.to_vec())
        })
    }

    fn park(&mut self, n_positions: usize, _: usize) -> LocalFuture<'_, Result<Option<Parked>>> {
        let parked = self.model.park(n_positions);
        Box::pin(async { Ok(parked?.map(Parked::Cpu)) })
    }

    fn unpark(&mut self, parked: &Parked) -> Result<()> {
        match parked {
            Parked::Cpu(caches) => self.model.unpark(caches),
            #[cfg(feature = "gpu")]
            Parked::Gpu(_) => panic!("caches go back to the device they came from"),
        }
    }

    fn resume(&mut self, params: &SamplingParams, prompt: &[u32], generated: &[u32]) -> Result<()> {
        self.sampler = Some(cpu::Sampler::new(params, self.n_vocab, prompt)?.after(generated));
        Ok(())
    }

    fn dispose(self: Box<Self>) -> u64 {
        self.memory().total()
    }

    fn decode(&mut self, n_tokens: usize) -> LocalFuture<'_, Result<Vec<Sampled>>> {
        Box::pin(async move { (0..n_tokens).map(|_| self.draw(None)).collect() })
    }

    fn max_guesses(&self) -> usize {
        cpu::MAX_EVALUATION - 1
    }

    fn decode_guessed<'a>(
        &'a mut self,
        guesses: &'a [u32],
    ) -> LocalFuture<'a, Result<Vec<Sampled>>> {
        Box::pin(async move { self.draw_guessed(guesses) })
    }

    fn advance(&mut self) -> Result<()> {
        if let Some(token) = self.pending.take() {
            self.model.extend(&[token], self.next_position, Outputs::Last)?;
            self.next_position += 1;
        }
        Ok(())
    }

    fn decode_within<'a>(&'a mut self, mask: &'a [u32]) -> LocalFuture<'a, Result<Sampled>> {
        Box::pin(async move { self.draw(Some(mask)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ops::{Buffer, BufferId, CacheNumbers, Heads, Linear, Then, rope::RopeTable},
        weights::{Grouping, Layout, Precision, Segment, Weight, WeightTable},
    };

    const N_COLS: usize = 64;

    /// A plan that holds a matrix of `n_rows` rows in `layout`, and a cache for `window`.
    fn plan(layout: Layout, n_rows: usize, window: Option<usize>) -> Plan {
        let n_cols = if layout == Layout::Vector { 1 } else { N_COLS };
        let segments = vec![Segment { layout, rows: 0..n_rows, parts: Vec::new() }];
        let name = layout.name().to_owned();
        let weight = Weight { name, n_rows, n_cols, grouping: Grouping::Rows, segments };
        let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 8 };
        let [x, out] = [0, 1].map(BufferId);
        Plan {
            weights: WeightTable { weights: vec![weight] },
            precision: Precision::Compact,
            buffers: vec![Buffer { name: "x", width: N_COLS }, Buffer { name: "out", width: 1 }],
            caches: vec![CacheShape { heads, window, numbers: CacheNumbers::Full }],
            rope: RopeTable { frequencies: vec![1.0; 4], magnitude: 1.0 },
            layers: Vec::new(),
            layer_ends: Vec::new(),
            head: Linear { weight: WeightId(0), bias: None, norm: None, x, out, then: Then::Store },
            n_vocab: n_rows,
        }
    }

    #[test]
    fn what_a_plan_needs_on_the_cpu_is_what_it_then_holds() {
        for layout in Layout::MATRICES.into_iter().chain([Layout::Vector]) {
            for window in [None, Some(1), Some(1000)] {
                for (context_length, numbers) in
                    [(1, CacheNumbers::Full), (300, CacheNumbers::Int8), (5000, CacheNumbers::Full)]
                {
                    let plan = plan(layout, 100, window).with_cache_numbers(numbers);
                    let needed = CpuDevice::needed(&Program::whole(&plan), context_length);
                    let device = CpuDevice::new(&plan, context_length).unwrap();
                    assert_eq!(device.memory(), needed, "{layout:?}, {context_length}");
                }
            }
        }
    }

    /// Bytes for a block of 32 columns, or an element of a vector.
    #[test]
    fn the_cpu_holds_scales_as_single_floats() {
        for (layout, bytes) in [
            (Layout::U4, 16 + 8),
            (Layout::Fp4, 16 + 1),
            (Layout::I8, 32 + 4),
            (Layout::I8Group16, 32 + 8),
            (Layout::I8Affine, 32 + 8),
            (Layout::F16, 64),
            (Layout::Bf16, 64),
            (Layout::F32, 128),
            (Layout::Vector, 4),
        ] {
            let n_blocks = if layout == Layout::Vector { 1000 } else { 1000 * N_COLS as u64 / 32 };
            let needed = CpuDevice::needed(&Program::whole(&plan(layout, 1000, None)), 1);
            assert_eq!(needed.weights, n_blocks * bytes, "{layout:?}");
        }
    }

    #[test]
    fn what_32_bits_cannot_address_is_refused_by_what_the_cpu_holds() {
        // As packed these rows would fit.
        let plan = plan(Layout::U4, (ADDRESSABLE / 40) as usize, None);
        assert!(plan.weights.packed_bytes() <= ADDRESSABLE);
        let needed = CpuDevice::needed(&Program::whole(&plan), 1).total();
        let error = check_addressable(needed, 32).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(error.detail("needed"), Some(&needed.into()));
        assert_eq!(error.detail("limit"), Some(&ADDRESSABLE.into()));
        check_addressable(needed, 64).unwrap();
        check_addressable(ADDRESSABLE, 32).unwrap();
    }

    #[test]
    fn a_context_counts_in_what_the_cpu_needs() {
        let plan = plan(Layout::F32, 1, None);
        // Keys and values of one head of 8 elements.
        let longest = (ADDRESSABLE / (2 * 8 * 4)) as usize;
        let needed = |n: usize| CpuDevice::needed(&Program::whole(&plan), n).total();
        check_addressable(needed(longest / 10 * 9), 32).unwrap();
        check_addressable(needed(longest), 32).unwrap_err();
    }

    #[test]
    fn a_cache_that_no_memory_holds_is_refused_and_nothing_stays() {
        let plan = plan(Layout::F32, 1, None);
        let needed = CpuDevice::needed(&Program::whole(&plan), usize::MAX >> 8);
        let created = pollster::block_on(create_engine(&DeviceKind::Cpu, &plan, usize::MAX >> 8));
        let Err(error) = created else { panic!("no memory holds so many positions") };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(error.detail("needed"), Some(&needed.total().into()));
        assert!(error.detail("granted").is_some());
    }
}
