//! Each operation in its plainest form, in double precision: the oracle of tests.
//!
//! Nothing here is fast, and nothing is shared with what it checks but [`unpack_row`], whose results
//! are compared with the file's own decoding.

use crate::{
    config::RopePairing,
    ops::{Heads, SWIGLU_ALPHA, Then, ThenExperts},
    sampler::{EXCLUDED, IN_PROMPT, SamplingParams},
    weights::{Layout, pack::unpack_row},
};

/// A packed matrix decoded row by row.
pub fn decode_matrix(
    layout: Layout,
    n_rows: usize,
    n_cols: usize,
    quants: &[u8],
    scales: &[u8],
) -> Vec<f32> {
    let (q, s) = (layout.quants_row_bytes(n_cols), layout.scales_row_bytes(n_cols));
    let mut matrix = vec![0.0; n_rows * n_cols];
    for (i, row) in matrix.chunks_exact_mut(n_cols).enumerate() {
        unpack_row(layout, &quants[i * q..][..q], &scales[i * s..][..s], row);
    }
    matrix
}

/// RMSNorm of each row of `x`, [n_tokens, n].
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32) -> Vec<f32> {
    x.chunks_exact(gain.len())
        .flat_map(|row| {
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let factor = 1.0 / (squares / row.len() as f64 + f64::from(eps)).sqrt();
            row.iter()
                .zip(gain)
                .map(move |(&x, &gain)| (f64::from(x) * factor * f64::from(gain)) as f32)
        })
        .collect()
}

/// `then(x · matrixᵀ + bias)`; `out` holds the residual for [`Then::Add`].
pub fn linear(
    x: &[f32],
    matrix: &[f32],
    n_cols: usize,
    bias: Option<&[f32]>,
    then: Then,
    out: &mut [f32],
) {
    let n_rows = matrix.len() / n_cols;
    for (t, x) in x.chunks_exact(n_cols).enumerate() {
        let product: Vec<f64> = matrix
            .chunks_exact(n_cols)
            .enumerate()
            .map(|(i, row)| {
                let dot: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                dot + bias.map_or(0.0, |bias| f64::from(bias[i]))
            })
            .collect();
        match then {
            Then::Store => {
                for (out, y) in out[t * n_rows..].iter_mut().zip(&product) {
                    *out = *y as f32;
                }
            }
            Then::Add => {
                for (out, y) in out[t * n_rows..].iter_mut().zip(&product) {
                    *out = (f64::from(*out) + y) as f32;
                }
            }
            Then::SwiGlu => {
                let half = n_rows / 2;
                let (gate, up) = product.split_at(half);
                let out = out[t * half..][..half].iter_mut();
                for ((out, gate), up) in out.zip(gate).zip(up) {
                    *out = (gate / (1.0 + (-gate).exp()) * up) as f32;
                }
            }
        }
    }
}

/// Rotates the first `n_rot` elements of each head of `row` for `position`.
pub fn rope(
    row: &mut [f32],
    head_dim: usize,
    frequencies: &[f64],
    magnitude: f32,
    position: usize,
    pairing: RopePairing,
) {
    for head in row.chunks_exact_mut(head_dim) {
        for (pair, frequency) in frequencies.iter().enumerate() {
            let (s, c) = (position as f64 * frequency).sin_cos();
            let (s, c) = (s * f64::from(magnitude), c * f64::from(magnitude));
            let (i, j) = match pairing {
                RopePairing::Adjacent => (2 * pair, 2 * pair + 1),
                RopePairing::Halves => (pair, pair + frequencies.len()),
            };
            let (a, b) = (f64::from(head[i]), f64::from(head[j]));
            (head[i], head[j]) = ((a * c - b * s) as f32, (a * s + b * c) as f32);
        }
    }
}

/// Attention of one token's rotated queries, `[q_width]`, over `keys` and `values`, [n_keys, kv_width]:
/// what the token sees. `sinks`, `[n_heads]`, are scores without values.
pub fn attention(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    heads: Heads,
    scale: f32,
    sinks: Option<&[f32]>,
) -> Vec<f32> {
    let Heads { n_heads, n_kv_heads, head_dim } = heads;
    let n_keys = keys.len() / heads.kv_width();
    let mut out = Vec::with_capacity(q.len());
    for head in 0..n_heads {
        let column = head / (n_heads / n_kv_heads) * head_dim;
        let at = |position: usize| position * heads.kv_width() + column;
        let query = &q[head * head_dim..][..head_dim];
        let scores: Vec<f64> = (0..n_keys)
            .map(|position| {
                let key = &keys[at(position)..][..head_dim];
                let dot: f64 =
                    query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                dot * f64::from(scale)
            })
            .collect();
        let sink = sinks.map_or(f64::NEG_INFINITY, |sinks| f64::from(sinks[head]));
        let largest = scores.iter().fold(sink, |a, &b| a.max(b));
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = weights.iter().sum::<f64>() + (sink - largest).exp();
        out.extend((0..head_dim).map(|i| {
            let weighted = weights.iter().enumerate();
            let value: f64 = weighted.map(|(p, w)| w * f64::from(values[at(p) + i])).sum();
            (value / sum) as f32
        }));
    }
    out
}

/// The probability with which each token is drawn from `logits`; `counts` are the tokens' entries, see
/// [`IN_PROMPT`].
pub fn distribution(params: &SamplingParams, logits: &[f32], counts: &[u32]) -> Vec<f64> {
    let biases = params.biases(logits.len());
    let scaled: Vec<f64> = logits
        .iter()
        .enumerate()
        .map(|(token, &logit)| {
            let bias = biases.get(token).copied().unwrap_or_default();
            if bias == EXCLUDED {
                return f64::NEG_INFINITY;
            }
            let (logit, penalty) = (f64::from(logit), f64::from(params.repetition_penalty));
            let penalized = match counts[token] {
                0 => logit,
                _ if logit > 0.0 => logit / penalty,
                _ => logit * penalty,
            };
            let n_generated = counts[token] & !IN_PROMPT;
            let frequency = f64::from(params.frequency_penalty) * f64::from(n_generated);
            let presence = if n_generated > 0 { f64::from(params.presence_penalty) } else { 0.0 };
            (penalized - frequency - presence + f64::from(bias)) / f64::from(params.temperature)
        })
        .collect();
    let mut sorted = scaled.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    if params.top_k > 0 {
        let threshold = sorted[sorted.len().min(params.top_k as usize) - 1];
        sorted.retain(|&value| value >= threshold);
    }
    let weight = |value: f64| (value - sorted[0]).exp();
    let total: f64 = sorted.iter().map(|&value| weight(value)).sum();
    let mut mass = 0.0;
    let reached = sorted.iter().position(|&value| {
        mass += weight(value);
        mass >= f64::from(params.top_p) * total
    });
    let last = sorted[reached.unwrap_or(sorted.len() - 1)];
    let threshold = last.max(sorted[0] + f64::from(params.min_p).ln());
    let kept = |value: f64| if value >= threshold { weight(value) } else { 0.0 };
    let sum: f64 = scaled.iter().map(|&value| kept(value)).sum();
    scaled.iter().map(|&value| kept(value) / sum).collect()
}

/// The `n_used` largest of `logits` in falling order, the lowest index first among equals, and the
/// softmax over them.
pub fn route(logits: &[f32], n_used: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(n_used);
    let weight = |&expert: &usize| f64::from(logits[expert] - logits[order[0]]).exp();
    let sum: f64 = order.iter().map(weight).sum();
    order.iter().map(|expert| (*expert, (weight(expert) / sum) as f32)).collect()
}

/// Matrices of experts, with their biases.
pub struct ExpertMatrices<'a> {
    /// [n_experts, n_rows, n_cols].
    pub matrices: &'a [f32],
    /// [n_experts, n_rows].
    pub biases: Option<&'a [f32]>,
    /// Number of experts.
    pub n_experts: usize,
    /// Number of columns.
    pub n_cols: usize,
}

/// Products of one token with the matrices of `chosen` experts: for [`ThenExperts::SwiGlu`] of `x`,
/// `[n_cols]`, into `out`, [chosen, n_rows / 2]; else of `x`, [chosen, n_cols], added to `out`, `[n_rows]`.
pub fn experts(
    x: &[f32],
    weights: &ExpertMatrices<'_>,
    chosen: &[(usize, f32)],
    then: ThenExperts,
    out: &mut [f32],
) {
    let ExpertMatrices { matrices, biases, n_experts, n_cols } = *weights;
    let n_rows = matrices.len() / n_cols / n_experts;
    let mut sums = vec![0.0; n_rows];
    for (slot, &(expert, weight)) in chosen.iter().enumerate() {
        let x = if then == ThenExperts::Add { &x[slot * n_cols..][..n_cols] } else { x };
        let rows = matrices[expert * n_rows * n_cols..].chunks_exact(n_cols).take(n_rows);
        let product: Vec<f64> = rows
            .enumerate()
            .map(|(i, row)| {
                let dot: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                dot + biases.map_or(0.0, |biases| f64::from(biases[expert * n_rows + i]))
            })
            .collect();
        match then {
            ThenExperts::SwiGlu { limit } => {
                let limit = f64::from(limit);
                let (gates, ups) = product.split_at(n_rows / 2);
                let out = out[slot * n_rows / 2..].iter_mut();
                for ((out, gate), up) in out.zip(gates).zip(ups) {
                    let (gate, up) = (gate.min(limit), up.clamp(-limit, limit));
                    let sigmoid = 1.0 / (1.0 + (-f64::from(SWIGLU_ALPHA) * gate).exp());
                    *out = (gate * sigmoid * (up + 1.0)) as f32;
                }
            }
            ThenExperts::Add => {
                sums.iter_mut().zip(product).for_each(|(sum, y)| *sum += f64::from(weight) * y);
            }
        }
    }
    if then == ThenExperts::Add {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (f64::from(*out) + sum) as f32);
    }
}
