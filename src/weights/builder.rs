//! Names of tensors → weights, with every shape checked.

use super::{
    BLOCK, Encoding, Grouping, Layout, Part, Place, Precision, Segment, Weight, WeightId,
    WeightTable, pack,
};
use crate::{
    checkpoint::{DType, TensorTable},
    error::{Error, Result},
};

/// Builds a [`WeightTable`] from the tensors of a model's files.
///
/// Its methods fail with `invalid_model` for a tensor that is missing or has another shape than the
/// configuration says, and with `unsupported` for a type or a number of columns that no layout holds;
/// the error names the tensor.
pub struct WeightTableBuilder<'a> {
    tensors: &'a TensorTable,
    precision: Precision,
    table: WeightTable,
}

impl<'a> WeightTableBuilder<'a> {
    /// An empty table over `tensors`.
    pub fn new(tensors: &'a TensorTable, precision: Precision) -> Self {
        Self { tensors, precision, table: WeightTable::default() }
    }

    /// The finished table.
    pub fn finish(self) -> WeightTable {
        self.table
    }

    /// Whether a file has a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.get(name).is_some()
    }

    /// A matrix of `n_cols` inputs that stacks tensors by rows, each given with its rows.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn matrix(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: &[(&str, usize)],
    ) -> Result<WeightId> {
        let segments = self.stacked_segments(n_cols, tensors, self.precision)?;
        Ok(self.push(name, n_cols, Grouping::Rows, segments))
    }

    /// As [`matrix`](Self::matrix), but as published whatever the precision: where choices hang on it.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn exact_matrix(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: &[(&str, usize)],
    ) -> Result<WeightId> {
        let segments = self.stacked_segments(n_cols, tensors, Precision::Exact)?;
        Ok(self.push(name, n_cols, Grouping::Rows, segments))
    }

    /// A matrix whose two halves are used row by row together: gate and up.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn paired_matrix(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: [(&str, usize); 2],
    ) -> Result<WeightId> {
        let mut segments = self.stacked_segments(n_cols, &tensors, self.precision)?;
        if let [a, b] = segments.as_slice() {
            let layout = pack::common_layout(a.layout, b.layout);
            let parts = a.parts.iter().chain(&b.parts).cloned().collect();
            segments = vec![Segment { layout, rows: 0..b.rows.end, parts }];
        }
        Ok(self.push(name, n_cols, Grouping::Pairs, segments))
    }

    /// A matrix for each of `n_experts` experts. Each tensor, [n_experts, rows, `n_cols`], is given with
    /// its rows; those of an expert stand one after the other.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn expert_matrix(
        &mut self,
        name: String,
        n_experts: usize,
        n_cols: usize,
        tensors: &[(&str, usize)],
    ) -> Result<WeightId> {
        check_columns(tensors[0].0, n_cols)?;
        let shape = |n_rows: usize| vec![n_experts as u64, n_rows as u64, n_cols as u64];
        let parts = self.expert_parts(n_experts, tensors, shape)?;
        let mut layout = None;
        for part in &parts {
            let own = self.layout_of(part, self.precision)?;
            layout = Some(layout.map_or(own, |layout| pack::common_layout(layout, own)));
        }
        let n_rows = n_experts * tensors.iter().map(|(_, n_rows)| n_rows).sum::<usize>();
        let layout = layout.expect("there is a tensor");
        let segment = Segment { layout, rows: 0..n_rows, parts };
        Ok(self.push(name, n_cols, Grouping::Experts(n_experts), vec![segment]))
    }

    /// As [`expert_matrix`](Self::expert_matrix) from the codes and the scales of MXFP4, two tensors of
    /// bytes: [n_experts, `n_rows`, blocks, 16] and [n_experts, `n_rows`, blocks]. Of an expert's rows
    /// `n_strands` kinds alternate.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn mxfp4_expert_matrix(
        &mut self,
        name: String,
        [n_experts, n_rows, n_cols]: [usize; 3],
        [codes, scales]: [&str; 2],
        n_strands: usize,
    ) -> Result<WeightId> {
        check_columns(codes, n_cols)?;
        let place = Place { first: 0, group_rows: n_rows, group_stride: n_rows, n_strands };
        let [e, r, b] = [n_experts, n_rows, n_cols / BLOCK].map(|extent| extent as u64);
        let shapes = [vec![e, r, b, BLOCK as u64 / 2], vec![e, r, b]];
        let encodings = [Encoding::Mxfp4Codes, Encoding::Mxfp4Scales];
        let mut parts = Vec::new();
        for ((tensor, shape), encoding) in [codes, scales].into_iter().zip(shapes).zip(encodings) {
            let mut part = self.part(tensor, &shape, n_experts * n_rows, place)?;
            if part.encoding != Encoding::Blocks(DType::U8) {
                return Err(Error::unsupported("experts are not in MXFP4")
                    .with("tensor", tensor)
                    .with("expected", DType::U8.name())
                    .with("found", part.dtype().name()));
            }
            part.encoding = encoding;
            parts.push(part);
        }
        let segment = Segment { layout: Layout::Fp4, rows: 0..n_experts * n_rows, parts };
        Ok(self.push(name, n_cols, Grouping::Experts(n_experts), vec![segment]))
    }

    /// A vector that joins one-dimensional tensors, each given with its length.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn vector(&mut self, name: String, tensors: &[(&str, usize)]) -> Result<WeightId> {
        let parts = self.stacked_parts(tensors, |n_rows| vec![n_rows as u64])?;
        let n_rows = tensors.iter().map(|(_, n_rows)| n_rows).sum();
        self.push_vector(name, n_rows, Grouping::Rows, parts)
    }

    /// A vector for each of `n_experts` experts, joined from tensors of [n_experts, length], each given
    /// with its length. With `n_strands` above one, that many kinds of elements alternate in a tensor.
    ///
    /// # Errors
    /// As for all of [`WeightTableBuilder`].
    pub fn expert_vector(
        &mut self,
        name: String,
        n_experts: usize,
        tensors: &[(&str, usize)],
        n_strands: usize,
    ) -> Result<WeightId> {
        let shape = |n_rows: usize| vec![n_experts as u64, n_rows as u64];
        let mut parts = self.expert_parts(n_experts, tensors, shape)?;
        parts.iter_mut().for_each(|part| part.place.n_strands = n_strands);
        let n_rows = n_experts * tensors.iter().map(|(_, n_rows)| n_rows).sum::<usize>();
        self.push_vector(name, n_rows, Grouping::Experts(n_experts), parts)
    }

    fn push_vector(
        &mut self,
        name: String,
        n_rows: usize,
        grouping: Grouping,
        parts: Vec<Part>,
    ) -> Result<WeightId> {
        for part in &parts {
            if !matches!(part.dtype(), DType::F32 | DType::F16 | DType::Bf16) {
                return Err(Error::unsupported("quantized vector")
                    .with("tensor", part.tensor.as_str())
                    .with("found", part.dtype().name()));
            }
        }
        let segment = Segment { layout: Layout::Vector, rows: 0..n_rows, parts };
        Ok(self.push(name, 1, grouping, vec![segment]))
    }

    fn push(
        &mut self,
        name: String,
        n_cols: usize,
        grouping: Grouping,
        segments: Vec<Segment>,
    ) -> WeightId {
        let n_rows = segments.last().map_or(0, |segment| segment.rows.end);
        self.table.weights.push(Weight { name, n_rows, n_cols, grouping, segments });
        WeightId(self.table.weights.len() - 1)
    }

    /// Segments of tensors stacked by rows: neighbours of one layout share one.
    fn stacked_segments(
        &self,
        n_cols: usize,
        tensors: &[(&str, usize)],
        precision: Precision,
    ) -> Result<Vec<Segment>> {
        let parts = self.stacked_parts(tensors, |n_rows| vec![n_rows as u64, n_cols as u64])?;
        check_columns(tensors[0].0, n_cols)?;
        let mut segments: Vec<Segment> = Vec::new();
        for part in parts {
            let layout = self.layout_of(&part, precision)?;
            let rows = part.place.first..part.place.first + part.n_rows;
            match segments.last_mut() {
                Some(segment) if segment.layout == layout => {
                    segment.rows.end = rows.end;
                    segment.parts.push(part);
                }
                _ => segments.push(Segment { layout, rows, parts: vec![part] }),
            }
        }
        Ok(segments)
    }

    fn stacked_parts(
        &self,
        tensors: &[(&str, usize)],
        shape: impl Fn(usize) -> Vec<u64>,
    ) -> Result<Vec<Part>> {
        let mut next_row = 0;
        let mut parts = Vec::with_capacity(tensors.len());
        for &(name, n_rows) in tensors {
            let place = Place::stacked(next_row, n_rows);
            parts.push(self.part(name, &shape(n_rows), n_rows, place)?);
            next_row += n_rows;
        }
        Ok(parts)
    }

    fn expert_parts(
        &self,
        n_experts: usize,
        tensors: &[(&str, usize)],
        shape: impl Fn(usize) -> Vec<u64>,
    ) -> Result<Vec<Part>> {
        let group_stride = tensors.iter().map(|(_, n_rows)| n_rows).sum();
        let mut first = 0;
        let mut parts = Vec::with_capacity(tensors.len());
        for &(name, n_rows) in tensors {
            let place = Place { first, group_rows: n_rows, group_stride, n_strands: 1 };
            parts.push(self.part(name, &shape(n_rows), n_experts * n_rows, place)?);
            first += n_rows;
        }
        Ok(parts)
    }

    fn part(&self, name: &str, shape: &[u64], n_rows: usize, place: Place) -> Result<Part> {
        let (file, tensor) = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::invalid("tensor is missing").with("tensor", name))?;
        if tensor.shape != shape {
            return Err(Error::invalid("tensor has another shape than the configuration says")
                .with("tensor", name)
                .with("expected", format!("{shape:?}"))
                .with("found", format!("{:?}", tensor.shape)));
        }
        Ok(Part {
            tensor: name.to_owned(),
            encoding: Encoding::Blocks(tensor.dtype),
            file,
            offset: tensor.offset,
            n_rows,
            place,
        })
    }

    fn layout_of(&self, part: &Part, precision: Precision) -> Result<Layout> {
        Layout::for_matrix(part.dtype(), precision)
            .map_err(|error| error.with("tensor", part.tensor.as_str()))
    }
}

impl Part {
    /// The type of the tensor's elements.
    fn dtype(&self) -> DType {
        match self.encoding {
            Encoding::Blocks(dtype) => dtype,
            Encoding::Mxfp4Codes | Encoding::Mxfp4Scales => DType::U8,
        }
    }
}

fn check_columns(tensor: &str, n_cols: usize) -> Result<()> {
    if n_cols.is_multiple_of(BLOCK) {
        return Ok(());
    }
    Err(Error::unsupported("columns of a matrix are not a multiple of the block")
        .with("tensor", tensor)
        .with("found", n_cols)
        .with("expected", BLOCK))
}
