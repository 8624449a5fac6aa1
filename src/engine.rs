//! What a device does for a session: run chunks of tokens and draw tokens.

use std::ops::Range;

#[cfg(feature = "gpu")]
use crate::gpu::{
    GpuEngine,
    context::{AdapterHints, Context},
};
use crate::{
    cpu::{self, CpuDevice},
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

/// Where a model runs.
#[derive(Clone, Debug)]
pub enum DeviceKind {
    /// The CPU operations.
    Cpu,
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
            check_addressable(plan)?;
            let device = CpuDevice::new(plan.clone(), context_length);
            Ok(Box::new(CpuEngine::new(device, plan.n_vocab)))
        }
        #[cfg(feature = "gpu")]
        DeviceKind::Gpu(hints) => {
            let context = Context::request(hints).await?;
            Ok(Box::new(GpuEngine::new(context, plan.clone(), context_length).await?))
        }
    }
}

/// Bytes of weights that fit beside everything else where addresses have 32 bits.
const ADDRESSABLE: u64 = 7 << 29;

/// Refuses a model whose weights no memory of this machine's kind can hold: a WebAssembly module has
/// 4 GiB.
fn check_addressable(plan: &Plan) -> Result<()> {
    let needed = plan.weights.packed_bytes();
    if usize::BITS == 32 && needed > ADDRESSABLE {
        let message = "the model is too large to run on the CPU in a browser; it needs WebGPU";
        return Err(Error::new(ErrorKind::OutOfMemory, message)
            .with("needed", needed)
            .with("limit", ADDRESSABLE));
    }
    Ok(())
}

/// A device with a model on it.
///
/// The caller keeps count of positions: keys and values of positions below the `position` given to
/// [`extend`](Self::extend) stay valid, later ones are overwritten.
pub trait Engine: Sink {
    /// Most tokens that [`extend`](Self::extend) takes.
    fn max_chunk(&self) -> usize;

    /// Most tokens in the last chunk for [`logits`](Self::logits) to take.
    fn max_evaluation(&self) -> usize;

    /// Most tokens that one [`decode`](Self::decode) draws.
    fn max_batch(&self) -> usize;

    /// The key/value caches of the plan.
    fn caches(&self) -> &[CacheShape];

    /// What computes, for people.
    fn device_name(&self) -> String;

    /// Bytes held.
    fn memory(&self) -> MemoryUse;

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
    fn extend<'a>(&'a mut self, tokens: &'a [u32], position: usize) -> LocalFuture<'a, Result<()>>;

    /// As [`extend`](Self::extend), and gives the residual stream after the embedding and after each
    /// layer, [n_layers + 1, n_tokens, width].
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn hidden_states<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Result<Vec<f32>>>;

    /// Logits of every token of the last chunk, [n_tokens, n_vocab], in a chunk of at most
    /// [`max_evaluation`](Self::max_evaluation).
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn logits(&mut self) -> LocalFuture<'_, Result<Vec<f32>>>;

    /// Begins a generation after `prompt`.
    ///
    /// # Errors
    /// `invalid_argument` for parameters out of range.
    fn start(&mut self, params: &SamplingParams, prompt: &[u32]) -> Result<()>;

    /// Frees everything; returns how many bytes that were.
    fn dispose(self: Box<Self>) -> u64;

    /// Draws `n_tokens` tokens one after the other. All but the last are in the cache afterwards;
    /// the last one of the call before is, too.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn decode(&mut self, n_tokens: usize) -> LocalFuture<'_, Result<Vec<Sampled>>>;
}

/// Tokens of a chunk on the CPU: small enough to stop soon, large enough to share matrix rows.
const CPU_CHUNK: usize = 16;

/// The CPU as a device.
pub struct CpuEngine {
    device: CpuDevice,
    n_vocab: usize,
    sampler: Option<cpu::Sampler>,
    /// The token drawn last, and its position, when it is not in the cache yet.
    pending: Option<u32>,
    next_position: usize,
}

impl CpuEngine {
    /// Wraps a device.
    pub fn new(device: CpuDevice, n_vocab: usize) -> Self {
        Self { device, n_vocab, sampler: None, pending: None, next_position: 0 }
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
        self.device.write(id, segment, section, rows, bytes)
    }
}

impl Engine for CpuEngine {
    fn max_chunk(&self) -> usize {
        CPU_CHUNK
    }

    fn max_evaluation(&self) -> usize {
        CPU_CHUNK
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn caches(&self) -> &[CacheShape] {
        self.device.caches()
    }

    fn device_name(&self) -> String {
        "CPU".to_owned()
    }

    fn memory(&self) -> MemoryUse {
        let [weights, caches, scratch] = self.device.memory();
        MemoryUse { weights, caches, scratch }
    }

    fn warm_up(&mut self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn extend<'a>(&'a mut self, tokens: &'a [u32], position: usize) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.device.extend(tokens, position);
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
            let states = self.device.hidden_states(tokens, position);
            self.pending = None;
            self.next_position = position + tokens.len();
            Ok(states)
        })
    }

    fn logits(&mut self) -> LocalFuture<'_, Result<Vec<f32>>> {
        Box::pin(async move {
            let n_tokens = self.device.n_tokens();
            Ok(self.device.logits(0..n_tokens).to_vec())
        })
    }

    fn start(&mut self, params: &SamplingParams, prompt: &[u32]) -> Result<()> {
        self.sampler = Some(cpu::Sampler::new(params, self.n_vocab, prompt)?);
        Ok(())
    }

    fn dispose(self: Box<Self>) -> u64 {
        self.memory().total()
    }

    fn decode(&mut self, n_tokens: usize) -> LocalFuture<'_, Result<Vec<Sampled>>> {
        Box::pin(async move {
            let sampler = self.sampler.as_mut().expect("`start` comes before `decode`");
            let mut drawn = Vec::with_capacity(n_tokens);
            for _ in 0..n_tokens {
                if let Some(token) = self.pending.take() {
                    self.device.extend(&[token], self.next_position);
                    self.next_position += 1;
                }
                let last = self.device.n_tokens() - 1;
                let sampled = sampler.sample(self.device.logits(last..last + 1));
                self.pending = Some(sampled.token);
                drawn.push(sampled);
            }
            Ok(drawn)
        })
    }
}
