//! The experts of each token: twin of `cpu::route` and `shaders/route.wgsl`.

use crate::gpu::{
    context::GpuBuffer,
    record::{Binding, Recorder, parameters},
    shader::Variant,
};

/// The variant for a number of experts a token.
pub fn variant(n_used: u32) -> Variant {
    Variant::new("route").number("N_USED", n_used)
}

/// Records the choice among `n_experts` experts for all tokens of the chunk.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    state: &'a GpuBuffer,
    logits: &'a GpuBuffer,
    [n_experts, n_used]: [usize; 2],
    routing: &'a GpuBuffer,
) {
    recorder.dispatch(
        "route",
        variant(n_used as u32),
        vec![
            (0, parameters(&[n_experts.into()])),
            (1, Binding::Read(state.into())),
            (2, Binding::Read(logits.into())),
            (3, Binding::Write(routing.into())),
        ],
        Box::new(|extent| Some([extent.n_tokens, 1, 1])),
    );
}
