//! Sampling: twin of `cpu::sample`, `shaders/sample_scan.wgsl` and `shaders/sample_pick.wgsl`.

use super::Target;
use crate::{
    error::Result,
    gpu::{
        context::{Context, GpuBuffer},
        record::{Binding, Recorder},
        shader::Variant,
    },
    sampler::{IN_PROMPT, SamplingParams},
};

/// Bytes of a reported token: its id and its log-probability.
pub const DRAWN_BYTES: u64 = 8;

/// Bytes of a workgroup's partial result.
const PARTIAL_BYTES: u64 = 16;

/// Buffers of sampling.
pub struct Sampling {
    settings: GpuBuffer,
    counts: GpuBuffer,
    scaled: GpuBuffer,
    partials: GpuBuffer,
    /// Tokens drawn since the slot was reset.
    pub drawn: GpuBuffer,
    n_vocab: usize,
}

impl Sampling {
    /// Allocates buffers for `n_vocab` logits and `n_slots` tokens between readbacks.
    ///
    /// # Errors
    /// `out_of_memory` when something is larger than a binding may be.
    pub fn new(
        context: &Context,
        target: &Target<'_>,
        n_vocab: usize,
        n_slots: u32,
    ) -> Result<Self> {
        let bytes = n_vocab as u64 * 4;
        Ok(Self {
            settings: context.buffer(
                "sampling settings",
                48,
                wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            ),
            counts: context.storage("token counts", bytes)?,
            scaled: context.storage("scaled logits", bytes)?,
            partials: context
                .storage("partials", u64::from(target.tuning.scan_shares) * PARTIAL_BYTES)?,
            drawn: context.storage("drawn tokens", u64::from(n_slots) * DRAWN_BYTES)?,
            n_vocab,
        })
    }

    /// Records the draw of one token from `logits` and the step to the next.
    pub fn record<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        state: &'a GpuBuffer,
        logits: &'a GpuBuffer,
        tokens: &'a GpuBuffer,
    ) {
        let shares = target.tuning.scan_shares;
        recorder.dispatch(
            "sample scan",
            Variant::new("sample_scan"),
            vec![
                (0, Binding::Uniform(&self.settings)),
                (1, Binding::Read(logits.into())),
                (2, Binding::Read((&self.counts).into())),
                (3, Binding::Write((&self.scaled).into())),
                (4, Binding::Write((&self.partials).into())),
            ],
            Box::new(move |_| Some([shares, 1, 1])),
        );
        recorder.dispatch(
            "sample pick",
            Variant::new("sample_pick"),
            vec![
                (0, Binding::Uniform(&self.settings)),
                (1, Binding::Write(state.into())),
                (2, Binding::Read(logits.into())),
                (3, Binding::Write((&self.counts).into())),
                (4, Binding::Read((&self.scaled).into())),
                (5, Binding::Read((&self.partials).into())),
                (6, Binding::Write(tokens.into())),
                (7, Binding::Write((&self.drawn).into())),
            ],
            Box::new(|_| Some([1, 1, 1])),
        );
    }

    /// Begins a generation after `prompt`.
    pub fn start(&self, context: &Context, params: &SamplingParams, prompt: &[u32]) {
        let greedy = params.is_greedy();
        let log_min_p = if params.min_p > 0.0 { params.min_p.ln() } else { -3.0e38 };
        let inverse_temperature = if greedy { 1.0 } else { 1.0 / params.temperature };
        let numbers = [
            inverse_temperature,
            params.top_p,
            log_min_p,
            params.repetition_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        ];
        let counts = [
            params.top_k,
            greedy.into(),
            params.seed as u32,
            (params.seed >> 32) as u32,
            self.n_vocab as u32,
            0,
        ];
        let mut settings = Vec::with_capacity(48);
        settings.extend_from_slice(bytemuck::cast_slice(&numbers));
        settings.extend_from_slice(bytemuck::cast_slice(&counts));
        context.queue.write_buffer(&self.settings.buffer, 0, &settings);

        let mut in_prompt = vec![0_u32; self.n_vocab];
        for &token in prompt {
            in_prompt[token as usize] = IN_PROMPT;
        }
        context.queue.write_buffer(&self.counts.buffer, 0, bytemuck::cast_slice(&in_prompt));
    }
}
