//! Tables of rotary embeddings.
//!
//! Shaders' sines are exact to about 2⁻¹¹ near zero and worse far away, so angles are tabulated in
//! double precision here: a coarse table for multiples of [`FINE_POSITIONS`] positions and a fine one
//! for the rest. The rotation of position `p` is the complex product of two entries, exact to f32
//! rounding, and both tables together stay small at any context length.

use serde::{Deserialize, Serialize};

use crate::{error::Result, memory::room_for};

/// Positions that the fine table covers.
pub const FINE_POSITIONS: usize = 256;

/// Angular frequencies, and the factor on rotated vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeTable {
    /// Radians a position, one for each rotated pair.
    pub frequencies: Vec<f64>,
    /// Factor on rotated queries and keys.
    pub magnitude: f32,
}

impl RopeTable {
    /// Entries (cosine, sine) of both tables: [`FINE_POSITIONS`] rows of the fine table, then the
    /// coarse rows up to position `context_length`; a row has one entry for each pair. The
    /// magnitude is part of the fine table.
    ///
    /// # Errors
    /// `out_of_memory` with the bytes needed.
    pub fn entries(&self, context_length: usize) -> Result<Vec<[f32; 2]>> {
        let mut entries = room_for(self.n_entries(context_length))?;
        let fine = (0..FINE_POSITIONS).map(|position| (position, f64::from(self.magnitude)));
        let coarse =
            (0..context_length.div_ceil(FINE_POSITIONS)).map(|block| (block * FINE_POSITIONS, 1.0));
        entries.extend(fine.chain(coarse).flat_map(|(position, magnitude)| {
            self.frequencies.iter().map(move |frequency| {
                let angle = position as f64 * frequency;
                [(magnitude * angle.cos()) as f32, (magnitude * angle.sin()) as f32]
            })
        }));
        Ok(entries)
    }

    /// How many entries that are.
    pub fn n_entries(&self, context_length: usize) -> u64 {
        let n_rows = FINE_POSITIONS + context_length.div_ceil(FINE_POSITIONS);
        n_rows as u64 * self.frequencies.len() as u64
    }

    /// The rotation (cosine, sine) of pair `pair` at `position`, from the entries of
    /// [`entries`](Self::entries).
    pub fn rotation(
        entries: &[[f32; 2]],
        n_pairs: usize,
        position: usize,
        pair: usize,
    ) -> [f32; 2] {
        let [c, s] = entries[position % FINE_POSITIONS * n_pairs + pair];
        let [coarse_c, coarse_s] =
            entries[(FINE_POSITIONS + position / FINE_POSITIONS) * n_pairs + pair];
        [c * coarse_c - s * coarse_s, s * coarse_c + c * coarse_s]
    }
}
