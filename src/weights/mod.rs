//! Tensors of a model's files → the packed weights that the operations read.
//!
//! A [`Weight`] is one matrix or vector as the plan wants it: often several tensors of the files
//! stacked by rows (queries, keys and values; gate and up), or a tensor that holds a matrix for each
//! expert. Parts of one layout that follow each other form a [`Segment`]; parts of different layouts
//! give several segments. [`load`] streams the tensors through [`pack`] into a [`Sink`]: GPU buffers,
//! memory, browser storage.

mod builder;
pub mod layout;
mod load;
pub mod pack;
mod pieces;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use builder::WeightTableBuilder;
pub use layout::{BLOCK, Layout, Precision};
pub use load::{Keeper, LoadProgress, Loaded, NoKeeper, fetch_missing, load, load_pieces};
pub use pieces::{FilePieces, Piece, Pieces};

use crate::{checkpoint::DType, error::Result};

/// Index of a weight in its [`WeightTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WeightId(pub usize);

/// A matrix or vector of the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weight {
    /// Name in the plan, such as `layers.12.attn.qkv`.
    #[serde(skip)]
    pub name: String,
    /// Number of rows (outputs); the length of a vector.
    pub n_rows: usize,
    /// Number of columns (inputs); 1 for a vector.
    pub n_cols: usize,
    /// Which rows must be within reach of one shader.
    pub grouping: Grouping,
    /// Rows in order, by layout.
    pub segments: Vec<Segment>,
}

/// Which rows of a weight are used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grouping {
    /// Each row alone.
    Rows,
    /// Row `i` with row `i + n_rows / 2`.
    Pairs,
    /// All rows of an expert; this many experts of equally many rows follow each other.
    Experts(usize),
}

/// Successive rows of a weight in one layout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// How the rows are held.
    pub layout: Layout,
    /// Which rows of the weight.
    pub rows: Range<usize>,
    /// Where they come from.
    #[serde(skip)]
    pub parts: Vec<Part>,
}

/// What one tensor of a file gives to a segment.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of the tensor.
    pub tensor: String,
    /// What the tensor's bytes are.
    pub encoding: Encoding,
    /// Which of the model's files holds the tensor.
    pub file: usize,
    /// First byte of the tensor in that file.
    pub offset: u64,
    /// Number of the tensor's rows.
    pub n_rows: usize,
    /// Where those rows stand.
    pub place: Place,
}

/// What the bytes of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Numbers, or blocks of codes with their scales.
    Blocks(DType),
    /// The codes of MXFP4 blocks as safetensors files have them: two successive elements a byte.
    Mxfp4Codes,
    /// The scales of MXFP4 blocks, a byte each.
    Mxfp4Scales,
}

/// Where the rows of a tensor stand in their weight.
///
/// Rows come in groups of `group_rows`, one for each expert (one in all for an ordinary matrix).
/// Within a group, `n_strands` kinds of rows alternate in the tensor and stand one after the other in
/// the weight: gates, then ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Row of the weight at which the first group begins.
    pub first: usize,
    /// Rows of the tensor in a group.
    pub group_rows: usize,
    /// Rows of the weight from a group to the next.
    pub group_stride: usize,
    /// Kinds of rows that alternate.
    pub n_strands: usize,
}

impl Place {
    /// `n_rows` successive rows from `first` on.
    pub const fn stacked(first: usize, n_rows: usize) -> Self {
        Self { first, group_rows: n_rows, group_stride: n_rows, n_strands: 1 }
    }

    /// The row of the weight for `row` of the tensor.
    pub const fn of(self, row: usize) -> usize {
        let (group, row) = (row / self.group_rows, row % self.group_rows);
        let strand = row % self.n_strands * (self.group_rows / self.n_strands);
        self.first + group * self.group_stride + strand + row / self.n_strands
    }
}

/// Every weight of a plan.
#[derive(Clone, Debug, Default)]
pub struct WeightTable {
    /// The weights, in the plan's order.
    pub weights: Vec<Weight>,
}

impl WeightTable {
    /// The weight `id`.
    pub fn get(&self, id: WeightId) -> &Weight {
        &self.weights[id.0]
    }

    /// Bytes of all weights in packed form.
    pub fn packed_bytes(&self) -> u64 {
        self.weights
            .iter()
            .flat_map(|weight| {
                weight.segments.iter().map(|segment| segment.packed_bytes(weight.n_cols))
            })
            .sum()
    }

    /// Bytes that the files spend on these weights.
    pub fn source_bytes(&self) -> u64 {
        self.weights.iter().map(Weight::source_bytes).sum()
    }

    /// Number of elements of all weights.
    pub fn n_elements(&self) -> u64 {
        self.weights.iter().map(|weight| weight.n_rows as u64 * weight.n_cols as u64).sum()
    }
}

impl Weight {
    /// Rows that stay together on a page: those of an expert.
    pub fn unit_rows(&self) -> usize {
        match self.grouping {
            Grouping::Rows | Grouping::Pairs => 1,
            Grouping::Experts(n_experts) => self.n_rows / n_experts,
        }
    }

    fn source_bytes(&self) -> u64 {
        let parts = self.segments.iter().flat_map(|segment| &segment.parts);
        parts.map(|part| part.row_bytes(self.n_cols) as u64 * part.n_rows as u64).sum()
    }
}

impl Segment {
    /// Bytes of quants and scales.
    pub fn packed_bytes(&self, n_cols: usize) -> u64 {
        let row = self.layout.quants_row_bytes(n_cols) + self.layout.scales_row_bytes(n_cols);
        row as u64 * self.rows.len() as u64
    }
}

impl Part {
    /// Bytes of one row in the file.
    pub fn row_bytes(&self, n_cols: usize) -> usize {
        match self.encoding {
            Encoding::Blocks(dtype) => n_cols / dtype.block_len() * dtype.block_bytes(),
            Encoding::Mxfp4Codes => n_cols / 2,
            Encoding::Mxfp4Scales => n_cols / BLOCK,
        }
    }
}

/// The two sections of packed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Codes, or dense elements.
    Quants,
    /// What turns codes into numbers.
    Scales,
}

/// Where packed rows go.
pub trait Sink {
    /// Takes one section of rows `rows` of segment `segment` of weight `id`, rows counted from the
    /// segment's first.
    ///
    /// # Errors
    /// `out_of_memory`, `storage` or `quota_exceeded`.
    fn write(
        &mut self,
        id: WeightId,
        segment: usize,
        section: Section,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<()>;
}
