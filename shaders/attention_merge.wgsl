// Joins the splits of attention for one token: results scaled to their common maximum.
//
// Grid: (heads, splits): the second dimension only tells the number of splits; its first row works.

struct Params {
    head_dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> splits: array<f32>;         // [n_heads, n_splits, head_dim + 2]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;      // [n_heads · head_dim]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if (workgroup.y > 0u) {
        return;
    }
    let n_splits = n_workgroups.y;
    let width = params.head_dim + 2u;
    let start = workgroup.x * n_splits * width;
    var largest = -3.0e38;
    for (var i = 0u; i < n_splits; i++) {
        largest = max(largest, splits[start + i * width + params.head_dim]);
    }
    for (var element = thread; element < params.head_dim; element += 64u) {
        var result = 0.0;
        var total = 0.0;
        for (var i = 0u; i < n_splits; i++) {
            let at = start + i * width;
            let weight = exp(splits[at + params.head_dim] - largest);
            result += weight * splits[at + element];
            total += weight * splits[at + params.head_dim + 1u];
        }
        out[workgroup.x * params.head_dim + element] = result / total;
    }
}
