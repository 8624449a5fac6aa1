//! RMSNorm of many rows: twin of what `cpu::linear` does first, and of `shaders/rms_norm.wgsl`.

use super::Target;
use crate::gpu::{
    context::GpuBuffer,
    record::{Binding, Recorder, Word, parameters},
    shader::Variant,
    weights::GpuWeight,
};

/// Threads of a workgroup.
const WORKGROUP: u32 = 64;

/// The variant for a device.
pub fn variant(target: &Target<'_>) -> Variant {
    target.lanes(Variant::new("rms_norm"), WORKGROUP, WORKGROUP)
}

/// Records the norm of all rows of the chunk.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    x: &'a GpuBuffer,
    gain: &'a GpuWeight,
    eps: f32,
    out: &'a GpuBuffer,
) {
    let bindings = vec![
        (0, parameters(&[(gain.n_rows / 4).into(), Word::F32(eps)])),
        (1, Binding::Read(x.into())),
        (2, Binding::Read(gain.vector().into())),
        (3, Binding::Write(out.into())),
    ];
    recorder.dispatch(
        &gain.name,
        variant(target),
        bindings,
        Box::new(|extent| Some([extent.n_tokens, 1, 1])),
    );
}
