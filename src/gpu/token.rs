//! Recordings of a plan: the layers for a chunk, and all that one token takes.

use std::ops::Range;

use super::{
    Extent, HEAD_EXTENT,
    buffers::{Buffers, Rows},
    context::Context,
    ops::Target,
    record::{Pipelines, Recorder, Recording},
    tuning::Tuning,
};
use crate::ops::{Op, Plan};

/// The layers of a plan.
pub struct Layers {
    pub recording: Recording,
    /// Dispatches that lead to keys and values.
    pub n_to_caches: usize,
    /// Dispatches after which `hidden` is the embedding, and the output of each layer.
    pub ends: Vec<usize>,
}

impl Layers {
    pub fn new(
        context: &Context,
        plan: &Plan,
        buffers: &Buffers,
        tuning: &Tuning,
        rows: Rows,
        pipelines: &mut Pipelines,
    ) -> Self {
        let target = Target { capabilities: &context.capabilities, tuning };
        let mut recorder = Recorder::default();
        let mut ends = Vec::new();
        let mut n_to_caches = 0;
        for index in 0..plan.layers.len() {
            buffers.record(&mut recorder, &target, &plan.layers, index, rows);
            if plan.layers[index].writes_cache() {
                n_to_caches = recorder.len();
            }
            if plan.layer_ends.contains(&(index + 1)) {
                ends.push(recorder.len());
            }
        }
        Self { recording: recorder.finish(context, pipelines), n_to_caches, ends }
    }

    /// Dispatches of the last layer.
    pub fn last(&self) -> Range<usize> {
        let start = self.ends.iter().nth_back(1).copied().unwrap_or(0);
        start..self.recording.len()
    }
}

/// What one token takes.
pub struct TokenRecordings {
    pub layers: Layers,
    /// From the last row to the next token, without and with the likeliest beside it.
    pub heads: [Recording; 2],
    /// Dispatches of either that come before sampling: what makes logits.
    pub n_to_logits: usize,
}

impl TokenRecordings {
    pub fn new(
        context: &Context,
        plan: &Plan,
        buffers: &Buffers,
        tuning: &Tuning,
        pipelines: &mut Pipelines,
    ) -> Self {
        let target = Target { capabilities: &context.capabilities, tuning };
        let layers = Layers::new(context, plan, buffers, tuning, Rows::Last, pipelines);
        let mut n_to_logits = 0;
        let heads = [false, true].map(|with_top| {
            let mut head = Recorder::default();
            buffers.record(&mut head, &target, &[Op::Linear(plan.head)], 0, Rows::Last);
            n_to_logits = head.len();
            let logits = &buffers.activations[plan.head.out.0];
            let (state, tokens) = (&buffers.state, &buffers.tokens);
            buffers.sampling.record(&mut head, &target, state, logits, tokens, with_top);
            head.finish(context, pipelines)
        });
        Self { layers, heads, n_to_logits }
    }

    /// Appends all that leads to the logits of a token.
    pub fn encode_to_logits(&self, pass: &mut wgpu::ComputePass<'_>, extent: Extent) {
        self.layers.recording.encode(pass, extent);
        self.heads[0].encode_part(pass, HEAD_EXTENT, 0..self.n_to_logits);
    }
}
