//! Tensors of a file → the packed weights that the operations read.
//!
//! A [`Weight`] is one matrix or vector as the plan wants it: often several tensors of the file
//! stacked by rows (queries, keys and values; gate and up). Parts of one layout that follow each
//! other form a [`Segment`]; parts of different layouts give several segments. [`load`] streams the
//! file's tensors through [`pack`] into a [`Sink`]: GPU buffers, memory, browser storage.

mod image;
pub mod layout;
mod load;
pub mod pack;

use std::ops::Range;

pub use image::{Image, ImageSection};
pub use layout::{BLOCK, Layout, Precision};
pub use load::{LoadProgress, SHARD_BYTES, Shards, Tee, load, load_image, read_gguf_header};

use crate::{
    checkpoint::{DType, Gguf, TensorInfo},
    error::{Error, Result},
};

/// Index of a weight in its [`WeightTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub usize);

/// A matrix or vector of the plan.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Name in the plan, such as `layers.12.attn.qkv`.
    pub name: String,
    /// Number of rows (outputs); the length of a vector.
    pub n_rows: usize,
    /// Number of columns (inputs); 1 for a vector.
    pub n_cols: usize,
    /// Whether row `i` is used together with row `i + n_rows / 2`, so that both must be within
    /// reach of one shader.
    pub paired: bool,
    /// Rows in order, by layout.
    pub segments: Vec<Segment>,
}

/// Successive rows of a weight in one layout.
#[derive(Clone, Debug)]
pub struct Segment {
    /// How the rows are held.
    pub layout: Layout,
    /// Which rows of the weight.
    pub rows: Range<usize>,
    /// Where they come from.
    pub parts: Vec<Part>,
}

/// Rows of a segment that one tensor of the file holds.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of the tensor.
    pub tensor: String,
    /// Type of the tensor's elements.
    pub dtype: DType,
    /// First byte of the tensor in the file.
    pub offset: u64,
    /// Which rows of the weight.
    pub rows: Range<usize>,
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

    /// Bytes that the file spends on these weights.
    pub fn source_bytes(&self) -> u64 {
        self.weights.iter().map(Weight::source_bytes).sum()
    }

    /// Number of elements of all weights.
    pub fn n_elements(&self) -> u64 {
        self.weights.iter().map(|weight| weight.n_rows as u64 * weight.n_cols as u64).sum()
    }
}

impl Weight {
    fn source_bytes(&self) -> u64 {
        let parts = self.segments.iter().flat_map(|segment| &segment.parts);
        parts.map(|part| part.row_bytes(self.n_cols) as u64 * part.rows.len() as u64).sum()
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
        n_cols / self.dtype.block_len() * self.dtype.block_bytes()
    }
}

/// Builds a [`WeightTable`] from the tensors of a GGUF file, checking every shape.
pub struct WeightTableBuilder<'a> {
    gguf: &'a Gguf,
    precision: Precision,
    table: WeightTable,
}

impl<'a> WeightTableBuilder<'a> {
    /// An empty table over the tensors of `gguf`.
    pub fn new(gguf: &'a Gguf, precision: Precision) -> Self {
        Self { gguf, precision, table: WeightTable::default() }
    }

    /// The finished table.
    pub fn finish(self) -> WeightTable {
        self.table
    }

    /// Whether the file has a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// A matrix of `n_cols` inputs that stacks tensors by rows, each given with its rows.
    ///
    /// # Errors
    /// `invalid_model` for a tensor that is missing or has another shape, `unsupported` for a type
    /// or a number of columns that no layout holds.
    pub fn matrix(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: &[(&str, usize)],
    ) -> Result<WeightId> {
        let parts = self.parts(tensors, |n_rows| vec![n_rows as u64, n_cols as u64])?;
        if !n_cols.is_multiple_of(BLOCK) {
            return Err(Error::unsupported("columns of a matrix are not a multiple of the block")
                .with("tensor", tensors[0].0)
                .with("found", n_cols)
                .with("expected", BLOCK));
        }
        let mut segments: Vec<Segment> = Vec::new();
        for part in parts {
            let layout = Layout::for_matrix(part.dtype, self.precision)
                .map_err(|error| error.with("tensor", part.tensor.as_str()))?;
            match segments.last_mut() {
                Some(segment) if segment.layout == layout => {
                    segment.rows.end = part.rows.end;
                    segment.parts.push(part);
                }
                _ => segments.push(Segment { layout, rows: part.rows.clone(), parts: vec![part] }),
            }
        }
        Ok(self.push(name, n_cols, false, segments))
    }

    /// A matrix whose two halves are used row by row together: gate and up.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn paired_matrix(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: [(&str, usize); 2],
    ) -> Result<WeightId> {
        let id = self.matrix(name, n_cols, &tensors)?;
        let weight = &mut self.table.weights[id.0];
        weight.paired = true;
        if let [a, b] = weight.segments.as_slice() {
            let layout = pack::common_layout(a.layout, b.layout);
            let parts = a.parts.iter().chain(&b.parts).cloned().collect();
            weight.segments = vec![Segment { layout, rows: 0..weight.n_rows, parts }];
        }
        Ok(id)
    }

    /// A vector that joins one-dimensional tensors, each given with its length.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    pub fn vector(&mut self, name: String, tensors: &[(&str, usize)]) -> Result<WeightId> {
        let parts = self.parts(tensors, |n_rows| vec![n_rows as u64])?;
        for part in &parts {
            if !matches!(part.dtype, DType::F32 | DType::F16 | DType::Bf16) {
                return Err(Error::unsupported("quantized vector")
                    .with("tensor", part.tensor.as_str())
                    .with("found", part.dtype.name()));
            }
        }
        let rows = 0..parts.last().map_or(0, |part| part.rows.end);
        Ok(self.push(name, 1, false, vec![Segment { layout: Layout::Vector, rows, parts }]))
    }

    fn push(
        &mut self,
        name: String,
        n_cols: usize,
        paired: bool,
        segments: Vec<Segment>,
    ) -> WeightId {
        let n_rows = segments.last().map_or(0, |segment| segment.rows.end);
        self.table.weights.push(Weight { name, n_rows, n_cols, paired, segments });
        WeightId(self.table.weights.len() - 1)
    }

    fn parts(
        &self,
        tensors: &[(&str, usize)],
        shape: impl Fn(usize) -> Vec<u64>,
    ) -> Result<Vec<Part>> {
        let mut next_row = 0;
        let mut parts = Vec::with_capacity(tensors.len());
        for &(name, n_rows) in tensors {
            let tensor = self.tensor(name, &shape(n_rows))?;
            parts.push(Part {
                tensor: name.to_owned(),
                dtype: tensor.dtype,
                offset: tensor.offset,
                rows: next_row..next_row + n_rows,
            });
            next_row += n_rows;
        }
        Ok(parts)
    }

    fn tensor(&self, name: &str, shape: &[u64]) -> Result<&'a TensorInfo> {
        let tensor = self
            .gguf
            .tensor(name)
            .ok_or_else(|| Error::invalid("tensor is missing").with("tensor", name))?;
        if tensor.shape != shape {
            return Err(Error::invalid("tensor has another shape than the configuration says")
                .with("tensor", name)
                .with("expected", format!("{shape:?}"))
                .with("found", format!("{:?}", tensor.shape)));
        }
        Ok(tensor)
    }
}

/// Where packed rows go.
pub trait Sink {
    /// Takes rows `rows` of segment `segment` of weight `id`, rows counted from the segment's first.
    ///
    /// # Errors
    /// `out_of_memory`, `storage` or `quota_exceeded`.
    fn write_rows(
        &mut self,
        id: WeightId,
        segment: usize,
        rows: Range<usize>,
        quants: &[u8],
        scales: &[u8],
    ) -> Result<()>;
}
