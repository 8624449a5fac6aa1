//! The experts of each token: twin of `cpu::route` and `shaders/route.wgsl`.

use crate::gpu::{
    context::GpuBuffer,
    record::{Binding, Recorder},
    shader::Variant,
};

/// The variant for `n_used` experts a token, out of `n_experts`.
pub fn variant([n_experts, n_used]: [u32; 2]) -> Variant {
    Variant::new("route").number("N_EXPERTS", n_experts).number("N_USED", n_used)
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
        variant([n_experts as u32, n_used as u32]),
        vec![
            (1, Binding::Read(state.into())),
            (2, Binding::Read(logits.into())),
            (3, Binding::Write(routing.into())),
        ],
        Box::new(|extent| Some([extent.n_tokens, 1, 1])),
    );
}
