//! Sizes of workgroups and tiles, chosen from what an adapter is.

use super::context::Capabilities;

/// How kernels are laid out on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Threads of a matrix-vector workgroup.
    pub matvec_workgroup: u32,
    /// Threads that share rows.
    pub matvec_lanes: u32,
    /// Rows that they share.
    pub matvec_rows: u32,
    /// Tokens of a tile in products with experts.
    pub expert_tile: u32,
    /// Tokens in a chunk of prefill.
    pub max_chunk: u32,
    /// Tokens drawn between readbacks, at most.
    pub max_batch: u32,
    /// Keys for which one more workgroup a head is started in decoding.
    pub split_keys: u32,
    /// Workgroups a head in decoding, at most; 1 never splits.
    pub max_splits: u32,
    /// Workgroups that scan logits.
    pub scan_shares: u32,
}

impl Tuning {
    /// The layout for an adapter.
    pub fn for_adapter(capabilities: &Capabilities) -> Self {
        if capabilities.software {
            // Threads are lanes of a CPU's vectors: exchanges cost, and memory has no coalescing.
            Self {
                matvec_workgroup: 4,
                matvec_lanes: 1,
                matvec_rows: 8,
                expert_tile: 8,
                max_chunk: 32,
                max_batch: 8,
                split_keys: 256,
                max_splits: 1,
                scan_shares: 8,
            }
        } else {
            Self {
                matvec_workgroup: 64,
                matvec_lanes: 16,
                matvec_rows: 2,
                expert_tile: 16,
                max_chunk: 128,
                max_batch: 32,
                split_keys: 256,
                max_splits: 16,
                scan_shares: 64,
            }
        }
    }

    /// Workgroups a head for one token that attends to `n_keys` positions.
    pub fn n_splits(&self, n_keys: u32) -> u32 {
        n_keys.div_ceil(self.split_keys).clamp(1, self.max_splits)
    }
}
