//! The weights of a model as a sequence of *pieces*: what one request fetches, what is stored and
//! checked as one, and what is repaired alone.
//!
//! A piece is a range of one file that holds some rows of one or more tensors. Its packed form is the
//! packed sections of those rows, one after the other. Pieces depend on the files and the precision
//! alone, not on the device.

use std::ops::Range;

use super::{
    Encoding, Layout, Part, Place, Section, Segment, Sink, Weight, WeightId, WeightTable,
    pack::Packer,
};
use crate::error::Result;

/// Pieces that a model of middling size is cut into.
const USUAL_PIECES: u64 = 64;

/// The least and the most bytes of a file in a piece; a row of a matrix is never cut, however.
const PIECE_BYTES: (u64, u64) = (64 << 10, 4 << 20);

/// The most bytes between two tensors that are fetched though no weight is made of them, so that the
/// file as a whole can be checked.
const MAX_GAP: u64 = 1 << 20;

/// All pieces of a model, by file and offset.
#[derive(Clone, Debug)]
pub struct Pieces {
    pieces: Vec<Piece>,
    chunks: Vec<Chunk>,
    files: Vec<FilePieces>,
}

/// A range of a file, and its packed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which of the model's files.
    pub file: usize,
    /// The bytes of the file.
    pub source: Range<u64>,
    /// Size of the packed form.
    pub packed_bytes: usize,
    chunks: Range<usize>,
}

impl Piece {
    /// Number of the bytes of the file.
    pub fn source_bytes(&self) -> u64 {
        self.source.end - self.source.start
    }
}

/// What is known of the pieces of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePieces {
    /// Which pieces.
    pub pieces: Range<usize>,
    /// Whether header and pieces together are the whole file, each byte once and in order.
    pub is_covered: bool,
}

/// Successive rows of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    id: WeightId,
    segment: usize,
    part: usize,
    /// Rows of the tensor.
    rows: Range<usize>,
    /// Where they begin in the file.
    offset: u64,
}

/// One section of the packed form of a chunk.
struct PackedSection {
    section: Section,
    /// Rows, counted from the segment's first.
    rows: Range<usize>,
    bytes: usize,
}

impl Pieces {
    /// Cuts the weights of `table` into pieces. `spans` says what of each file follows its header; a
    /// file without one is not covered.
    pub fn new(table: &WeightTable, spans: &[Range<u64>]) -> Self {
        let usual = table.source_bytes() / USUAL_PIECES;
        let mut cutter = Cutter {
            target: usual.clamp(PIECE_BYTES.0, PIECE_BYTES.1),
            spans,
            position: 0,
            made: Self { pieces: Vec::new(), chunks: Vec::new(), files: Vec::new() },
        };
        let mut parts: Vec<(&Part, WeightId, usize, usize)> = Vec::new();
        for (index, weight) in table.weights.iter().enumerate() {
            for (segment_idx, segment) in weight.segments.iter().enumerate() {
                let of_segment = segment.parts.iter().enumerate();
                parts.extend(of_segment.map(|(i, part)| (part, WeightId(index), segment_idx, i)));
            }
        }
        parts.sort_by_key(|(part, ..)| (part.file, part.offset));
        for (part, id, segment, index) in parts {
            cutter.add(table, part, id, segment, index);
        }
        cutter.end_file();
        cutter.made
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Piece `index`.
    pub fn get(&self, index: usize) -> &Piece {
        &self.pieces[index]
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    /// The pieces of each file, as far as files have any.
    pub fn files(&self) -> &[FilePieces] {
        &self.files
    }

    /// Bytes that all pieces take of the files.
    pub fn source_bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::source_bytes).sum()
    }

    /// Bytes of all pieces in packed form.
    pub fn packed_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.packed_bytes as u64).sum()
    }

    /// Packs piece `index`, whose bytes are `source`, into `packed`.
    ///
    /// # Panics
    /// When `source` or `packed` has another size than the piece says.
    pub fn pack(
        &self,
        index: usize,
        table: &WeightTable,
        packer: &mut Packer,
        source: &[u8],
        packed: &mut [u8],
    ) {
        let piece = &self.pieces[index];
        assert_eq!(source.len() as u64, piece.source_bytes());
        let mut rest = packed;
        for chunk in &self.chunks[piece.chunks.clone()] {
            let (weight, segment, part) = chunk.place(table);
            let start = (chunk.offset - piece.source.start) as usize;
            let bytes = &source[start..start + chunk.source_bytes(table)];
            let (target, after) = rest.split_at_mut(chunk.packed_bytes(table));
            packer.pack(part, segment.layout, weight.n_cols, bytes, target);
            rest = after;
        }
        assert!(rest.is_empty(), "a piece fills its packed form");
    }

    /// Writes piece `index`, whose packed form is `packed`, to `sink`.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn deliver(
        &self,
        index: usize,
        table: &WeightTable,
        packed: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let mut rest = packed;
        for chunk in &self.chunks[self.pieces[index].chunks.clone()] {
            for PackedSection { section, rows, bytes } in chunk.sections(table) {
                let (bytes, after) = rest.split_at(bytes);
                sink.write(chunk.id, chunk.segment, section, rows, bytes)?;
                rest = after;
            }
        }
        Ok(())
    }
}

impl Chunk {
    fn place<'a>(&self, table: &'a WeightTable) -> (&'a Weight, &'a Segment, &'a Part) {
        let weight = table.get(self.id);
        let segment = &weight.segments[self.segment];
        (weight, segment, &segment.parts[self.part])
    }

    fn source_bytes(&self, table: &WeightTable) -> usize {
        let (weight, _, part) = self.place(table);
        self.rows.len() * part.row_bytes(weight.n_cols)
    }

    fn packed_bytes(&self, table: &WeightTable) -> usize {
        self.sections(table).map(|section| section.bytes).sum()
    }

    /// The packed sections in the order in which [`Packer::pack`] makes them.
    fn sections<'a>(&'a self, table: &'a WeightTable) -> impl Iterator<Item = PackedSection> + 'a {
        let (weight, segment, part) = self.place(table);
        let n_strands = part.place.n_strands;
        let n_rows = self.rows.len() / n_strands;
        (0..n_strands)
            .flat_map(move |strand| {
                let first = part.place.of(self.rows.start + strand) - segment.rows.start;
                sections_of(part.encoding).iter().map(move |&section| PackedSection {
                    section,
                    rows: first..first + n_rows,
                    bytes: n_rows * row_bytes(segment.layout, section, weight.n_cols),
                })
            })
            .filter(|section| section.bytes > 0)
    }
}

fn row_bytes(layout: Layout, section: Section, n_cols: usize) -> usize {
    match section {
        Section::Quants => layout.quants_row_bytes(n_cols),
        Section::Scales => layout.scales_row_bytes(n_cols),
    }
}

/// The sections that a tensor of this encoding gives.
fn sections_of(encoding: Encoding) -> &'static [Section] {
    match encoding {
        Encoding::Blocks(_) => &[Section::Quants, Section::Scales],
        Encoding::Mxfp4Codes => &[Section::Quants],
        Encoding::Mxfp4Scales => &[Section::Scales],
    }
}

/// Fills one piece after the other.
struct Cutter<'a> {
    target: u64,
    spans: &'a [Range<u64>],
    /// Where in the file the last chunk ends, or the header.
    position: u64,
    made: Pieces,
}

impl Cutter<'_> {
    fn add(
        &mut self,
        table: &WeightTable,
        part: &Part,
        id: WeightId,
        segment: usize,
        index: usize,
    ) {
        while self.made.files.len() <= part.file {
            self.end_file();
            let first = self.made.pieces.len();
            let span = self.spans.get(self.made.files.len());
            self.position = span.map_or(0, |span| span.start);
            let is_covered = span.is_some();
            self.made.files.push(FilePieces { pieces: first..first, is_covered });
        }
        let row_bytes = part.row_bytes(table.get(id).n_cols) as u64;
        let Place { group_rows, group_stride, n_strands, .. } = part.place;
        // Rows whose strands each stand together in the weight can be in one chunk.
        let is_contiguous = n_strands == 1 && group_stride == group_rows;
        let group_rows = if is_contiguous { part.n_rows } else { group_rows }.max(1);
        let mut row = 0;
        while row < part.n_rows {
            let offset = part.offset + row as u64 * row_bytes;
            let to_group_end = group_rows - row % group_rows;
            let room = self.room(part.file, offset);
            let step = n_strands as u64 * row_bytes;
            let n_steps = (room / step.max(1)).min((to_group_end / n_strands) as u64);
            if n_steps == 0 && self.is_open(part.file) {
                self.close();
                continue;
            }
            let n_rows = (n_steps.max(1) as usize * n_strands).min(part.n_rows - row);
            let rows = row..row + n_rows;
            row = rows.end;
            self.push(table, part.file, Chunk { id, segment, part: index, rows, offset });
        }
    }

    /// Bytes that the piece being filled takes from `offset` on; all of a piece where none is.
    fn room(&self, file: usize, offset: u64) -> u64 {
        match self.made.pieces.last() {
            Some(piece) if self.is_open(file) && self.gap(offset).is_some() => {
                self.target.saturating_sub(offset - piece.source.start)
            }
            Some(_) if self.is_open(file) => 0,
            _ => self.target,
        }
    }

    /// Bytes from the last chunk to `offset`, if they are to be fetched.
    fn gap(&self, offset: u64) -> Option<u64> {
        offset.checked_sub(self.position).filter(|gap| *gap <= MAX_GAP)
    }

    /// Whether the last piece is of `file` and not closed.
    fn is_open(&self, file: usize) -> bool {
        let open = self.made.files.last().is_some_and(|f| f.pieces.end < self.made.pieces.len());
        open && self.made.pieces.last().is_some_and(|piece| piece.file == file)
    }

    fn push(&mut self, table: &WeightTable, file: usize, chunk: Chunk) {
        if !self.is_open(file) {
            let start = match self.gap(chunk.offset) {
                Some(gap) => chunk.offset - gap,
                None => {
                    self.made.files[file].is_covered = false;
                    chunk.offset
                }
            };
            let first = self.made.chunks.len();
            self.made.pieces.push(Piece {
                file,
                source: start..start,
                packed_bytes: 0,
                chunks: first..first,
            });
        }
        let end = chunk.offset + chunk.source_bytes(table) as u64;
        let piece = self.made.pieces.last_mut().expect("made above");
        piece.source.end = end;
        piece.packed_bytes += chunk.packed_bytes(table);
        piece.chunks.end += 1;
        self.position = end;
        self.made.chunks.push(chunk);
    }

    /// Ends the piece being filled.
    fn close(&mut self) {
        let n_pieces = self.made.pieces.len();
        if let Some(file) = self.made.files.last_mut() {
            file.pieces.end = n_pieces;
        }
    }

    /// Ends the file: its last piece goes to the file's end.
    fn end_file(&mut self) {
        self.close();
        let Some(index) = self.made.files.len().checked_sub(1) else { return };
        let file = &mut self.made.files[index];
        let tail = self.spans.get(index).and_then(|span| span.end.checked_sub(self.position));
        match (tail, self.made.pieces.last_mut()) {
            (Some(tail), Some(piece))
                if file.is_covered && piece.file == index && tail <= MAX_GAP =>
            {
                piece.source.end += tail;
            }
            _ => file.is_covered = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::DType,
        weights::{Grouping, Layout},
    };

    fn part(offset: u64, n_rows: usize, place: Place) -> Part {
        let encoding = Encoding::Blocks(DType::F32);
        Part { tensor: "t".to_owned(), encoding, file: 0, offset, n_rows, place }
    }

    fn weight(n_rows: usize, n_cols: usize, parts: Vec<Part>) -> Weight {
        let segment = Segment { layout: Layout::F32, rows: 0..n_rows, parts };
        let grouping = Grouping::Rows;
        Weight { name: "w".to_owned(), n_rows, n_cols, grouping, segments: vec![segment] }
    }

    #[derive(Default)]
    struct Rows(Vec<(usize, Range<usize>, usize)>);

    impl Sink for Rows {
        fn write(
            &mut self,
            id: WeightId,
            _: usize,
            _: Section,
            rows: Range<usize>,
            bytes: &[u8],
        ) -> Result<()> {
            self.0.push((id.0, rows, bytes.len()));
            Ok(())
        }
    }

    #[test]
    fn small_tensors_share_a_piece_and_large_ones_are_cut_between_rows() {
        let small = weight(1, 8, vec![part(100, 1, Place::stacked(0, 1))]);
        let large = weight(1000, 256, vec![part(160, 1000, Place::stacked(0, 1000))]);
        let end = 160 + 1000 * 1024;
        let table = WeightTable { weights: vec![large, small] };
        let span = 90..end + 7;
        let pieces = Pieces::new(&table, std::slice::from_ref(&span));
        // 64 KiB hold 63 rows beside the small tensor, and 64 elsewhere.
        assert_eq!(pieces.len(), 16);
        assert_eq!(pieces.get(0).source, 90..160 + 63 * 1024);
        assert_eq!(pieces.get(1).source, 160 + 63 * 1024..160 + 127 * 1024);
        assert_eq!(pieces.files(), [FilePieces { pieces: 0..16, is_covered: true }]);
        assert_eq!(pieces.source_bytes(), span.end - span.start);
        assert_eq!(pieces.packed_bytes(), 1000 * 1024 + 32);
        let mut rows = Rows::default();
        for (index, piece) in pieces.iter().enumerate() {
            pieces.deliver(index, &table, &vec![0; piece.packed_bytes], &mut rows).unwrap();
        }
        assert_eq!(rows.0[0], (1, 0..1, 32));
        assert_eq!(rows.0[1], (0, 0..63, 63 * 1024));
        assert_eq!(rows.0.last(), Some(&(0, 959..1000, 41 * 1024)));
    }

    #[test]
    fn strands_stay_whole_and_files_with_holes_are_not_covered() {
        let place = Place { first: 0, group_rows: 6, group_stride: 6, n_strands: 2 };
        let cols = 4096;
        let strands = weight(12, cols, vec![part(0, 12, place)]);
        let far = weight(1, 8, vec![part(20 << 20, 1, Place::stacked(0, 1))]);
        let table = WeightTable { weights: vec![strands, far] };
        let span = 0..21 << 20;
        let pieces = Pieces::new(&table, std::slice::from_ref(&span));
        let mut rows = Rows::default();
        for (index, piece) in pieces.iter().enumerate() {
            pieces.deliver(index, &table, &vec![0; piece.packed_bytes], &mut rows).unwrap();
        }
        let written: Vec<_> = rows.0.iter().map(|(id, rows, _)| (*id, rows.clone())).collect();
        // A piece is four rows of 16 KiB: two of each strand; one of each to a group's end, and one of
        // each of the next.
        let of_strands = [0..2, 3..5, 2..3, 5..6, 6..7, 9..10, 7..9, 10..12].map(|rows| (0, rows));
        let expected = of_strands.into_iter().chain([(1, 0..1)]);
        assert_eq!(written, expected.collect::<Vec<_>>());
        assert!(!pieces.files()[0].is_covered);
        assert_eq!(pieces.iter().last().unwrap().source, 20 << 20..(20 << 20) + 32);
    }
}
