//! Sizes of workgroups and tiles, chosen from what an adapter is.

use serde::{Deserialize, Serialize};

use super::context::Capabilities;

/// Sizes of kernels for one token, which a trial may choose anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Threads that share rows of a matrix-vector workgroup, at least.
    pub matvec_lanes: u32,
    /// Rows that they share.
    pub matvec_rows: u32,
    /// Threads that keep the device busy: of a matrix with few rows, more threads share them.
    pub busy_threads: u32,
    /// Gates of an expert that threads share, each with its up, which counts where registers are few.
    pub expert_gates: u32,
    /// Keys for which one more workgroup a head is started.
    pub split_keys: u32,
}

/// How kernels are laid out on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// What a trial may choose anew.
    pub sizes: Sizes,
    /// Threads of a matrix-vector workgroup.
    pub matvec_workgroup: u32,
    /// Whether workgroups that multiply one row with experts normalise the row and choose the experts themselves, which
    /// saves two dispatches and costs each workgroup what these would.
    pub fuses_into_experts: bool,
    /// Whether a matrix-vector workgroup reads its input once, into workgroup memory.
    pub staged: bool,
    /// What a thread computes in `matmul_lanes.wgsl` and `experts_lanes.wgsl`, which take the place of
    /// `matmul.wgsl` and `experts_matmul.wgsl` where threads are lanes of a CPU's vectors.
    pub lane_tile: Option<LaneTile>,
    /// Threads of an attention workgroup, at least.
    pub attention_workgroup: u32,
    /// Rows of queries, at most, that share keys and values in attention of one token: multiples of 4, where
    /// there are subgroups. 1 is `attention.wgsl`, where each row has a workgroup.
    pub attention_rows: u32,
    /// The same in attention of many tokens.
    pub attention_chunk_rows: u32,
    /// Tokens of a tile in products with experts: a multiple of 4, and of 8 without `lane_tile`.
    pub expert_tile: u32,
    /// Tokens in a chunk of prefill.
    pub max_chunk: u32,
    /// Tokens drawn between readbacks, at most.
    pub max_batch: u32,
    /// Workgroups a head in decoding, at most; 1 never splits.
    pub max_splits: u32,
    /// Workgroups that scan logits.
    pub scan_shares: u32,
}

/// The part of a product that a thread computes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTile {
    /// Rows of the matrix.
    pub rows: u32,
    /// Tokens, in fours.
    pub quads: u32,
}

impl Tuning {
    /// The layout for an adapter.
    pub fn for_adapter(capabilities: &Capabilities) -> Self {
        if capabilities.software {
            // Threads are lanes of a CPU's vectors, of which one is as wide as a subgroup: exchanges
            // cost, and memory has no coalescing.
            let width = capabilities.subgroup.unwrap_or(4);
            Self {
                sizes: Sizes {
                    matvec_lanes: 1,
                    // Rows share what is loaded of inputs, for which narrow vectors take more instructions.
                    matvec_rows: if width < 8 { 8 } else { 4 },
                    busy_threads: 0,
                    expert_gates: 8,
                    split_keys: 512,
                },
                matvec_workgroup: width.clamp(4, 16),
                fuses_into_experts: false,
                staged: false,
                lane_tile: Some(LaneTile { rows: 24, quads: 2 }),
                attention_workgroup: 32,
                // Narrow vectors take longer to compile for many rows.
                attention_rows: width.clamp(4, 8),
                attention_chunk_rows: width.clamp(4, 8),
                expert_tile: 4,
                max_chunk: 32,
                max_batch: 8,
                max_splits: 4,
                scan_shares: 8,
            }
        } else {
            Self {
                sizes: Sizes {
                    matvec_lanes: 16,
                    matvec_rows: 4,
                    busy_threads: 65_536,
                    expert_gates: 2,
                    split_keys: 128,
                },
                matvec_workgroup: 256,
                fuses_into_experts: true,
                staged: true,
                lane_tile: None,
                attention_workgroup: 256,
                attention_rows: 1,
                // Registers hold a thread's part of all rows' results, which grows as subgroups shrink.
                attention_chunk_rows: if capabilities.subgroup >= Some(32) { 8 } else { 1 },
                expert_tile: 32,
                max_chunk: 512,
                max_batch: 32,
                max_splits: 32,
                scan_shares: 64,
            }
        }
    }

    /// Threads that share rows of a matrix with so many outputs.
    pub fn lanes(&self, n_outputs: usize) -> u32 {
        let Sizes { matvec_lanes: mut lanes, matvec_rows, busy_threads, .. } = self.sizes;
        while lanes < self.matvec_workgroup
            && n_outputs * (lanes as usize) < (busy_threads * matvec_rows) as usize
        {
            lanes *= 2;
        }
        lanes
    }

    /// Outputs that a matrix-vector workgroup computes, of so many.
    pub fn rows_of_workgroup(&self, n_outputs: usize) -> u32 {
        self.matvec_workgroup / self.lanes(n_outputs) * self.sizes.matvec_rows
    }

    /// Workgroups a head for one token that attends to `n_keys` positions.
    pub fn n_splits(&self, n_keys: u32) -> u32 {
        n_keys.div_ceil(self.sizes.split_keys).clamp(1, self.max_splits)
    }
}
