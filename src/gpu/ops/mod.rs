//! Each operation as dispatches: twins of `cpu` and of the shaders, file by file.

pub mod attention;
pub mod embed;
pub mod experts;
pub mod matmul;
pub mod matvec;
pub mod rms_norm;
pub mod rope;
pub mod route;
pub mod sample;

use std::collections::HashSet;

use self::{attention::AttentionShape, experts::ExpertsShape};
use super::{
    CacheFormat,
    context::{Capabilities, GpuBuffer},
    record::{Binding, parameters},
    shader::Variant,
    tuning::{LaneTile, Tuning},
    weights::{GpuWeight, Page},
};
use crate::{
    config::RopePairing,
    ops::{Then, ThenExperts},
    weights::Layout,
};

/// What every operation needs to know of the device.
pub struct Target<'a> {
    /// What the adapter can do.
    pub capabilities: &'a Capabilities,
    /// How kernels are laid out.
    pub tuning: &'a Tuning,
}

impl Target<'_> {
    /// `variant` with the defines by which `block.wgsl` reads `layout` on this device.
    fn layout(&self, variant: Variant, layout: Layout) -> Variant {
        let is_fp4 = layout == Layout::Fp4;
        let takes_quads = variant.streams_weights() && self.takes_quads(layout);
        let in_subgroup = takes_quads && self.broadcast_subgroup() >= Some(8);
        let as_halves = is_fp4 && !in_subgroup && self.capabilities.half_subnormals;
        variant
            .layout(layout)
            .define_if(takes_quads, "QUADS")
            .define_if(in_subgroup, "CODES_IN_SUBGROUP")
            .define_if(as_halves, "HALF_CODES")
    }

    /// Whether a thread that multiplies one row takes blocks of `layout` in fours, which share a word of scales: where
    /// threads are lanes of a CPU's vectors, and loads cost most.
    fn takes_quads(&self, layout: Layout) -> bool {
        layout == Layout::Fp4 && self.tuning.lane_tile.is_some()
    }

    /// Columns of an input that are staged in workgroup memory, where there is room for them beside
    /// `others` words.
    fn staged(&self, n_cols: usize, others: u32) -> Option<u32> {
        let tuning = self.tuning;
        // Beside the input, a number for each thread.
        let bytes = 4 * (n_cols as u64 + u64::from(tuning.matvec_workgroup) + u64::from(others));
        let fits = bytes <= u64::from(self.capabilities.max_workgroup_bytes);
        (tuning.staged && fits).then_some(n_cols as u32)
    }

    /// Threads of a subgroup that is a whole workgroup, and whose threads load inputs together.
    fn broadcast_subgroup(&self) -> Option<u32> {
        let whole = |size: &u32| *size == self.tuning.matvec_workgroup;
        self.capabilities.subgroup.filter(|size| matches!(size, 4 | 8 | 16)).filter(whole)
    }

    /// `variant` with inputs that threads of a subgroup load together, where a workgroup is one.
    fn broadcast(&self, variant: Variant) -> Variant {
        match self.broadcast_subgroup() {
            Some(size) => {
                variant.define("SUBGROUPS").define("BROADCAST").define_if(size == 4, "BROADCAST_4")
            }
            None => variant,
        }
    }

    /// `variant` with what a thread computes by `lane_tile.wgsl`.
    fn lane_tile(&self, variant: Variant, tile: LaneTile) -> Variant {
        self.lanes(variant, self.tuning.matvec_workgroup, 1)
            .number("ROWS", tile.rows)
            .number("QUADS", tile.quads)
    }

    /// `variant` with the exchange between `lanes` of `workgroup` threads.
    fn lanes(&self, variant: Variant, workgroup: u32, lanes: u32) -> Variant {
        let variant = variant.number("WORKGROUP", workgroup).number("LANES", lanes);
        match self.capabilities.subgroup {
            _ if lanes == 1 => self.broadcast(variant.define("SINGLE_LANE")),
            Some(size) => variant.define("SUBGROUPS").number("SUBGROUP", size),
            None => variant,
        }
    }
}

/// A product with a matrix whose buffers are known: what matvec and matmul share.
pub struct Product<'a> {
    /// The matrix.
    pub weight: &'a GpuWeight,
    /// Added to the product.
    pub bias: Option<&'a GpuWeight>,
    /// Output rows.
    pub out: &'a GpuBuffer,
    /// What becomes of the product.
    pub then: Then,
}

/// What makes the variant of a product beside the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    /// How the matrix is held.
    pub layout: Layout,
    /// Whether a bias is added.
    pub bias: bool,
    /// What becomes of the product.
    pub then: Then,
}

impl ProductShape {
    fn variant(self, target: &Target<'_>, stem: &'static str) -> Variant {
        target
            .layout(Variant::new(stem), self.layout)
            .define_if(self.bias, "BIAS")
            .define_if(self.then == Then::Add, "ADD")
            .define_if(self.then == Then::SwiGlu, "SWIGLU")
    }
}

impl<'a> Product<'a> {
    /// Outputs of the whole matrix.
    fn n_out(&self) -> usize {
        self.weight.n_rows / if self.then == Then::SwiGlu { 2 } else { 1 }
    }

    fn shape(&self, page: &Page) -> ProductShape {
        ProductShape { layout: page.layout, bias: self.bias.is_some(), then: self.then }
    }

    /// The bindings, which both shaders have in the same places, for rows of `x` and the gain and epsilon of RMSNorm
    /// ahead.
    fn bindings(
        &self,
        page: &'a Page,
        state: &'a GpuBuffer,
        x: &'a GpuBuffer,
        norm: Option<(&'a GpuWeight, f32)>,
    ) -> Vec<(u32, Binding<'a>)> {
        let parameters = parameters(&[
            page.outputs.len().into(),
            (self.weight.n_cols / 32).into(),
            page.outputs.start.into(),
            page.outputs.len().into(),
            self.n_out().into(),
            norm.map_or(0.0, |(_, eps)| eps).into(),
        ]);
        let mut bindings = vec![
            (0, parameters),
            (1, Binding::Read(state.into())),
            (2, Binding::Read(page.quants())),
            (3, Binding::Read(page.scales())),
            (4, Binding::Read(x.into())),
            (5, Binding::Write(self.out.into())),
        ];
        bindings.extend(self.bias.map(|bias| (6, Binding::Read(bias.vector().into()))));
        bindings.extend(norm.map(|(gain, _)| (7, Binding::Read(gain.vector().into()))));
        bindings
    }
}

/// Every variant that a plan may use on a device, before sizes are tried: what tests compile and run.
pub fn variants(target: &Target<'_>) -> Vec<Variant> {
    /// Widths of heads around the sizes of workgroups.
    const HEAD_DIMS: [u32; 5] = [8, 32, 64, 128, 256];
    /// Outputs and columns of a matrix with few rows, and of one that no workgroup memory has room for.
    const SIZES: [[usize; 2]; 2] = [[32, 2880], [8192, 8192]];
    let mut variants = Vec::new();
    for layout in Layout::MATRICES {
        variants.push(embed::variant(layout));
        for bias in [false, true] {
            for then in [Then::Store, Then::Add, Then::SwiGlu] {
                let shape = ProductShape { layout, bias, then };
                for norm in [false, true] {
                    if !norm || matmul::normalises(target) {
                        variants.push(matmul::variant(target, shape, norm));
                    }
                    for sizes in SIZES {
                        variants.push(matvec::variant(target, shape, sizes, norm));
                    }
                }
            }
        }
    }
    variants.push(rms_norm::variant(target));
    for format in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Int8] {
        let pairings = [RopePairing::Adjacent, RopePairing::Halves];
        variants.extend(pairings.map(|pairing| rope::variant(pairing, format)));
        // How elements are paired and how many heads share keys are independent of each other.
        let of_one: &[_] = match format {
            CacheFormat::Int8 => &[(None, 1), (None, 8)],
            _ => &[(Some(RopePairing::Adjacent), 1), (Some(RopePairing::Halves), 8)],
        };
        let of_many = &[(None, 1)];
        for head_dim in HEAD_DIMS {
            for (window, sinks) in [(false, false), (false, true), (true, false), (true, true)] {
                for (one_token, kinds) in [(true, of_one), (false, of_many)] {
                    for &(rotates, group) in kinds {
                        let shape = AttentionShape {
                            head_dim,
                            group,
                            window,
                            sinks,
                            format,
                            one_token,
                            rotates,
                        };
                        let variant = shape.variant(target);
                        variants.extend([variant.clone(), variant.define("SPLIT")]);
                    }
                }
            }
        }
    }
    variants.extend(expert_variants(target));
    variants.extend(sample::top_variants());
    variants.extend(
        ["attention_merge", "experts_sum", "sample_scan", "sample_pick", "stream", "subnormals"]
            .map(Variant::new),
    );
    variants
}

/// The variants of layers with experts: for numbers of experts and of those in use as in gpt-oss-20b,
/// gpt-oss-120b and small models.
fn expert_variants(target: &Target<'_>) -> Vec<Variant> {
    let mut variants = Vec::new();
    for (n_experts, n_used) in [(8, 2), (32, 4), (128, 4)] {
        variants.push(route::variant([n_experts, n_used]));
        for layout in Layout::MATRICES {
            for (bias, then) in [false, true].into_iter().flat_map(|bias| {
                [ThenExperts::SwiGlu { limit: 0.0 }, ThenExperts::Add].map(|then| (bias, then))
            }) {
                let shape = ExpertsShape { layout, bias, n_experts, n_used, then };
                const SIZES: [usize; 2] = [2880, 2880];
                variants.push(shape.matvec(target, SIZES, [false, false]));
                variants.push(shape.matmul(target));
                variants.push(shape.group(target));
                let fuses = target.tuning.fuses_into_experts;
                if fuses && matches!(then, ThenExperts::SwiGlu { .. }) {
                    variants.extend(
                        [false, true].map(|chooses| shape.matvec(target, SIZES, [true, chooses])),
                    );
                }
            }
        }
    }
    let mut seen = HashSet::new();
    variants.retain(|variant| seen.insert(variant.clone()));
    variants
}
