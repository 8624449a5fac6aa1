//! How far the distribution of the next token is from another.

/// Probabilities of every token.
fn distribution(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The Kullback-Leibler divergence in nats, `Σ p ln(p / q)`.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// The mean divergence of the distributions that `found`, logits of some positions, gives from those of `expected`.
pub fn mean_divergence(expected: &[f32], found: &[f32], n_vocab: usize) -> f64 {
    let rows = expected.chunks_exact(n_vocab).zip(found.chunks_exact(n_vocab));
    let divergences = rows.map(|(p, q)| divergence(&distribution(p), &distribution(q)));
    divergences.sum::<f64>() / (expected.len() / n_vocab) as f64
}
