//! Rows of the embedding table: twin of `cpu::embed` and `shaders/embed.wgsl`.

use crate::{
    gpu::{
        context::GpuBuffer,
        record::{Binding, Recorder, parameters},
        shader::Variant,
        weights::GpuWeight,
    },
    weights::Layout,
};

/// The variant for a table.
pub fn variant(layout: Layout) -> Variant {
    Variant::new("embed").layout(layout)
}

/// Records the lookup, one dispatch a page of the table.
pub fn record<'a>(
    recorder: &mut Recorder<'a>,
    state: &'a GpuBuffer,
    table: &'a GpuWeight,
    tokens: &'a GpuBuffer,
    out: &'a GpuBuffer,
) {
    let n_blocks = table.n_cols / 32;
    for page in &table.pages {
        let bindings = vec![
            (
                0,
                parameters(&[
                    page.outputs.len().into(),
                    n_blocks.into(),
                    page.outputs.start.into(),
                ]),
            ),
            (1, Binding::Read(state.into())),
            (2, Binding::Read(page.quants())),
            (3, Binding::Read(page.scales())),
            (4, Binding::Read(tokens.into())),
            (5, Binding::Write(out.into())),
        ];
        let x = (n_blocks as u32).div_ceil(64);
        recorder.dispatch(
            "embedding",
            variant(page.layout),
            bindings,
            Box::new(move |extent| Some([x, extent.n_tokens, 1])),
        );
    }
}
