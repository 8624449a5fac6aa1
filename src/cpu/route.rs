//! The experts of each token: twin of `shaders/route.wgsl`.

/// Writes for each row of `logits`, [n_tokens, n_experts], the indices of the `n_used` largest and the
/// softmax over them to `out`, [n_tokens, 2 · n_used].
pub fn route(logits: &[f32], n_experts: usize, n_used: usize, out: &mut [f32]) {
    let rows = logits.chunks_exact(n_experts);
    for (logits, out) in rows.zip(out.chunks_exact_mut(2 * n_used)) {
        let (experts, weights) = out.split_at_mut(n_used);
        for slot in 0..n_used {
            let chosen = &experts[..slot];
            let left = logits.iter().enumerate().filter(|(i, _)| !chosen.contains(&(*i as f32)));
            // The first of equal ones.
            let best =
                left.fold(
                    (0, f32::NEG_INFINITY),
                    |best, (i, &logit)| {
                        if logit > best.1 { (i, logit) } else { best }
                    },
                );
            experts[slot] = best.0 as f32;
            weights[slot] = best.1;
        }
        let largest = weights[0];
        weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
}
