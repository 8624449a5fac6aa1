//! Keys and values of a layer: as f32, or as 8-bit integers.

use std::ops::Range;

use half::bf16;

use crate::{
    error::Result,
    memory::{Allocation, room_for},
    ops::{CACHE_GROUP, CacheNumbers, CacheShape, Heads},
};

/// Keys and values of one layer, position after position.
pub struct Cache {
    pub shape: CacheShape,
    /// Positions that must be kept.
    capacity: usize,
    held: Held,
}

/// Keys and values of one layer, set aside.
pub struct ParkedCache(Held);

/// Positions that are held.
struct Held {
    /// The first of them.
    start: usize,
    keys: Rows,
    values: Rows,
}

/// A row of all heads' numbers for each position.
enum Rows {
    /// [n_positions, kv_width].
    Full(Vec<f32>),
    Int8 {
        /// [n_positions, kv_width].
        codes: Vec<i8>,
        /// For each group of each head, [n_positions, n_kv_heads · groups].
        scales: Vec<bf16>,
    },
}

/// A head's columns of some rows.
#[derive(Clone)]
pub struct Columns<'a> {
    /// Whole rows.
    pub rows: &'a [f32],
    /// Numbers in each of them.
    pub width: usize,
    /// Which of those are meant.
    pub columns: Range<usize>,
}

impl Columns<'_> {
    /// Those of some of the rows.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let rows = &self.rows[rows.start * self.width..rows.end * self.width];
        Self { rows, ..self.clone() }
    }
}

impl ParkedCache {
    /// Memory in use.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

impl Held {
    fn bytes(&self) -> u64 {
        self.keys.bytes() + self.values.bytes()
    }
}

impl Cache {
    /// Allocates room for every position that is ever held in a context of `context_length`.
    ///
    /// # Errors
    /// Those of `allocation`.
    pub fn new(
        shape: CacheShape,
        context_length: usize,
        allocation: &mut Allocation,
    ) -> Result<Self> {
        let n_positions = Self::n_positions(shape, context_length);
        let mut rows = || Rows::new(shape, n_positions, allocation);
        let held = Held { start: 0, keys: rows()?, values: rows()? };
        Ok(Self { shape, capacity: shape.capacity(context_length), held })
    }

    /// Bytes that such a cache takes.
    pub fn needed(shape: CacheShape, context_length: usize) -> u64 {
        let n_positions = Self::n_positions(shape, context_length);
        2 * n_positions * Rows::bytes_of_one(shape)
    }

    /// Positions that are held at most.
    fn n_positions(shape: CacheShape, context_length: usize) -> u64 {
        // With a window positions stay until they are twice as many as must be kept.
        let n_positions = match shape.window {
            Some(_) => shape.capacity(context_length).saturating_mul(2).min(context_length),
            None => context_length,
        };
        n_positions as u64
    }

    /// Memory in use.
    pub fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// A copy of the first `n_positions`, as far as they are held; `None` where there is no memory for it.
    pub fn park(&self, n_positions: usize) -> Option<ParkedCache> {
        let Held { start, keys, values } = &self.held;
        let n_rows = n_positions.saturating_sub(*start);
        let copy = |rows: &Rows| rows.first(n_rows, self.shape.heads);
        Some(ParkedCache(Held { start: *start, keys: copy(keys)?, values: copy(values)? }))
    }

    /// Holds what was parked, and nothing else.
    pub fn unpark(&mut self, ParkedCache(parked): &ParkedCache) {
        self.held.start = parked.start;
        self.held.keys.copy_from(&parked.keys);
        self.held.values.copy_from(&parked.values);
    }

    /// Forgets positions from `position` on, which is held or follows what is.
    pub fn truncate(&mut self, position: usize) {
        let Held { start, keys, values } = &mut self.held;
        *start = position.min(*start);
        for rows in [keys, values] {
            rows.truncate(position - *start, self.shape.heads);
        }
    }

    /// Appends the next position. Positions beyond the capacity go by halves, so that moving the rest
    /// costs little.
    pub fn push(&mut self, keys: &[f32], values: &[f32]) {
        let heads = self.shape.heads;
        let Held { start, keys: held_keys, values: held_values } = &mut self.held;
        let n_positions = held_keys.n_rows(heads);
        let gone = match self.shape.window {
            Some(_) if n_positions >= 2 * self.capacity => n_positions - self.capacity,
            _ => 0,
        };
        *start += gone;
        for (rows, row) in [(held_keys, keys), (held_values, values)] {
            rows.drain(gone, heads);
            rows.push(row, heads);
        }
    }

    /// Keys and values of a head at `positions`; `decoded` is where integers become numbers.
    pub fn columns<'a>(
        &'a self,
        positions: Range<usize>,
        head: usize,
        decoded: [&'a mut Vec<f32>; 2],
    ) -> [Columns<'a>; 2] {
        let Held { start, keys, values } = &self.held;
        let rows = positions.start - start..positions.end - start;
        let [of_keys, of_values] = decoded;
        [(keys, of_keys), (values, of_values)]
            .map(|(held, decoded)| held.columns(rows.clone(), head, self.shape.heads, decoded))
    }
}

impl Rows {
    fn new(shape: CacheShape, n_rows: u64, allocation: &mut Allocation) -> Result<Self> {
        let n_numbers = n_rows * shape.heads.kv_width() as u64;
        Ok(match shape.numbers {
            CacheNumbers::Full => Self::Full(allocation.room_for(n_numbers)?),
            CacheNumbers::Int8 => Self::Int8 {
                codes: allocation.room_for(n_numbers)?,
                scales: allocation.room_for(n_rows * n_scales(shape.heads) as u64)?,
            },
        })
    }

    fn bytes_of_one(shape: CacheShape) -> u64 {
        let n_numbers = shape.heads.kv_width() as u64;
        match shape.numbers {
            CacheNumbers::Full => 4 * n_numbers,
            CacheNumbers::Int8 => n_numbers + 2 * n_scales(shape.heads) as u64,
        }
    }

    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Full(numbers) => 4 * numbers.capacity(),
            Self::Int8 { codes, scales } => codes.capacity() + 2 * scales.capacity(),
        };
        bytes as u64
    }

    fn n_rows(&self, heads: Heads) -> usize {
        let n_numbers = match self {
            Self::Full(numbers) => numbers.len(),
            Self::Int8 { codes, .. } => codes.len(),
        };
        n_numbers / heads.kv_width()
    }

    /// A copy of the first `n_rows`, as far as there are so many; `None` where there is no memory for it.
    fn first(&self, n_rows: usize, heads: Heads) -> Option<Self> {
        fn copy<T: Copy>(list: &[T], n: usize) -> Option<Vec<T>> {
            let list = &list[..n.min(list.len())];
            let mut copy = room_for(list.len() as u64).ok()?;
            copy.extend_from_slice(list);
            Some(copy)
        }
        let n_numbers = n_rows * heads.kv_width();
        Some(match self {
            Self::Full(numbers) => Self::Full(copy(numbers, n_numbers)?),
            Self::Int8 { codes, scales } => Self::Int8 {
                codes: copy(codes, n_numbers)?,
                scales: copy(scales, n_rows * n_scales(heads))?,
            },
        })
    }

    /// Becomes what `other` is, in the room there is.
    fn copy_from(&mut self, other: &Self) {
        fn copy<T: Copy>(to: &mut Vec<T>, from: &[T]) {
            to.clear();
            to.extend_from_slice(from);
        }
        match (self, other) {
            (Self::Full(to), Self::Full(from)) => copy(to, from),
            (Self::Int8 { codes, scales }, Self::Int8 { codes: from, scales: from_scales }) => {
                copy(codes, from);
                copy(scales, from_scales);
            }
            _ => panic!("caches go back to where they came from"),
        }
    }

    fn truncate(&mut self, n_rows: usize, heads: Heads) {
        match self {
            Self::Full(numbers) => numbers.truncate(n_rows * heads.kv_width()),
            Self::Int8 { codes, scales } => {
                codes.truncate(n_rows * heads.kv_width());
                scales.truncate(n_rows * n_scales(heads));
            }
        }
    }

    /// Drops the first `n_rows`.
    fn drain(&mut self, n_rows: usize, heads: Heads) {
        match self {
            Self::Full(numbers) => drop(numbers.drain(..n_rows * heads.kv_width())),
            Self::Int8 { codes, scales } => {
                codes.drain(..n_rows * heads.kv_width());
                scales.drain(..n_rows * n_scales(heads));
            }
        }
    }

    fn push(&mut self, row: &[f32], heads: Heads) {
        match self {
            Self::Full(numbers) => numbers.extend_from_slice(row),
            Self::Int8 { codes, scales } => {
                let groups =
                    row.chunks_exact(heads.head_dim).flat_map(|head| head.chunks(CACHE_GROUP));
                for group in groups {
                    let scale = scale(group);
                    scales.push(scale);
                    let inverse = 1.0 / scale.to_f32().max(f32::MIN_POSITIVE);
                    codes.extend(group.iter().map(|x| (x * inverse).round_ties_even() as i8));
                }
            }
        }
    }

    /// The columns of `head` in `rows`.
    fn columns<'a>(
        &'a self,
        rows: Range<usize>,
        head: usize,
        heads: Heads,
        decoded: &'a mut Vec<f32>,
    ) -> Columns<'a> {
        let (width, head_dim) = (heads.kv_width(), heads.head_dim);
        let columns = head * head_dim..(head + 1) * head_dim;
        match self {
            Self::Full(numbers) => {
                Columns { rows: &numbers[rows.start * width..rows.end * width], width, columns }
            }
            Self::Int8 { codes, scales } => {
                let n_groups = n_scales(heads);
                let groups = n_groups / heads.n_kv_heads;
                decoded.clear();
                for row in rows {
                    let codes = &codes[row * width..][columns.clone()];
                    let scales = &scales[row * n_groups + head * groups..][..groups];
                    for (codes, scale) in codes.chunks(CACHE_GROUP).zip(scales) {
                        let scale = scale.to_f32();
                        decoded.extend(codes.iter().map(|&code| f32::from(code) * scale));
                    }
                }
                Columns { rows: decoded, width: head_dim, columns: 0..head_dim }
            }
        }
    }
}

/// Scales of a position.
fn n_scales(heads: Heads) -> usize {
    heads.n_kv_heads * heads.head_dim.div_ceil(CACHE_GROUP)
}

/// A 127th of the largest magnitude in `group`, rounded up, so that no code is beyond 127.
fn scale(group: &[f32]) -> bf16 {
    let largest = group.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    bf16::from_bits(((u64::from((largest / 127.0).to_bits()) + 0xffff) >> 16) as u16)
}
