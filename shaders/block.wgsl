// Blocks of 32 columns of a packed matrix: the device form of weights::Layout.
//
// `quants` and `scales` are declared by the importing shader, [n_rows, row words] each. One of
// LAYOUT_U4, LAYOUT_FP4, LAYOUT_I8, LAYOUT_I8_GROUP16, LAYOUT_I8_AFFINE, LAYOUT_F16, LAYOUT_BF16, LAYOUT_F32 is
// defined.
//
// Codes are taken from four words at once, so that a vector of codes has its elements four columns
// apart: each half of a block comes transposed. Products use inputs in that order (`arranged`), which
// costs nothing when several rows share an input; `load_block` gives the columns' own order.

struct Block {
    v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
    v4: vec4<f32>, v5: vec4<f32>, v6: vec4<f32>, v7: vec4<f32>,
}

fn sum4(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

fn block_sum(x: Block) -> f32 {
    return sum4(x.v0 + x.v1 + x.v2 + x.v3 + x.v4 + x.v5 + x.v6 + x.v7);
}

fn block_dot(a: Block, b: Block) -> f32 {
    return sum4(a.v0 * b.v0 + a.v1 * b.v1 + a.v2 * b.v2 + a.v3 * b.v3
        + a.v4 * b.v4 + a.v5 * b.v5 + a.v6 * b.v6 + a.v7 * b.v7);
}

fn block_scale(a: Block, d: f32, m: f32) -> Block {
    return Block(a.v0 * d + m, a.v1 * d + m, a.v2 * d + m, a.v3 * d + m,
        a.v4 * d + m, a.v5 * d + m, a.v6 * d + m, a.v7 * d + m);
}

fn transposed(a: Block) -> Block {
    return Block(
        vec4<f32>(a.v0.x, a.v1.x, a.v2.x, a.v3.x), vec4<f32>(a.v0.y, a.v1.y, a.v2.y, a.v3.y),
        vec4<f32>(a.v0.z, a.v1.z, a.v2.z, a.v3.z), vec4<f32>(a.v0.w, a.v1.w, a.v2.w, a.v3.w),
        vec4<f32>(a.v4.x, a.v5.x, a.v6.x, a.v7.x), vec4<f32>(a.v4.y, a.v5.y, a.v6.y, a.v7.y),
        vec4<f32>(a.v4.z, a.v5.z, a.v6.z, a.v7.z), vec4<f32>(a.v4.w, a.v5.w, a.v6.w, a.v7.w),
    );
}

// An input block in the order that `dot_with` wants.
fn arranged(x: Block) -> Block {
#ifdef DENSE
    return x;
#else
#ifdef CODES_IN_SUBGROUP
    return held_products(transposed(x));
#else
    return transposed(x);
#endif
#endif
}

#ifdef LAYOUT_U4
fn nibbles(words: vec4<u32>, shift: u32) -> vec4<f32> {
    return vec4<f32>((words >> vec4<u32>(shift)) & vec4<u32>(15u));
}

fn block_codes(row: u32, block: u32, n_blocks: u32) -> Block {
    let q = quants[row * n_blocks + block];
    return Block(nibbles(q, 0u), nibbles(q, 8u), nibbles(q, 16u), nibbles(q, 24u),
        nibbles(q, 4u), nibbles(q, 12u), nibbles(q, 20u), nibbles(q, 28u));
}
#endif

#ifdef LAYOUT_FP4
#ifdef HALF_CODES
// Codes are read as f16: their lower three bits become the lower two of the exponent and the highest of
// the mantissa, so that numbers come out 2^14 times too small, among them a subnormal one. Two codes
// that are 16 bits apart are read at once.
const TO_DOUBLED: f32 = 32768.0;

struct Halves {
    lower: vec4<f32>,
    upper: vec4<f32>,
}

// Codes whose signs and lower bits are in their places.
fn halves(signs: vec4<u32>, steps: vec4<u32>) -> Halves {
    let p = (signs & vec4<u32>(0x80008000u)) | (steps & vec4<u32>(0x0e000e00u));
    let a = unpack2x16float(p.x);
    let b = unpack2x16float(p.y);
    let c = unpack2x16float(p.z);
    let d = unpack2x16float(p.w);
    return Halves(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}

fn block_codes(row: u32, block: u32, n_blocks: u32) -> Block {
    let q = quants[row * n_blocks + block];
    let h0 = halves(q << vec4<u32>(12u), q << vec4<u32>(9u));
    let h4 = halves(q << vec4<u32>(8u), q << vec4<u32>(5u));
    let h8 = halves(q << vec4<u32>(4u), q << vec4<u32>(1u));
    let h12 = halves(q, q >> vec4<u32>(3u));
    return Block(h0.lower, h8.lower, h0.upper, h8.upper, h4.lower, h12.lower, h4.upper, h12.upper);
}
#else
const TO_DOUBLED: f32 = 1.0;

// Twice the magnitudes of E2M1 codes, by their lower three bits: 0, 1, 2, 3, 4, 6, 8, 12. They lie on a convex
// line of three slopes.
fn doubled_magnitudes(steps: vec4<u32>) -> vec4<f32> {
    let step = vec4<f32>(steps);
    return max(step, max(2.0 * step - 4.0, 4.0 * step - 16.0));
}

// Twice the values of four E2M1 codes, `shift` bits up: magnitudes negated by bit 3.
fn doubled_e2m1(words: vec4<u32>, shift: u32) -> vec4<f32> {
    let magnitudes = doubled_magnitudes((words >> vec4<u32>(shift)) & vec4<u32>(7u));
    let sign = (words << vec4<u32>(28u - shift)) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(magnitudes) | sign);
}

fn block_codes(row: u32, block: u32, n_blocks: u32) -> Block {
    let q = quants[row * n_blocks + block];
    return Block(doubled_e2m1(q, 0u), doubled_e2m1(q, 8u), doubled_e2m1(q, 16u), doubled_e2m1(q, 24u),
        doubled_e2m1(q, 4u), doubled_e2m1(q, 12u), doubled_e2m1(q, 20u), doubled_e2m1(q, 28u));
}
#endif

// Half the scale in byte `place` of a word, to go with doubled codes: 2^(s − 128). Below the normal numbers it
// is zero.
fn half_scale(word: u32, place: u32) -> f32 {
    let exponent = (word >> (place * 8u)) & 255u;
    return bitcast<f32>((max(exponent, 1u) - 1u) << 23u);
}

fn load_scales(row: u32, block: u32, n_blocks: u32) -> u32 {
    return scales[row * ((n_blocks + 3u) / 4u) + block / 4u];
}

fn load_scale(row: u32, block: u32, n_blocks: u32) -> f32 {
    return half_scale(load_scales(row, block, n_blocks), block % 4u);
}

fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let doubled = block_scale(block_codes(row, block, n_blocks), TO_DOUBLED, 0.0);
    return transposed(block_scale(doubled, load_scale(row, block, n_blocks), 0.0));
}

#ifdef CODES_IN_SUBGROUP
// The first eight threads of the subgroup hold a magnitude each.
var<private> held_magnitude: f32;

fn hold_magnitude(thread: u32) {
    held_magnitude = doubled_magnitudes(vec4<u32>(thread % 8u)).x;
}

// Of each input the product with the magnitude that the thread holds.
fn held_products(x: Block) -> Block {
    return block_scale(x, held_magnitude, 0.0);
}

// Products of four inputs with four codes, `shift` bits up, from the threads that hold them.
fn products(words: vec4<u32>, shift: u32, held: vec4<f32>) -> vec4<f32> {
    let step = (words >> vec4<u32>(shift)) & vec4<u32>(7u);
    let magnitudes = vec4<f32>(subgroupShuffle(held.x, step.x), subgroupShuffle(held.y, step.y),
        subgroupShuffle(held.z, step.z), subgroupShuffle(held.w, step.w));
    let sign = (words << vec4<u32>(28u - shift)) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(magnitudes) ^ sign);
}

fn codes_dot(row: u32, block: u32, n_blocks: u32, x: Block) -> f32 {
    let q = quants[row * n_blocks + block];
    return sum4(products(q, 0u, x.v0) + products(q, 8u, x.v1) + products(q, 16u, x.v2) + products(q, 24u, x.v3)
        + products(q, 4u, x.v4) + products(q, 12u, x.v5) + products(q, 20u, x.v6) + products(q, 28u, x.v7));
}
#else
fn codes_dot(row: u32, block: u32, n_blocks: u32, x: Block) -> f32 {
    return block_dot(block_codes(row, block, n_blocks), x);
}
#endif

fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    return load_scale(row, block, n_blocks) * (TO_DOUBLED * codes_dot(row, block, n_blocks, x));
}

// Four neighbouring blocks.
struct Quad {
    b0: Block, b1: Block, b2: Block, b3: Block,
}

// The product of the four blocks from `block` on, whose scales are in one word, with the arranged input `x`, which
// is zero beyond the row.
fn quad_dot(row: u32, block: u32, n_blocks: u32, x: Quad) -> f32 {
    let word = load_scales(row, block, n_blocks);
    let last = n_blocks - 1u;
    return half_scale(word, 0u) * (TO_DOUBLED * codes_dot(row, block, n_blocks, x.b0))
        + half_scale(word, 1u) * (TO_DOUBLED * codes_dot(row, min(block + 1u, last), n_blocks, x.b1))
        + half_scale(word, 2u) * (TO_DOUBLED * codes_dot(row, min(block + 2u, last), n_blocks, x.b2))
        + half_scale(word, 3u) * (TO_DOUBLED * codes_dot(row, min(block + 3u, last), n_blocks, x.b3));
}
#endif

#ifdef INT8
// Signed bytes whose upper neighbours are `shift` bits.
fn signed_bytes(words: vec4<u32>, shift: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(words << vec4<u32>(shift)) >> vec4<u32>(24u));
}

fn block_codes(row: u32, block: u32, n_blocks: u32) -> Block {
    let at = (row * n_blocks + block) * 2u;
    let a = quants[at];
    let b = quants[at + 1u];
    return Block(
        signed_bytes(a, 24u), signed_bytes(a, 16u), signed_bytes(a, 8u), signed_bytes(a, 0u),
        signed_bytes(b, 24u), signed_bytes(b, 16u), signed_bytes(b, 8u), signed_bytes(b, 0u),
    );
}
#endif

#ifdef AFFINE
// The pair (factor, addend) of a block.
fn block_pair(row: u32, block: u32, n_blocks: u32) -> vec2<f32> {
    return unpack2x16float(scales[row * n_blocks + block]);
}

fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let pair = block_pair(row, block, n_blocks);
    return transposed(block_scale(block_codes(row, block, n_blocks), pair.x, pair.y));
}

// The product of a block of the matrix with the arranged input `x`, whose sum is `x_sum`.
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
    let codes = block_codes(row, block, n_blocks);
    return transposed(block_scale(codes, load_scale(row, block, n_blocks), 0.0));
}

fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    return load_scale(row, block, n_blocks) * block_dot(block_codes(row, block, n_blocks), x);
}
#endif

#ifdef LAYOUT_I8_GROUP16
fn load_block(row: u32, block: u32, n_blocks: u32) -> Block {
    let pair = unpack2x16float(scales[row * n_blocks + block]);
    let q = block_codes(row, block, n_blocks);
    return transposed(Block(q.v0 * pair.x, q.v1 * pair.x, q.v2 * pair.x, q.v3 * pair.x,
        q.v4 * pair.y, q.v5 * pair.y, q.v6 * pair.y, q.v7 * pair.y));
}

fn dot_with(row: u32, block: u32, n_blocks: u32, x: Block, x_sum: f32) -> f32 {
    let pair = unpack2x16float(scales[row * n_blocks + block]);
    let q = block_codes(row, block, n_blocks);
    return pair.x * sum4(q.v0 * x.v0 + q.v1 * x.v1 + q.v2 * x.v2 + q.v3 * x.v3)
        + pair.y * sum4(q.v4 * x.v4 + q.v5 * x.v5 + q.v6 * x.v6 + q.v7 * x.v7);
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
