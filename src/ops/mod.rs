//! The operations of a model, as plain data.
//!
//! A model family writes its computation as a [`Plan`]: a list of [`Op`]s over numbered weights,
//! activation buffers and caches. `gpu` and `cpu` carry out each operation in a file of the same
//! stem; a shader's file has that stem too.
//!
//! Activations are f32, row after row, one row a token of the chunk being computed.

pub mod rope;

use serde::{Deserialize, Serialize};

use crate::{
    config::RopePairing,
    weights::{Precision, WeightId, WeightTable},
};

/// Index of an activation buffer in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BufferId(pub usize);

/// Index of a key/value cache in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CacheId(pub usize);

/// An activation buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Name in labels and errors.
    pub name: &'static str,
    /// Elements for each token.
    pub width: usize,
}

/// The shape of attention: heads and the cache they read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl Heads {
    /// Width of a row of queries, keys and values side by side.
    pub const fn qkv_width(self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    /// Width of a row of queries.
    pub const fn q_width(self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Query heads that share keys and values.
    pub const fn group(self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Width of a row of keys, and of values.
    pub const fn kv_width(self) -> usize {
        self.n_kv_heads * self.head_dim
    }
}

/// Positions that a ring keeps beyond its window: so far back a conversation can be taken up again
/// without computing it anew, and so many tokens can a chunk have.
const RING_SLACK: usize = 1024;

/// What keys and values are held as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheNumbers {
    /// Floats: f32 on the CPU and in exact models, else f16.
    #[default]
    Full,
    /// 8-bit integers, with a scale in bfloat16 for each [`CACHE_GROUP`] elements of a head.
    Int8,
}

/// Elements of a head that share a scale in a cache of 8-bit integers, at most.
pub const CACHE_GROUP: usize = 32;

/// A key/value cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheShape {
    /// Shape of a position.
    pub heads: Heads,
    /// Positions that a token sees, its own among them; all of them where absent.
    pub window: Option<usize>,
    /// What it holds numbers as.
    pub numbers: CacheNumbers,
}

impl CacheShape {
    /// Positions that are kept in a context of `context_length`: the last so many, in a ring.
    pub fn capacity(self, context_length: usize) -> usize {
        match self.window {
            Some(window) => window.saturating_add(RING_SLACK).min(context_length),
            None => context_length,
        }
    }

    /// The first position that a token at `position` sees.
    pub fn first_seen(self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// RMSNorm ahead of a matrix: `x · gain / √(mean(x²) + eps)`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Norm {
    /// The gain vector.
    pub gain: WeightId,
    /// Added to the mean square.
    pub eps: f32,
}

/// What becomes of the product of a [`Op::Linear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Then {
    /// It is the output.
    Store,
    /// It is added to the output buffer: the residual stream.
    Add,
    /// `silu(y[i]) · y[i + n/2]`: the gated unit over a paired matrix; half as wide as the matrix
    /// has rows.
    SwiGlu,
}

/// A product with a matrix: `out = then(norm(x) · weightᵀ + bias)`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Linear {
    /// The matrix, [n_out, n_in].
    pub weight: WeightId,
    /// Added to the product, `[n_out]`.
    pub bias: Option<WeightId>,
    /// Applied to the input first.
    pub norm: Option<Norm>,
    /// Input, [n_tokens, n_in].
    pub x: BufferId,
    /// Output, [n_tokens, n_out], or half of n_out for [`Then::SwiGlu`].
    pub out: BufferId,
    /// What becomes of the product.
    pub then: Then,
}

/// Products with the matrices of the experts that each token was routed to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Experts {
    /// A matrix for each expert, [n_experts, n_out, n_in].
    pub weight: WeightId,
    /// Added to the products, [n_experts, n_out].
    pub bias: Option<WeightId>,
    /// Applied to the input first.
    pub norm: Option<Norm>,
    /// Experts of the layer.
    pub n_experts: usize,
    /// Experts of a token.
    pub n_used: usize,
    /// Input, see [`ThenExperts`].
    pub x: BufferId,
    /// Which experts and with what weights, as [`Op::Route`] writes them.
    pub routing: BufferId,
    /// Output, see [`ThenExperts`].
    pub out: BufferId,
    /// What becomes of the products.
    pub then: ThenExperts,
}

/// What becomes of the products of [`Op::Experts`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ThenExperts {
    /// The gated unit of gpt-oss, over matrices whose rows are gates, then ups:
    /// `g · sigmoid(1.702 g) · (u + 1)` with `g` at most `limit`, `u` within `±limit`. From
    /// [n_tokens, n_in] to [n_tokens, n_used, n_out / 2].
    SwiGlu {
        /// The bound.
        limit: f32,
    },
    /// Products are weighted and added to the output: from [n_tokens, n_used, n_in] to
    /// [n_tokens, n_out].
    Add,
}

/// Steepness of the sigmoid in [`ThenExperts::SwiGlu`].
pub const SWIGLU_ALPHA: f32 = 1.702;

/// One step of a plan.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Rows of a table for the chunk's tokens: `out[t] = table[tokens[t]]`.
    Embed {
        /// The table, [n_vocab, width].
        table: WeightId,
        /// Output, [n_tokens, width].
        out: BufferId,
    },
    /// A product with a matrix.
    Linear(Linear),
    /// Rotates the queries of `qkv` in place and the keys on their way into the cache; values go
    /// to the cache as they are.
    Rope {
        /// Queries, keys and values side by side, [n_tokens, `heads.qkv_width()`].
        qkv: BufferId,
        /// Receives keys and values at the tokens' positions.
        cache: CacheId,
        /// Shape of `qkv`.
        heads: Heads,
        /// Which elements rotate together.
        pairing: RopePairing,
        /// Elements of a head that rotate.
        n_rot: usize,
    },
    /// Causal attention of the chunk's queries over the cache, within its window.
    Attention {
        /// Rotated queries in the first columns, [n_tokens, `heads.qkv_width()`].
        qkv: BufferId,
        /// Keys and values of all positions up to the chunk's last.
        cache: CacheId,
        /// Output, [n_tokens, `heads.q_width()`].
        out: BufferId,
        /// Shape of `qkv`.
        heads: Heads,
        /// Factor on the dot products, usually `1/√head_dim`.
        scale: f32,
        /// For each query head the score of a key without a value, `[n_heads]`: it takes weight from
        /// all others.
        sinks: Option<WeightId>,
    },
    /// The experts of each token: those of the `n_used` largest logits, the lowest index among equals,
    /// weighted by a softmax over these logits.
    Route {
        /// The router's logits, [n_tokens, n_experts].
        logits: BufferId,
        /// Experts of a token.
        n_used: usize,
        /// Output: the experts' indices as numbers, then their weights, [n_tokens, 2 · n_used].
        out: BufferId,
    },
    /// Products with the matrices of these experts.
    Experts(Experts),
}

impl Op {
    /// Whether it writes keys and values. What follows the last that does makes outputs, which no later position needs.
    pub const fn writes_cache(&self) -> bool {
        matches!(self, Self::Rope { .. })
    }
}

/// A model's computation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The weights that the operations name.
    pub weights: WeightTable,
    /// How exact keys and values are to be held.
    pub precision: Precision,
    /// The activation buffers that the operations name.
    pub buffers: Vec<Buffer>,
    /// The key/value caches that the operations name.
    pub caches: Vec<CacheShape>,
    /// Frequencies of rotary embeddings.
    pub rope: rope::RopeTable,
    /// From tokens to the residual stream after the last layer; `hidden` holds it.
    pub layers: Vec<Op>,
    /// Counts of operations after which `hidden` is the embedding, and the output of each layer.
    pub layer_ends: Vec<usize>,
    /// From a row of `hidden` to logits.
    pub head: Linear,
    /// Number of logits.
    pub n_vocab: usize,
}

impl Plan {
    /// The same with caches that hold `numbers`.
    #[must_use]
    pub fn with_cache_numbers(mut self, numbers: CacheNumbers) -> Self {
        self.caches.iter_mut().for_each(|cache| cache.numbers = numbers);
        self
    }

    /// Bytes of packed weights that one decoded token needs: each matrix once, of experts those in use,
    /// of the embedding a row.
    pub fn weight_bytes_per_token(&self) -> u64 {
        let bytes = |id: WeightId| {
            let weight = self.weights.get(id);
            weight.segments.iter().map(|segment| segment.packed_bytes(weight.n_cols)).sum::<u64>()
        };
        let layers = self.layers.iter().map(|op| match *op {
            Op::Embed { table, .. } => bytes(table) / self.weights.get(table).n_rows as u64,
            Op::Linear(linear) => bytes(linear.weight),
            Op::Experts(Experts { weight, n_experts, n_used, .. }) => {
                bytes(weight) * n_used as u64 / n_experts as u64
            }
            Op::Rope { .. } | Op::Attention { .. } | Op::Route { .. } => 0,
        });
        layers.sum::<u64>() + bytes(self.head.weight)
    }
}
