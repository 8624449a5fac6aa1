// Blocks of 32 columns of a packed matrix: the device form of weights::Layout.
//
// `quants` and `scales` are declared by the importing shader, [n_rows, row words] each. One of
// LAYOUT_U4, LAYOUT_I8, LAYOUT_I8_GROUP16, LAYOUT_I8_AFFINE, LAYOUT_F16, LAYOUT_BF16, LAYOUT_F32 is
// defined.

// 32 successive elements, and their sum where a product with affine codes needs it.
struct Block {
    v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
    v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>,
}

fn block_sum(x: Block) -> f32 {
    return dot(x.v0 + x.v1 + x.v2 + x.v3 + x.v4 + x.v5 + x.v6 + x.v7, vec4<f32>(1.0));
}

fn block_dot(a: Block, b: Block) -> f32 {
    return dot(a.v0, b.v0) + dot(a.v1, b.v1) + dot(a.v2, b.v2) + dot(a.v3, b.v3)
        + dot(a.v4, b.v4) + dot(a.v5, b.v5) + dot(a.v6, b.v6) + dot(a.v7, b.v7);
}

fn block_scale(a: Block, d: f32, m: f32) -> Block {
    return Block(a.v0 * d + m, a.v1 * d + m, a.v2 * d + m, a.v3 * d + m,
        a.v4 * d + m, a.v5 * d + m, a.v6 * d + m, a.v7 * d + m);
}

#ifdef LAYOUT_U4
fn low_codes(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu));
}

fn high_codes(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8((word >> 4u) & 0x0f0f0f0fu));
}

fn block_codes(row: u32, block: u32, n_blocks: u32) -> Block {
    let q = quants[row * n_blocks + block];
    return Block(low_codes(q.x), low_codes(q.y), low_codes(q.z), low_codes(q.w),
        high_codes(q.x), high_codes(q.y), high_codes(q.z), high_codes(q.w));
}
#endif

#ifdef INT8
fn signed_codes(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word));
}

fn block_codes(row: u32, block: u32, n_blocks: u32) -> Block {
    let at = (row * n_blocks + block) * 2u;
    let a = quants[at];
    let b = quants[at + 1u];
    return Block(signed_codes(a.x), signed_codes(a.y), signed_codes(a.z), signed_codes(a.w),
        signed_codes(b.x), signed_codes(b.y), signed_codes(b.z), signed_codes(b.w));
}
#endif

#ifdef AFFINE
// The pair (factor, addend) of a block.
fn block_pair(row: u32, block: u32, n_blocks: u32) -> vec2<f32> {
    return unpack2x16float(scales[row * n_blocks + block]);
}

fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let pair = block_pair(row, block, n_blocks);
    return block_scale(block_codes(row, block, n_blocks), pair.x, pair.y);
}

// The product of a block of the matrix with `x`, whose sum is `x_sum`.
fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    let pair = block_pair(row, block, n_blocks);
    return pair.x * block_dot(block_codes(row, block, n_blocks), x) + pair.y * x_sum;
}
#endif

#ifdef LAYOUT_I8
fn load_scale(row: u32, block: u32, n_blocks: u32) -> f32 {
    let pair = unpack2x16float(scales[row * ((n_blocks + 1u) / 2u) + block / 2u]);
    return select(pair.x, pair.y, block % 2u == 1u);
}

fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    return block_scale(block_codes(row, block, n_blocks), load_scale(row, block, n_blocks), 0.0);
}

fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    return load_scale(row, block, n_blocks) * block_dot(block_codes(row, block, n_blocks), x);
}
#endif

#ifdef LAYOUT_I8_GROUP16
fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let pair = unpack2x16float(scales[row * n_blocks + block]);
    let q = block_codes(row, block, n_blocks);
    return Block(q.v0 * pair.x, q.v1 * pair.x, q.v2 * pair.x, q.v3 * pair.x,
        q.v4 * pair.y, q.v5 * pair.y, q.v6 * pair.y, q.v7 * pair.y);
}

fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    return block_dot(load_block(row, block, n_blocks), x);
}
#endif

#ifdef LAYOUT_F16
fn two_halves(a: u32, b: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}
#endif

#ifdef LAYOUT_BF16
fn two_halves(a: u32, b: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}
#endif

#ifdef DENSE16
fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let at = (row * n_blocks + block) * 4u;
    let a = quants[at];
    let b = quants[at + 1u];
    let c = quants[at + 2u];
    let d = quants[at + 3u];
    return Block(two_halves(a.x, a.y), two_halves(a.z, a.w), two_halves(b.x, b.y),
        two_halves(b.z, b.w), two_halves(c.x, c.y), two_halves(c.z, c.w),
        two_halves(d.x, d.y), two_halves(d.z, d.w));
}
#endif

#ifdef LAYOUT_F32
fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let at = (row * n_blocks + block) * 8u;
    return Block(bitcast<vec4<f32>>(quants[at]), bitcast<vec4<f32>>(quants[at + 1u]),
        bitcast<vec4<f32>>(quants[at + 2u]), bitcast<vec4<f32>>(quants[at + 3u]),
        bitcast<vec4<f32>>(quants[at + 4u]), bitcast<vec4<f32>>(quants[at + 5u]),
        bitcast<vec4<f32>>(quants[at + 6u]), bitcast<vec4<f32>>(quants[at + 7u]));
}
#endif

#ifdef DENSE
fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    return block_dot(load_block(row, block, n_blocks), x);
}
#endif
