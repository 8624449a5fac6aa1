//! The operations on WebGPU: twins of `cpu`, one file an operation.
//!
//! [`GpuEngine`] holds a plan's weights, activations and caches in GPU buffers and the plan itself as
//! [`Recording`]s: a chunk of prefill, one token of decode, and from the last row to the next
//! token. The token, its position and the random step live on the GPU, so that several tokens are
//! drawn in one submission.

mod autotune;
mod buffers;
pub mod context;
pub mod ops;
mod park;
#[cfg(not(target_arch = "wasm32"))]
pub mod profile;
pub mod record;
pub mod shader;
mod token;
pub mod tuning;
pub mod weights;

use std::ops::Range;

use self::{
    buffers::{Buffers, Rows},
    context::{Context, GpuBuffer, Guard},
    ops::{Target, sample::Sampling},
    record::{Extent, Pipelines, Recorder, Recording},
    token::{Layers, TokenRecordings},
    tuning::Tuning,
};
pub use self::{
    buffers::{Cache, CacheFormat},
    park::ParkedCaches,
    tuning::Sizes,
};
use crate::{
    engine::{Engine, MemoryUse, Outputs, Parked},
    error::{Error, Result},
    ops::{CacheShape, Experts, Linear, Op, Plan},
    sampler::{Sampled, SamplingParams},
    source::LocalFuture,
    weights::{Section, Sink, WeightId},
};

/// Tokens whose logits are computed at once for evaluation.
const EVALUATION_CHUNK: usize = 16;

/// Experts of a layer, whose counts must fit workgroup memory.
const MAX_EXPERTS: usize = 2048;

/// Experts of a token, whose numbers must fit workgroup memory of 16 KiB beside a number for each thread;
/// see `shaders/choose.wgsl`.
const MAX_USED: usize = (16_384 - 1024) / 4;

/// The work of the head: one row, whatever came before.
const HEAD_EXTENT: Extent = Extent { n_tokens: 1, n_keys: 0 };

/// Where in the state the slot of the next drawn token stands.
const SLOT_OFFSET: u64 = 12;

/// A plan on a GPU.
pub struct GpuEngine {
    context: Context,
    tuning: Tuning,
    plan: Plan,
    buffers: Buffers,
    pipelines: Pipelines,
    /// Whether pipelines could be made, where that is not known yet: weights may be written meanwhile.
    compiling: Option<LocalFuture<'static, Result<()>>>,
    chunk: Layers,
    token: TokenRecordings,
    /// Logits of a whole chunk, made when they are first asked for.
    evaluation: Option<(GpuBuffer, Recording)>,
    readback: GpuBuffer,
    memory: MemoryUse,
    /// Tokens in the last chunk that have outputs.
    n_tokens: usize,
    /// Positions in the cache, the pending token not counted.
    n_cached: usize,
    /// How many of the likeliest tokens this generation reports.
    n_top: u32,
    /// Whether the logits are already those after the last token.
    has_logits: bool,
    /// Whether a drawn token waits to be fed.
    pending: bool,
}

impl GpuEngine {
    /// Allocates everything that `plan` needs for `context_length` positions and records it. Whether shaders and
    /// pipelines are accepted, the first chunk tells, or [`Engine::warm_up`].
    ///
    /// # Errors
    /// `out_of_memory` with the bytes needed; `gpu`.
    pub async fn new(context: Context, plan: Plan, context_length: usize) -> Result<Self> {
        let tuning = Tuning::for_adapter(&context.capabilities);
        Self::with_tuning(context, plan, context_length, tuning).await
    }

    /// Allocates what [`new`](Self::new) does but for recordings, which are small, and frees it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn allocate(
        context: &Context,
        plan: &Plan,
        context_length: usize,
    ) -> Result<MemoryUse> {
        check_plan(plan)?;
        let tuning = Tuning::for_adapter(&context.capabilities);
        let (_, memory) = Buffers::new(context, plan, context_length, &tuning).await?;
        Ok(memory)
    }

    /// As [`new`](Self::new), with chosen sizes of workgroups and chunks.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn with_tuning(
        context: Context,
        plan: Plan,
        context_length: usize,
        tuning: Tuning,
    ) -> Result<Self> {
        check_plan(&plan)?;
        let (buffers, memory) = Buffers::new(&context, &plan, context_length, &tuning).await?;
        let mut pipelines = Pipelines::default();
        let guard = Guard::new(&context);
        let chunk = Layers::new(&context, &plan, &buffers, &tuning, Rows::Chunk, &mut pipelines);
        let token = TokenRecordings::new(&context, &plan, &buffers, &tuning, &mut pipelines);
        let readback = context.buffer(
            "drawn readback",
            Sampling::copied_bytes(tuning.max_batch.into(), true),
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        );
        let compiling = Some(guard.end());
        Ok(Self {
            context,
            tuning,
            plan,
            buffers,
            pipelines,
            compiling,
            chunk,
            token,
            evaluation: None,
            readback,
            memory,
            n_tokens: 0,
            n_cached: 0,
            n_top: 0,
            has_logits: false,
            pending: false,
        })
    }

    /// Runs pipelines once, so that drivers compile them now. On a software adapter a tile of prefill
    /// takes longer than its compilation, so only decoding is run there.
    async fn run_all(&mut self) -> Result<()> {
        let chunk = if self.context.capabilities.software { &[0][..] } else { &[0; 2] };
        self.start(&SamplingParams::default(), &[])?;
        self.extend(chunk, 0, Outputs::All).await?;
        self.decode(2).await?;
        self.context.check()
    }

    /// Waits for pipelines that are still being made. Without them the engine stays without use.
    async fn compiled(&mut self) -> Result<()> {
        let Some(answer) = self.compiling.take() else { return Ok(()) };
        let answer = answer.await;
        if let Err(error) = &answer {
            let error = error.clone();
            self.compiling = Some(Box::pin(async { Err(error) }));
        }
        answer
    }

    fn extent(&self, n_tokens: usize, position: usize) -> Extent {
        Extent { n_tokens: n_tokens as u32, n_keys: (position + n_tokens) as u32 }
    }

    /// Writes what the chunk's dispatches read.
    fn begin_chunk(&mut self, tokens: &[u32], position: usize) -> Extent {
        let queue = &self.context.queue;
        queue.write_buffer(&self.buffers.tokens.buffer, 0, bytemuck::cast_slice(tokens));
        self.n_cached = position + tokens.len();
        self.pending = false;
        self.has_logits = false;
        self.write_state(tokens.len(), position)
    }

    /// Writes of how many tokens, from `position` on, outputs are computed next.
    fn write_state(&mut self, n_tokens: usize, position: usize) -> Extent {
        let state = [position as u32, n_tokens as u32];
        let queue = &self.context.queue;
        queue.write_buffer(&self.buffers.state.buffer, 0, bytemuck::cast_slice(&state));
        self.n_tokens = n_tokens;
        self.extent(n_tokens, position)
    }

    /// Computes the last layer for the last of `n_tokens` tokens from `position`, whose keys and values it has: as for
    /// a token by itself, which takes the place of the first.
    fn finish_last(&mut self, n_tokens: usize, position: usize) {
        let Buffers { activations, normed, .. } = &self.buffers;
        let hidden = self.plan.head.x.0;
        let row = self.plan.buffers[hidden].width as u64 * 4;
        let last = n_tokens - 1;
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let (hidden, between) = (&activations[hidden].buffer, &normed.buffer);
        encoder.copy_buffer_to_buffer(hidden, last as u64 * row, between, 0, row);
        encoder.copy_buffer_to_buffer(between, 0, hidden, 0, row);
        let extent = self.write_state(1, position + last);
        let layers = &self.token.layers;
        layers.recording.encode_part(
            &mut encoder.begin_compute_pass(&Default::default()),
            extent,
            layers.last(),
        );
        self.context.queue.submit([encoder.finish()]);
    }

    async fn evaluate(&mut self) -> Result<Vec<f32>> {
        assert!(self.n_tokens <= EVALUATION_CHUNK, "evaluation takes chunks of max_evaluation");
        if self.evaluation.is_none() {
            let bytes = EVALUATION_CHUNK as u64 * self.plan.n_vocab as u64 * 4;
            let (context, tuning, buffers) = (&self.context, &self.tuning, &self.buffers);
            let pipelines = &mut self.pipelines;
            let head = &self.plan.head;
            let made = context
                .guarded(|| {
                    let logits = context.storage("all logits", bytes)?;
                    let target = Target { capabilities: &context.capabilities, tuning };
                    let mut recorder = Recorder::default();
                    buffers.record_linear(&mut recorder, &target, head, Rows::Chunk, &logits);
                    let recording = recorder.finish(context, pipelines);
                    Ok((logits, recording))
                })
                .await?;
            self.evaluation = Some(made);
        }
        let (logits, recording) = self.evaluation.as_ref().expect("made above");
        self.submit(|pass| recording.encode(pass, self.extent(self.n_tokens, 0)));
        let bytes = self.n_tokens as u64 * self.plan.n_vocab as u64 * 4;
        let bytes = self.context.read(logits, bytes).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn submit(&self, encode: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        encode(&mut encoder.begin_compute_pass(&Default::default()));
        self.context.queue.submit([encoder.finish()]);
    }

    /// Appends the layers for the token drawn last, if that was not fed yet.
    fn encode_pending(&mut self, pass: &mut wgpu::ComputePass<'_>) {
        if std::mem::take(&mut self.pending) {
            let extent = Extent { n_tokens: 1, n_keys: self.n_cached as u32 + 1 };
            self.token.layers.recording.encode(pass, extent);
            self.n_cached += 1;
        }
    }

    /// Submits what leads to the next logits.
    fn submit_to_logits(&mut self) {
        if std::mem::replace(&mut self.has_logits, true) {
            return;
        }
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.encode_pending(&mut pass);
            let head = &self.token.heads[0];
            head.encode_part(&mut pass, HEAD_EXTENT, 0..self.token.n_to_logits);
        }
        self.context.queue.submit([encoder.finish()]);
    }

    async fn draw(&mut self, n_tokens: usize, mask: Option<&[u32]>) -> Result<Vec<Sampled>> {
        assert!(n_tokens <= self.max_batch(), "a batch is at most max_batch");
        self.buffers.sampling.set_mask(&self.context, mask);
        let state = &self.buffers.state.buffer;
        self.context.queue.write_buffer(state, SLOT_OFFSET, &0_u32.to_le_bytes());
        let with_top = self.n_top > 0;
        for _ in 0..n_tokens {
            // A submission for each token: the device begins while later ones are encoded.
            let mut encoder = self.context.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                self.encode_pending(&mut pass);
                let skipped = if self.has_logits { self.token.n_to_logits } else { 0 };
                let head = &self.token.heads[usize::from(with_top)];
                head.encode_part(&mut pass, HEAD_EXTENT, skipped..head.len());
                (self.pending, self.has_logits) = (true, false);
            }
            self.context.queue.submit([encoder.finish()]);
        }
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let sampling = &self.buffers.sampling;
        sampling.copy(&mut encoder, &self.readback, n_tokens as u64, with_top);
        self.context.queue.submit([encoder.finish()]);
        let bytes = Sampling::copied_bytes(n_tokens as u64, with_top);
        let bytes = self.context.map(&self.readback, bytes).await?;
        Ok(sampling.read(&bytes, n_tokens, self.n_top))
    }
}

/// What the shaders require of a model's shapes beyond what its configuration promises.
fn check_plan(plan: &Plan) -> Result<()> {
    for CacheShape { heads, .. } in &plan.caches {
        let fits = heads.head_dim.is_power_of_two() && (8..=512).contains(&heads.head_dim);
        if !fits {
            return Err(Error::unsupported("heads of this width on a GPU")
                .with("found", heads.head_dim)
                .with("expected", "a power of two from 8 to 512"));
        }
    }
    let widest = plan.buffers[plan.head.x.0].width;
    let normed_fits = plan.layers.iter().all(|op| match op {
        Op::Linear(Linear { norm: Some(_), x, .. })
        | Op::Experts(Experts { norm: Some(_), x, .. }) => plan.buffers[x.0].width <= widest,
        _ => true,
    });
    assert!(normed_fits, "norms apply to the residual stream");
    for op in &plan.layers {
        match op {
            Op::Experts(Experts { n_experts, .. }) if *n_experts > MAX_EXPERTS => {
                return Err(Error::unsupported("so many experts on a GPU")
                    .with("found", *n_experts)
                    .with("limit", MAX_EXPERTS));
            }
            Op::Rope { n_rot, .. } if !n_rot.is_multiple_of(4) => {
                return Err(Error::unsupported("rotated widths like this on a GPU")
                    .with("found", *n_rot)
                    .with("expected", "a multiple of 4"));
            }
            Op::Route { n_used, .. } if *n_used > MAX_USED => {
                return Err(Error::unsupported("so many experts of a token on a GPU")
                    .with("found", *n_used)
                    .with("limit", MAX_USED));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Sink for GpuEngine {
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()> {
        self.buffers.weights[id.0].write(&self.context, segment, section, rows, bytes);
        self.context.check()
    }
}

impl Engine for GpuEngine {
    fn max_chunk(&self) -> usize {
        self.tuning.max_chunk as usize
    }

    fn max_evaluation(&self) -> usize {
        EVALUATION_CHUNK.min(self.max_chunk())
    }

    fn max_batch(&self) -> usize {
        self.tuning.max_batch as usize
    }

    fn caches(&self) -> &[CacheShape] {
        &self.plan.caches
    }

    fn device_name(&self) -> String {
        self.context.capabilities.name.clone()
    }

    fn memory(&self) -> MemoryUse {
        self.memory
    }

    fn in_use(&self, _: u64) -> u64 {
        self.context.allocated()
    }

    fn warm_up(&mut self) -> LocalFuture<'_, Result<()>> {
        Box::pin(self.run_all())
    }

    fn hidden_states<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Result<Vec<f32>>> {
        Box::pin(async move {
            self.compiled().await?;
            let extent = self.begin_chunk(tokens, position);
            let Layers { recording, ends, .. } = match tokens {
                [_] => &self.token.layers,
                _ => &self.chunk,
            };
            let hidden = self.plan.head.x.0;
            let bytes = tokens.len() as u64 * self.plan.buffers[hidden].width as u64 * 4;
            let mut states = Vec::new();
            let mut start = 0;
            for &end in ends {
                self.submit(|pass| recording.encode_part(pass, extent, start..end));
                let rows = self.context.read(&self.buffers.activations[hidden], bytes).await?;
                states.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&rows));
                start = end;
            }
            Ok(states)
        })
    }

    fn extend<'a>(
        &'a mut self,
        tokens: &'a [u32],
        position: usize,
        outputs: Outputs,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.compiled().await?;
            let extent = self.begin_chunk(tokens, position);
            let (layers, outputs) = match tokens {
                [_] => (&self.token.layers, Outputs::All),
                _ => (&self.chunk, outputs),
            };
            let n_dispatches = match outputs {
                Outputs::All => layers.recording.len(),
                Outputs::Last | Outputs::None => layers.n_to_caches,
            };
            self.submit(|pass| layers.recording.encode_part(pass, extent, 0..n_dispatches));
            if outputs == Outputs::Last {
                self.finish_last(tokens.len(), position);
            }
            // Waiting here bounds the work in flight, so that an abort takes effect after one chunk.
            self.context.read(&self.buffers.state, 4).await?;
            Ok(())
        })
    }

    fn logits(&mut self) -> LocalFuture<'_, Result<Vec<f32>>> {
        Box::pin(self.evaluate())
    }

    fn park(
        &mut self,
        n_positions: usize,
        n_written: usize,
    ) -> LocalFuture<'_, Result<Option<Parked>>> {
        Box::pin(async move {
            let caches = &self.buffers.caches;
            let parked = ParkedCaches::new(&self.context, caches, n_positions, n_written).await?;
            Ok(parked.map(Parked::Gpu))
        })
    }

    fn unpark(&mut self, parked: &Parked) -> Result<()> {
        match parked {
            Parked::Gpu(parked) => parked.unpark(&self.context, &self.buffers.caches),
            Parked::Cpu(_) => panic!("caches go back to the device they came from"),
        }
        self.pending = false;
        Ok(())
    }

    fn resume(&mut self, params: &SamplingParams, prompt: &[u32], generated: &[u32]) -> Result<()> {
        params.validate(self.plan.n_vocab)?;
        self.buffers.sampling.start(&self.context, params, prompt, generated);
        self.n_top = params.top_logprobs;
        let step = (generated.len() as u32).to_le_bytes();
        self.context.queue.write_buffer(&self.buffers.state.buffer, SLOT_OFFSET - 4, &step);
        Ok(())
    }

    fn gpu(&mut self) -> Option<&mut GpuEngine> {
        Some(self)
    }

    fn dispose(self: Box<Self>) -> u64 {
        let context = self.context.clone();
        let before = context.allocated();
        drop(self);
        let freed = before - context.allocated();
        context.device.destroy();
        freed
    }

    fn decode(&mut self, n_tokens: usize) -> LocalFuture<'_, Result<Vec<Sampled>>> {
        Box::pin(self.draw(n_tokens, None))
    }

    fn advance(&mut self) -> Result<()> {
        self.submit_to_logits();
        Ok(())
    }

    fn decode_within<'a>(&'a mut self, mask: &'a [u32]) -> LocalFuture<'a, Result<Sampled>> {
        Box::pin(async move {
            let drawn = self.draw(1, Some(mask)).await?;
            Ok(drawn.into_iter().next().expect("one token was asked for"))
        })
    }
}
