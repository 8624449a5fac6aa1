// Rotated elements of a head, see ops::rope: the rotation of a position is the product of a fine and a
// coarse entry of `rotations`. With HALVES element i rotates with i + n_rot/2, else 2i with 2i + 1.
//
// `params.n_rot`, `rotations` and `qkv` are declared by the importing shader.

fn rotation(position: u32, pair: u32) -> vec2<f32> {
    let n_pairs = params.n_rot / 2u;
    let fine = rotations[position % 256u * n_pairs + pair];
    let coarse = rotations[(256u + position / 256u) * n_pairs + pair];
    return vec2<f32>(fine.x * coarse.x - fine.y * coarse.y, fine.y * coarse.x + fine.x * coarse.y);
}

// Element `i` of the head at `head`, rotated.
fn rotated(head: u32, i: u32, position: u32) -> f32 {
    if (i >= params.n_rot) {
        return qkv[head + i];
    }
#ifdef HALVES
    let n_pairs = params.n_rot / 2u;
    let is_first = i < n_pairs;
    let pair = select(i - n_pairs, i, is_first);
    let other = qkv[head + select(pair, pair + n_pairs, is_first)];
#else
    let pair = i / 2u;
    let is_first = i % 2u == 0u;
    let other = qkv[head + (i ^ 1u)];
#endif
    let r = rotation(position, pair);
    return qkv[head + i] * r.x + select(other, -other, is_first) * r.y;
}
