//! Sampling: twin of `cpu::sample`, `shaders/sample_scan.wgsl`, `sample_top.wgsl` and `sample_pick.wgsl`.

use std::cell::{Cell, RefCell};

use super::Target;
use crate::{
    error::Result,
    gpu::{
        context::{Context, GpuBuffer},
        record::{Binding, PARAMETERS, Recorder},
        shader::Variant,
    },
    sampler::{IN_PROMPT, MAX_TOP, Sampled, SamplingParams, TokenLogprob},
};

/// Bytes of a reported token: its id and its log-probability.
const DRAWN_BYTES: u64 = 8;

/// Bytes of the likeliest tokens beside it: log-probabilities and ids.
const TOP_BYTES: u64 = MAX_TOP as u64 * 8;

/// Bytes of a workgroup's partial result.
const PARTIAL_BYTES: u64 = 16;

/// Bytes of the settings.
const SETTINGS_BYTES: usize = 64;

/// Where in the settings it stands whether there is a mask.
const MASKED_OFFSET: u64 = 52;

/// The shader that finds the likeliest tokens of shares, and that which joins them.
pub fn top_variants() -> [Variant; 2] {
    [Variant::new("sample_top"), Variant::new("sample_top").define("MERGE")]
}

/// Buffers of sampling.
pub struct Sampling {
    settings: GpuBuffer,
    counts: GpuBuffer,
    biases: GpuBuffer,
    mask: GpuBuffer,
    scaled: GpuBuffer,
    partials: GpuBuffer,
    /// Tokens drawn since the slot was reset.
    pub drawn: GpuBuffer,
    /// Of each share, its likeliest tokens.
    found: GpuBuffer,
    /// The likeliest tokens beside each of `drawn`.
    pub top: GpuBuffer,
    /// Tokens whose entry in `biases` is not zero.
    biased: RefCell<Vec<u32>>,
    /// Whether the settings say that there is a mask, as the shader reads it.
    masked: Cell<u32>,
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
        let n_shares = u64::from(target.tuning.scan_shares);
        Ok(Self {
            settings: context.buffer("sampling settings", SETTINGS_BYTES as u64, PARAMETERS),
            counts: context.storage("token counts", bytes)?,
            biases: context.storage("logit biases", bytes)?,
            mask: context.storage("token mask", n_vocab.div_ceil(32) as u64 * 4)?,
            scaled: context.storage("scaled logits", bytes)?,
            partials: context.storage("partials", n_shares * PARTIAL_BYTES)?,
            drawn: context.storage("drawn tokens", u64::from(n_slots) * DRAWN_BYTES)?,
            found: context.storage("likeliest of shares", n_shares * TOP_BYTES)?,
            top: context.storage("likeliest tokens", u64::from(n_slots) * TOP_BYTES)?,
            biased: RefCell::default(),
            masked: Cell::default(),
            n_vocab,
        })
    }

    /// Records the draw of one token from `logits` and the step to the next; the likeliest ones too
    /// where `with_top` is set.
    pub fn record<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        target: &Target<'_>,
        state: &'a GpuBuffer,
        logits: &'a GpuBuffer,
        tokens: &'a GpuBuffer,
        with_top: bool,
    ) {
        let shares = target.tuning.scan_shares;
        recorder.dispatch(
            "sample scan",
            Variant::new("sample_scan"),
            vec![
                (0, Binding::ParameterBuffer(&self.settings)),
                (1, Binding::Read(logits.into())),
                (2, Binding::Read((&self.counts).into())),
                (3, Binding::Write((&self.scaled).into())),
                (4, Binding::Write((&self.partials).into())),
                (5, Binding::Read((&self.biases).into())),
                (6, Binding::Read((&self.mask).into())),
            ],
            Box::new(move |_| Some([shares, 1, 1])),
        );
        if with_top {
            self.record_top(recorder, shares, state, logits);
        }
        recorder.dispatch(
            "sample pick",
            Variant::new("sample_pick"),
            vec![
                (0, Binding::ParameterBuffer(&self.settings)),
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

    fn record_top<'a>(
        &'a self,
        recorder: &mut Recorder<'a>,
        shares: u32,
        state: &'a GpuBuffer,
        logits: &'a GpuBuffer,
    ) {
        let [scan, merge] = top_variants();
        recorder.dispatch(
            "sample top",
            scan,
            vec![
                (0, Binding::ParameterBuffer(&self.settings)),
                (1, Binding::Read(logits.into())),
                (2, Binding::Write((&self.found).into())),
            ],
            Box::new(move |_| Some([shares, 1, 1])),
        );
        recorder.dispatch(
            "sample top merge",
            merge,
            vec![
                (0, Binding::ParameterBuffer(&self.settings)),
                (1, Binding::Read((&self.found).into())),
                (2, Binding::Write((&self.top).into())),
                (3, Binding::Read((&self.partials).into())),
                (4, Binding::Read(state.into())),
            ],
            Box::new(|_| Some([1, 1, 1])),
        );
    }

    /// Bytes that [`copy`](Self::copy) writes for `n_tokens` tokens.
    pub fn copied_bytes(n_tokens: u64, with_top: bool) -> u64 {
        n_tokens * (DRAWN_BYTES + if with_top { TOP_BYTES } else { 0 })
    }

    /// Encodes the copy of the first `n_tokens` slots to the start of `readback`.
    pub fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        readback: &GpuBuffer,
        n_tokens: u64,
        with_top: bool,
    ) {
        let bytes = n_tokens * DRAWN_BYTES;
        let readback = &readback.buffer;
        encoder.copy_buffer_to_buffer(&self.drawn.buffer, 0, readback, 0, bytes);
        if with_top {
            let top_bytes = n_tokens * TOP_BYTES;
            encoder.copy_buffer_to_buffer(&self.top.buffer, 0, readback, bytes, top_bytes);
        }
    }

    /// What [`copy`](Self::copy) wrote: `n_tokens` tokens, with `n_top` of the likeliest.
    pub fn read(&self, bytes: &[u8], n_tokens: usize, n_top: u32) -> Vec<Sampled> {
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
        let (drawn, top) = words.split_at(n_tokens * 2);
        let top = |slot: usize| {
            let entries = top.chunks_exact(2).skip(slot * MAX_TOP as usize).take(n_top as usize);
            entries
                .map(|entry| TokenLogprob { token: entry[1], logprob: f32::from_bits(entry[0]) })
                .filter(|entry| (entry.token as usize) < self.n_vocab)
                .collect()
        };
        let drawn = drawn.chunks_exact(2).enumerate();
        drawn
            .map(|(slot, words)| Sampled {
                token: words[0],
                logprob: f32::from_bits(words[1]),
                top: top(slot),
            })
            .collect()
    }

    /// Sets which tokens may be drawn next: those whose bits are set, or all.
    pub fn set_mask(&self, context: &Context, mask: Option<&[u32]>) {
        let masked = u32::from(mask.is_some());
        if self.masked.replace(masked) != masked {
            let settings = &self.settings.buffer;
            context.queue.write_buffer(settings, MASKED_OFFSET, &masked.to_le_bytes());
        }
        if let Some(mask) = mask {
            assert_eq!(mask.len(), self.n_vocab.div_ceil(32), "a mask has a bit for each token");
            context.queue.write_buffer(&self.mask.buffer, 0, bytemuck::cast_slice(mask));
        }
    }

    /// Begins a generation after `prompt`, or goes on with one that has drawn `generated`.
    pub fn start(
        &self,
        context: &Context,
        params: &SamplingParams,
        prompt: &[u32],
        generated: &[u32],
    ) {
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
        let words = [
            params.top_k,
            greedy.into(),
            params.seed as u32,
            (params.seed >> 32) as u32,
            self.n_vocab as u32,
            (!params.logit_bias.is_empty()).into(),
            params.top_logprobs,
            0,
            0,
            0,
        ];
        let mut settings = Vec::with_capacity(SETTINGS_BYTES);
        settings.extend_from_slice(bytemuck::cast_slice(&numbers));
        settings.extend_from_slice(bytemuck::cast_slice(&words));
        context.queue.write_buffer(&self.settings.buffer, 0, &settings);
        self.masked.set(0);

        // A few entries at most are not zero: only those are written.
        let mut biased = self.biased.borrow_mut();
        let cleared = biased.drain(..).map(|token| (token, 0.0));
        for (token, bias) in cleared.chain(params.logit_bias.iter().copied()) {
            let offset = u64::from(token) * 4;
            context.queue.write_buffer(&self.biases.buffer, offset, &bias.to_le_bytes());
        }
        biased.extend(params.logit_bias.iter().map(|(token, _)| token));

        let mut counts = vec![0_u32; self.n_vocab];
        for &token in prompt {
            counts[token as usize] = IN_PROMPT;
        }
        for &token in generated {
            counts[token as usize] += 1;
        }
        context.queue.write_buffer(&self.counts.buffer, 0, bytemuck::cast_slice(&counts));
    }
}
