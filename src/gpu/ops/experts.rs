//! Products with the matrices of chosen experts: twin of `cpu::experts`.
//!
//! For one token `shaders/experts_matvec.wgsl`; for many `experts_group.wgsl`, `experts_matmul.wgsl` or
//! `experts_lanes.wgsl`, and `experts_sum.wgsl`. Nothing of the routing is read back.

use super::Target;
use crate::{
    error::Result,
    gpu::{
        context::{Context, GpuBuffer},
        record::{Binding, Recorder, Word, parameters},
        shader::Variant,
        tuning::LaneTile,
        weights::{GpuWeight, Page},
    },
    ops::ThenExperts,
    weights::Layout,
};

/// Rows of a tile of `experts_matmul.wgsl`, gates and ups among them.
const TILE_ROWS: u32 = 64;

/// Rows of which a thread takes blocks in fours: the code for more outgrows a CPU's caches.
const QUAD_ROWS: u32 = 8;

/// What makes the variant of a product with experts beside the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertsShape {
    /// How the matrices are held.
    pub layout: Layout,
    /// Whether biases are added.
    pub bias: bool,
    /// Experts of a layer.
    pub n_experts: u32,
    /// Experts of a token.
    pub n_used: u32,
    /// What becomes of the products.
    pub then: ThenExperts,
}

impl ExpertsShape {
    fn variant(self, target: &Target<'_>, stem: &'static str) -> Variant {
        target
            .layout(Variant::new(stem), self.layout)
            .define_if(self.bias, "BIAS")
            .define_if(matches!(self.then, ThenExperts::SwiGlu { .. }), "SWIGLU")
            .number("N_USED", self.n_used)
    }

    /// The variant for one row and matrices of so many outputs and columns, with RMSNorm ahead of it if
    /// `norm` is set, and the choice of experts if `chooses` is.
    pub fn matvec(
        self,
        target: &Target<'_>,
        [n_out, n_cols]: [usize; 2],
        [norm, chooses]: [bool; 2],
    ) -> Variant {
        let tuning = target.tuning;
        let is_first = matches!(self.then, ThenExperts::SwiGlu { .. });
        let mut variant = self
            .variant(target, "experts_matvec")
            .define_if(norm, "NORM")
            .define_if(is_interleaved(target, self.then, [n_out, n_cols]), "INTERLEAVED")
            .number("ROWS", self.rows(target));
        if let Some(n_cols) = target.staged(n_cols, self.n_used).filter(|_| is_first) {
            variant = variant.define("STAGED").number("STAGED_WORDS", n_cols / 4);
        }
        if chooses {
            variant = variant.define("ROUTE").number("N_EXPERTS", self.n_experts);
        }
        target.lanes(variant, tuning.matvec_workgroup, self.lanes(target, n_out))
    }

    /// Outputs that threads share.
    fn rows(self, target: &Target<'_>) -> u32 {
        match (self.then, target.takes_quads(self.layout)) {
            (ThenExperts::SwiGlu { .. }, true) => QUAD_ROWS / 2,
            (ThenExperts::SwiGlu { .. }, false) => target.tuning.sizes.expert_gates,
            (ThenExperts::Add, true) => QUAD_ROWS,
            (ThenExperts::Add, false) => target.tuning.sizes.matvec_rows,
        }
    }

    /// Threads that share outputs.
    fn lanes(self, target: &Target<'_>, n_out: usize) -> u32 {
        let n_slots = match self.then {
            ThenExperts::SwiGlu { .. } => 2 * self.n_used as usize,
            ThenExperts::Add => 1,
        };
        target.tuning.lanes(n_slots * n_out)
    }

    /// The variant for many rows.
    pub fn matmul(self, target: &Target<'_>) -> Variant {
        let tuning = target.tuning;
        match tuning.lane_tile {
            Some(LaneTile { rows, .. }) => {
                let tile = LaneTile { rows, quads: tuning.expert_tile / 4 };
                target.lane_tile(self.variant(target, "experts_lanes"), tile)
            }
            None => {
                self.variant(target, "experts_matmul").number("TILE_TOKENS", tuning.expert_tile)
            }
        }
    }

    /// Workgroups that the product of many rows takes for a tile of choices, of experts with so many outputs.
    fn row_tiles(self, target: &Target<'_>, n_out: usize) -> u32 {
        let outputs = match (target.tuning.lane_tile, self.then) {
            (Some(LaneTile { rows, .. }), _) => rows * target.tuning.matvec_workgroup,
            (None, ThenExperts::SwiGlu { .. }) => TILE_ROWS / 2,
            (None, ThenExperts::Add) => TILE_ROWS,
        };
        (n_out as u32).div_ceil(outputs)
    }

    /// The variant that sorts choices.
    pub fn group(self, target: &Target<'_>) -> Variant {
        Variant::new("experts_group")
            .number("N_USED", self.n_used)
            .number("N_EXPERTS", self.n_experts)
            .number("TILE_TOKENS", target.tuning.expert_tile)
    }
}

/// Whether what the first products of one row write, and the second ones read, has the first vectors of
/// all blocks of 32 columns, then their second ones, and so on; `sizes` are outputs and columns.
pub fn is_interleaved(target: &Target<'_>, then: ThenExperts, [n_out, n_cols]: [usize; 2]) -> bool {
    let width = match then {
        ThenExperts::SwiGlu { .. } => n_out,
        ThenExperts::Add => n_cols,
    };
    target.tuning.staged && width.is_multiple_of(32)
}

/// What products with experts keep between dispatches.
pub struct Scratch {
    order: GpuBuffer,
    tiles: GpuBuffer,
    workgroups: GpuBuffer,
    products: GpuBuffer,
}

impl Scratch {
    /// Allocates room for `max_chunk` tokens of `n_used` experts out of `n_experts`, whose products are
    /// at most `width` wide.
    ///
    /// # Errors
    /// `out_of_memory` when something is larger than a binding may be.
    pub fn new(
        context: &Context,
        target: &Target<'_>,
        [n_experts, n_used, width]: [usize; 3],
    ) -> Result<Self> {
        let n_choices = u64::from(target.tuning.max_chunk) * n_used as u64;
        let expert_tile = u64::from(target.tuning.expert_tile);
        let n_tiles = n_choices / expert_tile + n_choices.min(n_experts as u64);
        Ok(Self {
            order: context.storage("expert choices", 4 * n_choices)?,
            tiles: context.storage("expert tiles", 4 * 3 * n_tiles)?,
            workgroups: context.buffer(
                "expert workgroups",
                4 * 3,
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT,
            ),
            products: context.storage("expert products", 4 * n_choices * width as u64)?,
        })
    }
}

/// What products with experts work on.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// Position and counts of the chunk.
    pub state: &'a GpuBuffer,
    /// A matrix for each expert.
    pub weight: &'a GpuWeight,
    /// Added to the products.
    pub bias: Option<&'a GpuWeight>,
    /// Input, normalised where many rows are.
    pub x: &'a GpuBuffer,
    /// What `route` wrote, or where `record_last` writes the same.
    pub routing: &'a GpuBuffer,
    /// The router's logits, where `record_last` chooses the experts.
    pub logits: Option<&'a GpuBuffer>,
    /// Output.
    pub out: &'a GpuBuffer,
    /// Experts of a layer.
    pub n_experts: usize,
    /// Experts of a token.
    pub n_used: usize,
    /// What becomes of the products.
    pub then: ThenExperts,
}

impl<'a> Operands<'a> {
    fn shape(&self, page: &Page) -> ExpertsShape {
        ExpertsShape {
            layout: page.layout,
            bias: self.bias.is_some(),
            n_experts: self.n_experts as u32,
            n_used: self.n_used as u32,
            then: self.then,
        }
    }

    fn limit(&self) -> Option<f32> {
        match self.then {
            ThenExperts::SwiGlu { limit } => Some(limit),
            ThenExperts::Add => None,
        }
    }

    /// Outputs of an expert.
    fn n_out(&self) -> usize {
        self.rows_of_expert() / if self.limit().is_some() { 2 } else { 1 }
    }

    fn rows_of_expert(&self) -> usize {
        self.weight.n_rows / self.n_experts
    }

    /// Parameters that both products have, but for epsilon.
    fn words(&self, page: &Page) -> Vec<Word> {
        let rows = self.rows_of_expert();
        vec![
            self.n_out().into(),
            (self.weight.n_cols / 32).into(),
            (page.outputs.start / rows).into(),
            (page.outputs.len() / rows).into(),
            Word::F32(self.limit().unwrap_or(0.0)),
        ]
    }

    /// Bindings 2 to 6, which both products have in the same places.
    fn bindings(&self, page: &'a Page, out: &'a GpuBuffer) -> Vec<(u32, Binding<'a>)> {
        let mut bindings = vec![
            (2, Binding::Read(page.quants())),
            (3, Binding::Read(page.scales())),
            (4, Binding::Read(self.x.into())),
            (5, Binding::Write(out.into())),
        ];
        bindings.extend(self.bias.map(|bias| (6, Binding::Read(bias.vector().into()))));
        bindings
    }
}

/// Records the products of a chunk of one token, one dispatch a page; `norm` is the gain and epsilon
/// of RMSNorm ahead of them.
pub fn record_last<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    norm: Option<(&'a GpuWeight, f32)>,
    operands: Operands<'a>,
) {
    let tuning = target.tuning;
    for page in &operands.weight.pages {
        let mut words = operands.words(page);
        words.push(Word::F32(norm.map_or(0.0, |(_, eps)| eps)));
        let mut bindings = operands.bindings(page, operands.out);
        bindings.push((0, parameters(&words)));
        let routing = operands.routing.into();
        match operands.logits {
            Some(logits) => {
                bindings.extend([(1, Binding::Read(logits.into())), (8, Binding::Write(routing))])
            }
            None => bindings.push((8, Binding::Read(routing))),
        }
        bindings.extend(norm.map(|(gain, _)| (7, Binding::Read(gain.vector().into()))));
        let shape = operands.shape(page);
        let sizes = [operands.n_out(), operands.weight.n_cols];
        let lanes = shape.lanes(target, sizes[0]);
        let outputs = tuning.matvec_workgroup / lanes * shape.rows(target);
        let n_slots = if operands.limit().is_some() { operands.n_used as u32 } else { 1 };
        let grid = [n_slots, (operands.n_out() as u32).div_ceil(outputs), 1];
        recorder.dispatch(
            &operands.weight.name,
            shape.matvec(target, sizes, [norm.is_some(), operands.logits.is_some()]),
            bindings,
            Box::new(move |_| Some(grid)),
        );
    }
}

/// Records the products of all tokens of the chunk.
pub fn record_chunk<'a>(
    recorder: &mut Recorder<'a>,
    target: &Target<'_>,
    scratch: &'a Scratch,
    operands: Operands<'a>,
) {
    let weight = operands.weight;
    let shape = operands.shape(&weight.pages[0]);
    recorder.dispatch(
        "expert groups",
        shape.group(target),
        vec![
            (0, parameters(&[Word::U32(shape.row_tiles(target, operands.n_out()))])),
            (1, Binding::Read(operands.state.into())),
            (2, Binding::Read(operands.routing.into())),
            (3, Binding::Write((&scratch.order).into())),
            (4, Binding::Write((&scratch.tiles).into())),
            (5, Binding::Write((&scratch.workgroups).into())),
        ],
        Box::new(|_| Some([1, 1, 1])),
    );
    let out = if operands.limit().is_some() { operands.out } else { &scratch.products };
    for page in &weight.pages {
        let mut bindings = operands.bindings(page, out);
        bindings.extend([
            (0, parameters(&operands.words(page))),
            (1, Binding::Read((&scratch.tiles).into())),
            (7, Binding::Read((&scratch.order).into())),
            (8, Binding::Read(operands.routing.into())),
        ]);
        recorder.dispatch_indirect(
            &weight.name,
            operands.shape(page).matmul(target),
            bindings,
            &scratch.workgroups,
        );
    }
    if operands.limit().is_some() {
        return;
    }
    let n_words = operands.n_out() as u32 / 4;
    recorder.dispatch(
        "expert sums",
        Variant::new("experts_sum"),
        vec![
            (0, parameters(&[Word::U32(n_words), operands.n_used.into()])),
            (1, Binding::Read(operands.state.into())),
            (2, Binding::Read((&scratch.products).into())),
            (3, Binding::Write(operands.out.into())),
        ],
        Box::new(move |extent| Some([n_words.div_ceil(64), extent.n_tokens, 1])),
    );
}
