//! Sums of products of matrix rows with input rows, the heart of `linear` and `experts`.
//!
//! Codes are multiplied in integers with rounded inputs: eight products of 16 and 8 bits and their
//! pairwise sums are one SIMD instruction. The sum of a block of 32 stays below 2²⁸, far from
//! overflow.
//!
//! One input row is multiplied straight from the packed codes, each lane taking some of the columns;
//! lanes are added for [`ROWS`] matrix rows at once. Several go through tiles of as many matrix rows, decoded once for all input
//! rows, times quads: four input rows side by side, a lane for each, so that scales are vectors too and
//! nothing is added across lanes. Both add the blocks of a row in the same order, so that a product does
//! not depend on what is computed beside it.

use std::ops::Range;

use half::{bf16, f16};
use wide::{f32x4, i16x8, i32x4, u16x8};

use super::{input::Input, lanes, weights::CpuSegment};
use crate::{checkpoint::dequantize::half_of_e8m0, weights::Layout};

/// Matrix rows of a tile.
const ROWS: usize = 4;

/// Input rows of a quad.
const QUAD: usize = 4;

/// A block of 32 codes of two bytes as pairs: of even elements, of odd ones, of either in the second
/// half. See [`Input::codes`].
type Pairs = [[i32; 4]; 4];

/// Memory kept between products.
#[derive(Default)]
pub struct Scratch {
    /// A decoded row of a dense matrix.
    row: Vec<f32>,
    /// Sums of products of some rows' groups, spread over lanes.
    parts: Vec<[i32x4; ROWS]>,
    rows: Rows,
    quads: Quads,
}

/// Rows of a tile, decoded.
#[derive(Default)]
struct Rows {
    /// Codes of each block.
    codes: Vec<[Pairs; ROWS]>,
    /// The factor of each group.
    scales: Vec<[f32; ROWS]>,
    /// The addend of each block; empty for symmetric layouts.
    mins: Vec<[f32; ROWS]>,
}

/// Input rows side by side, quad after quad.
#[derive(Default)]
struct Quads {
    /// Of each block, for each pair of elements that of every row.
    codes: Vec<[[i16x8; 4]; 4]>,
    /// Scales of each block.
    scales: Vec<f32x4>,
    /// Sums of each block.
    sums: Vec<f32x4>,
}

/// Where products go.
pub struct Products<'a> {
    /// A row for each input row.
    pub values: &'a mut [f32],
    /// Length of such a row.
    pub width: usize,
    /// The column of the first matrix row.
    pub column: usize,
}

impl Products<'_> {
    #[inline(always)]
    fn put(&mut self, place: usize, row: usize, products: &[f32]) {
        let at = place * self.width + self.column + row;
        self.values[at..at + products.len()].copy_from_slice(products);
    }
}

/// Products of rows `rows` of `segment` with the rows `inputs` of `input`, in their order.
pub fn multiply(
    segment: &CpuSegment,
    rows: Range<usize>,
    input: &Input,
    inputs: &[usize],
    scratch: &mut Scratch,
    products: &mut Products<'_>,
) {
    if segment.is_dense() {
        for (i, row) in rows.enumerate() {
            decode_dense(segment, row, &mut scratch.row);
            for (place, &row) in inputs.iter().enumerate() {
                let x = &input.x[row * input.n_in..][..input.n_in];
                products.put(place, i, &[lanes::dot(&scratch.row, x)]);
            }
        }
        return;
    }
    // Three rows and a lane that is idle still are less work than three alone.
    let n_quads = (inputs.len() + 1) / QUAD;
    let (together, alone) = inputs.split_at(inputs.len().min(n_quads * QUAD));
    if n_quads > 0 {
        scratch.quads.take(input, together);
        let tiles = Tiles { quads: &scratch.quads, n_quads, n_inputs: together.len() };
        for first in rows.clone().step_by(ROWS) {
            let tile = first..rows.end.min(first + ROWS);
            let n_rows = tile.len();
            scratch.rows.take(segment, tile, input.n_blocks);
            let start = first - rows.start;
            if segment.layout == Layout::I8Group16 {
                tiles.multiply::<2>(&scratch.rows, n_rows, start, products);
            } else {
                tiles.multiply::<1>(&scratch.rows, n_rows, start, products);
            }
        }
    }
    for (place, &alone) in alone.iter().enumerate() {
        for first in rows.clone().step_by(ROWS) {
            let n_rows = ROWS.min(rows.end - first);
            let sums = segment.dots(first, n_rows, input, alone, &mut scratch.parts);
            products.put(together.len() + place, first - rows.start, &sums.to_array()[..n_rows]);
        }
    }
}

impl Rows {
    /// Decodes rows of `segment`, as many as there are up to [`ROWS`]; what stands for the others
    /// does not matter.
    fn take(&mut self, segment: &CpuSegment, rows: Range<usize>, n_blocks: usize) {
        let n_groups = segment.n_groups / segment.n_blocks() * n_blocks;
        self.codes.resize(n_blocks, Default::default());
        self.scales.resize(n_groups, Default::default());
        let n_mins = if segment.mins.is_empty() { 0 } else { segment.n_blocks() };
        self.mins.resize(n_mins, Default::default());
        for (i, row) in rows.enumerate() {
            match segment.layout {
                Layout::U4 => self.decode(i, segment, row, nibbles),
                Layout::Fp4 => {
                    self.decode(i, segment, row, doubled_e2m1s);
                }
                Layout::I8 | Layout::I8Affine | Layout::I8Group16 => {
                    self.decode(i, segment, row, widen_i8);
                }
                Layout::F16 | Layout::Bf16 | Layout::F32 | Layout::Vector => {
                    unreachable!("dense rows have no codes")
                }
            }
            let groups = row * segment.n_groups..(row + 1) * segment.n_groups;
            if segment.layout == Layout::Fp4 {
                let exponents =
                    self.scales.iter_mut().zip(segment.exponents[groups].iter().cycle());
                exponents.for_each(|(scales, &exponent)| scales[i] = half_of_e8m0(exponent));
                continue;
            }
            let scales = self.scales.iter_mut().zip(segment.scales[groups.clone()].iter().cycle());
            scales.for_each(|(scales, &scale)| scales[i] = scale);
            if !segment.mins.is_empty() {
                let mins = self.mins.iter_mut().zip(&segment.mins[groups]);
                mins.for_each(|(mins, &min)| mins[i] = min);
            }
        }
    }

    #[inline(always)]
    fn decode<const BYTES: usize>(
        &mut self,
        i: usize,
        segment: &CpuSegment,
        row: usize,
        decode: impl Fn(&[u8; BYTES]) -> [i16x8; 4],
    ) {
        let blocks = segment.row_quants(row).as_chunks::<BYTES>().0;
        let (first, others) = self.codes.split_at_mut(blocks.len());
        for (codes, block) in first.iter_mut().zip(blocks) {
            codes[i] = decode(block).map(bytemuck::cast);
        }
        for (codes, first) in others.iter_mut().zip(first) {
            codes[i] = first[i];
        }
    }
}

impl Quads {
    /// Puts the rows `inputs` of `input` side by side; the last stands for those that are missing.
    fn take(&mut self, input: &Input, inputs: &[usize]) {
        let n_blocks = input.n_blocks;
        self.codes.clear();
        self.scales.clear();
        self.sums.clear();
        for quad in inputs.chunks(QUAD) {
            let rows: [usize; QUAD] = std::array::from_fn(|i| quad[i.min(quad.len() - 1)]);
            for block in 0..n_blocks {
                let at = rows.map(|row| row * n_blocks + block);
                let codes = at.map(|at| &input.codes[at]);
                self.codes.push(std::array::from_fn(|vector| {
                    let rows = codes.map(|codes| bytemuck::cast::<_, f32x4>(codes[vector]));
                    f32x4::transpose(rows).map(bytemuck::cast)
                }));
                self.scales.push(f32x4::new(at.map(|at| input.scales[at])));
                self.sums.push(f32x4::new(at.map(|at| input.sums[at])));
            }
        }
    }
}

/// Quads on which a tile of rows works.
struct Tiles<'a> {
    quads: &'a Quads,
    n_quads: usize,
    n_inputs: usize,
}

impl Tiles<'_> {
    /// Products of the first `n_rows` of `rows` with all quads; `start` is the place of the first.
    fn multiply<const GROUPS: usize>(
        &self,
        rows: &Rows,
        n_rows: usize,
        start: usize,
        products: &mut Products<'_>,
    ) {
        let mut put = |quad: usize, sums: [f32x4; ROWS]| {
            let inputs = quad * QUAD..self.n_inputs.min((quad + 1) * QUAD);
            for (place, sums) in inputs.zip(f32x4::transpose(sums)) {
                products.put(place, start, &sums.to_array()[..n_rows]);
            }
        };
        for quad in (0..self.n_quads - self.n_quads % 2).step_by(2) {
            let [first, second] = self.tile::<2, GROUPS>(rows, quad);
            put(quad, first);
            put(quad + 1, second);
        }
        if self.n_quads % 2 == 1 {
            let quad = self.n_quads - 1;
            let [sums] = self.tile::<1, GROUPS>(rows, quad);
            put(quad, sums);
        }
    }

    /// Products with `N` quads from `first` on, for each the products of each row.
    ///
    /// A block is unrolled: a decoded pair is spread over the lanes by its load, and meets all quads.
    #[inline(always)]
    fn tile<const N: usize, const GROUPS: usize>(
        &self,
        rows: &Rows,
        first: usize,
    ) -> [[f32x4; ROWS]; N] {
        let n_blocks = rows.codes.len();
        let at = |i: usize| (first + i) * n_blocks..(first + i + 1) * n_blocks;
        let x_codes: [_; N] = std::array::from_fn(|i| &self.quads.codes[at(i)]);
        let x_scales: [_; N] = std::array::from_fn(|i| &self.quads.scales[at(i)]);
        let x_sums: [_; N] = std::array::from_fn(|i| &self.quads.sums[at(i)]);
        let scales = rows.scales.as_chunks::<GROUPS>().0;
        let mut sums = [[f32x4::ZERO; ROWS]; N];
        for (block, (codes, scales)) in rows.codes.iter().zip(scales).enumerate() {
            for (group, scales) in scales.iter().enumerate() {
                let mut products = [[i32x4::ZERO; ROWS]; N];
                for vector in group * 4 / GROUPS..(group + 1) * 4 / GROUPS {
                    for pair in 0..4 {
                        for (products, x) in products.iter_mut().zip(x_codes) {
                            let x = x[block][vector][pair];
                            for (sum, codes) in products.iter_mut().zip(codes) {
                                *sum += x.dot(spread(codes[vector][pair]));
                            }
                        }
                    }
                }
                for i in 0..N {
                    for row in 0..ROWS {
                        let scale = f32x4::splat(scales[row]) * x_scales[i][block];
                        sums[i][row] += f32x4::from_i32x4(products[i][row]) * scale;
                    }
                }
            }
        }
        for (block, mins) in rows.mins.iter().enumerate() {
            for i in 0..N {
                for row in 0..ROWS {
                    sums[i][row] += f32x4::splat(mins[row]) * x_sums[i][block];
                }
            }
        }
        sums
    }
}

impl CpuSegment {
    /// Whether rows are numbers and not codes.
    pub fn is_dense(&self) -> bool {
        self.n_groups == 0
    }

    /// Blocks of a row of codes.
    fn n_blocks(&self) -> usize {
        self.n_groups / if self.layout == Layout::I8Group16 { 2 } else { 1 }
    }

    fn row_quants(&self, row: usize) -> &[u8] {
        &self.quants[row * self.quants_row_bytes..][..self.quants_row_bytes]
    }

    /// Products of `n_rows` matrix rows from `first` on, at most [`ROWS`], with the input row `place`; what
    /// stands for missing rows does not matter.
    fn dots(
        &self,
        first: usize,
        n_rows: usize,
        x: &Input,
        place: usize,
        parts: &mut Vec<[i32x4; ROWS]>,
    ) -> f32x4 {
        let rows: [usize; ROWS] = std::array::from_fn(|i| first + i.min(n_rows - 1));
        let n_parts = x.n_blocks * self.n_groups / self.n_blocks();
        parts.resize(n_parts, [i32x4::ZERO; ROWS]);
        let blocks = place * x.n_blocks..(place + 1) * x.n_blocks;
        let x_codes = &x.codes[blocks.clone()];
        for (i, &row) in rows[..n_rows].iter().enumerate() {
            match self.layout {
                Layout::U4 => self.multiply_row::<16, 1>(row, i, x_codes, parts, nibbles),
                Layout::Fp4 => self.multiply_row::<16, 1>(row, i, x_codes, parts, doubled_e2m1s),
                Layout::I8 | Layout::I8Affine => {
                    self.multiply_row::<32, 1>(row, i, x_codes, parts, widen_i8);
                }
                Layout::I8Group16 => self.multiply_row::<32, 2>(row, i, x_codes, parts, widen_i8),
                Layout::F16 | Layout::Bf16 | Layout::F32 | Layout::Vector => {
                    unreachable!("dense rows are decoded first")
                }
            }
        }
        let x_scales = &x.scales[blocks.clone()];
        let mut sums = match self.layout {
            Layout::Fp4 => {
                let exponents = rows.map(|row| self.row_groups(&self.exponents, row));
                add_up::<1, _>(parts, x_scales, exponents, half_of_e8m0)
            }
            Layout::I8Group16 => {
                let scales = rows.map(|row| self.row_groups(&self.scales, row));
                add_up::<2, _>(parts, x_scales, scales, |scale| scale)
            }
            _ => {
                let scales = rows.map(|row| self.row_groups(&self.scales, row));
                add_up::<1, _>(parts, x_scales, scales, |scale| scale)
            }
        };
        if !self.mins.is_empty() {
            let mins = rows.map(|row| self.row_groups(&self.mins, row));
            for (block, x_sum) in x.sums[blocks][..self.n_groups].iter().enumerate() {
                sums += f32x4::new(mins.map(|mins| mins[block])) * f32x4::splat(*x_sum);
            }
        }
        sums
    }

    /// What `values`, one a group, has for a row.
    fn row_groups<'a, T>(&self, values: &'a [T], row: usize) -> &'a [T] {
        &values[row * self.n_groups..][..self.n_groups]
    }

    /// Sums of products of each group of matrix row `row` with an input row, spread over lanes, as number
    /// `i` of `parts`. `decode` gives a block's codes in the order of [`Input::codes`]; a block has
    /// `GROUPS` groups.
    #[inline(always)]
    fn multiply_row<const BYTES: usize, const GROUPS: usize>(
        &self,
        row: usize,
        i: usize,
        x_codes: &[[i16x8; 4]],
        parts: &mut [[i32x4; ROWS]],
        decode: impl Fn(&[u8; BYTES]) -> [i16x8; 4],
    ) {
        let quants = self.row_quants(row).as_chunks::<BYTES>().0;
        let parts = parts.as_chunks_mut::<GROUPS>().0.chunks_mut(quants.len());
        for (x_codes, parts) in x_codes.chunks(quants.len()).zip(parts) {
            for ((x, parts), quants) in x_codes.iter().zip(parts).zip(quants) {
                let codes = decode(quants);
                let first = codes[0].dot(x[0]) + codes[1].dot(x[1]);
                let second = codes[2].dot(x[2]) + codes[3].dot(x[3]);
                if GROUPS == 1 {
                    parts[0][i] = first + second;
                } else {
                    parts[0][i] = first;
                    parts[1][i] = second;
                }
            }
        }
    }
}

/// The sum of all `parts` of some rows, `scale` the factor that one of `scales` stands for.
#[inline(always)]
fn add_up<const GROUPS: usize, S: Copy>(
    parts: &[[i32x4; ROWS]],
    x_scales: &[f32],
    scales: [&[S]; ROWS],
    scale: impl Fn(S) -> f32,
) -> f32x4 {
    let n_groups = scales[0].len();
    let scales = scales.map(|scales| &scales[..n_groups]);
    let mut sums = f32x4::ZERO;
    let x_scales = x_scales.chunks(n_groups / GROUPS);
    for (parts, x_scales) in parts.chunks(n_groups).zip(x_scales) {
        for (group, part) in parts[..n_groups].iter().enumerate() {
            let scales = f32x4::new(scales.map(|scales| scale(scales[group])));
            let scales = scales * f32x4::splat(x_scales[group / GROUPS]);
            sums += f32x4::from_i32x4(sums_of(*part)) * scales;
        }
    }
    sums
}

/// The sum of each vector's lanes.
#[inline(always)]
fn sums_of(vectors: [i32x4; 4]) -> i32x4 {
    let [a, b, c, d] =
        f32x4::transpose(vectors.map(bytemuck::cast)).map(bytemuck::cast::<_, i32x4>);
    (a + b) + (c + d)
}

/// 4-bit codes in the order of [`Input::codes`].
#[inline(always)]
fn nibbles(bytes: &[u8; 16]) -> [i16x8; 4] {
    let codes: u16x8 = bytemuck::cast(*bytes);
    let mask = u16x8::splat(15);
    [codes & mask, codes >> 8 & mask, codes >> 4 & mask, codes >> 12].map(bytemuck::cast)
}

/// Twice the values of E2M1 codes in the order of [`Input::codes`].
#[inline(always)]
fn doubled_e2m1s(bytes: &[u8; 16]) -> [i16x8; 4] {
    let [a, b, c, d] = nibbles(bytes);
    [doubled_e2m1(a), doubled_e2m1(b), doubled_e2m1(c), doubled_e2m1(d)]
}

/// Twice the values of E2M1 codes, see `checkpoint::dequantize`.
#[inline(always)]
fn doubled_e2m1(codes: i16x8) -> i16x8 {
    let step = codes & i16x8::splat(7);
    let magnitude = step.max(step + step - i16x8::splat(4)).max((step << 2) - i16x8::splat(16));
    let negative = i16x8::ZERO - (codes >> 3);
    (magnitude ^ negative) - negative
}

/// A pair of codes in every lane.
#[inline(always)]
fn spread(pair: i32) -> i16x8 {
    bytemuck::cast(i32x4::splat(pair))
}

#[inline(always)]
fn widen_i8(bytes: &[u8; 32]) -> [i16x8; 4] {
    let [first, second]: [i16x8; 2] = bytemuck::cast(*bytes);
    [first << 8 >> 8, first >> 8, second << 8 >> 8, second >> 8]
}

fn decode_dense(segment: &CpuSegment, row: usize, out: &mut Vec<f32>) {
    let bytes = segment.row_quants(row);
    out.clear();
    match segment.layout {
        Layout::F16 => {
            out.extend(bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()));
        }
        Layout::Bf16 => {
            out.extend(
                bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()),
            );
        }
        _ => out.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::CpuWeight,
        memory::Allocation,
        weights::{Grouping, Segment, Weight},
    };

    const N_COLS: usize = 96;

    /// No more rows than a tile has, and some beyond.
    const N_ROWS: usize = 2 * ROWS + 3;

    /// A matrix of rows in each of `layouts`, whose bits and numbers are arbitrary.
    fn matrix(layouts: &[Layout]) -> CpuWeight {
        let segments = layouts.iter().enumerate().map(|(i, &layout)| {
            let rows = i * N_ROWS..(i + 1) * N_ROWS;
            Segment { layout, rows, parts: Vec::new() }
        });
        let weight = Weight {
            name: String::new(),
            n_rows: layouts.len() * N_ROWS,
            n_cols: N_COLS,
            grouping: Grouping::Rows,
            segments: segments.collect(),
        };
        let mut weight = CpuWeight::new(&weight, &mut Allocation::of(0)).unwrap();
        for segment in &mut weight.segments {
            let mix = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9) >> 16;
            let number = |i: usize| (mix(i) as f32 / 65536.0 - 0.5) * 1e-2;
            segment.quants.iter_mut().enumerate().for_each(|(i, code)| *code = mix(i) as u8);
            segment.scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = number(i));
            segment.mins.iter_mut().enumerate().for_each(|(i, min)| *min = number(i + 1000));
            let exponents = segment.exponents.iter_mut().enumerate();
            exponents.for_each(|(i, exponent)| *exponent = 120 + (mix(i) % 8) as u8);
        }
        weight
    }

    #[test]
    fn an_input_row_has_the_same_products_alone_and_among_others() {
        let x: Vec<f32> = (0..11 * N_COLS).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let codes = Layout::MATRICES
            .into_iter()
            .filter(|layout| !matches!(layout, Layout::F16 | Layout::Bf16 | Layout::F32));
        // Beside rows in MXFP4 all others have inputs that are rounded twice.
        for layouts in codes.flat_map(|layout| [vec![layout], vec![layout, Layout::Fp4]]) {
            let weight = matrix(&layouts);
            let mut input = Input::default();
            let n_inputs = input.take(&x, None, &weight);
            let mut scratch = Scratch::default();
            for segment in &weight.segments {
                let mut products = |inputs: &[usize]| {
                    let mut values = vec![0.0; inputs.len() * N_ROWS];
                    let mut products = Products { values: &mut values, width: N_ROWS, column: 0 };
                    multiply(segment, 0..N_ROWS, &input, inputs, &mut scratch, &mut products);
                    values
                };
                let alone: Vec<f32> = (0..n_inputs).flat_map(|input| products(&[input])).collect();
                assert!(alone.iter().all(|value| value.is_finite() && *value != 0.0));
                for n_together in 2..=n_inputs {
                    let together: Vec<usize> = (0..n_together).collect();
                    let expected = &alone[..n_together * N_ROWS];
                    assert_eq!(products(&together), expected, "{layouts:?}, {n_together} rows");
                }
            }
        }
    }
}
