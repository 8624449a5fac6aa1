// Units of a packed matrix: what one word of four numbers holds, 4 to 32 columns of a row.
//
// `quants` and `scales` are declared by the importing shader, as for block.wgsl. Threads that are
// neighbours take neighbouring units, so that their reads are one. An input lies in workgroup memory,
// in `staged`: the first vectors of all units, then their second ones, and so on.

#ifdef DENSE16
const UNIT_WORDS: u32 = 2u;
#else
#ifdef LAYOUT_F32
const UNIT_WORDS: u32 = 1u;
#else
#ifdef INT8
const UNIT_WORDS: u32 = 4u;
#else
const UNIT_WORDS: u32 = 8u;
#endif
#endif
#endif

const UNITS_A_BLOCK: u32 = 8u / UNIT_WORDS;

var<workgroup> staged: array<vec4<f32>, STAGED_WORDS>;

// Where vector `word` of the input is staged.
fn staged_at(word: u32, n_units: u32) -> u32 {
    return word % UNIT_WORDS * n_units + word / UNIT_WORDS;
}

#ifdef DENSE16
struct Unit {
    v0: vec4<f32>, v1: vec4<f32>,
}

fn staged_unit(unit: u32, n_units: u32) -> Unit {
    return Unit(staged[unit], staged[n_units + unit]);
}

fn unit_sum(x: Unit) -> f32 {
    return 0.0;
}

fn unit_dot(row: u32, unit: u32, n_blocks: u32, x: Unit, x_sum: f32) -> f32 {
    let q = quants[row * n_blocks * 4u + unit];
    return sum4(two_halves(q.x, q.y) * x.v0 + two_halves(q.z, q.w) * x.v1);
}
#else
#ifdef LAYOUT_F32
alias Unit = vec4<f32>;

fn staged_unit(unit: u32, n_units: u32) -> Unit {
    return staged[unit];
}

fn unit_sum(x: Unit) -> f32 {
    return 0.0;
}

fn unit_dot(row: u32, unit: u32, n_blocks: u32, x: Unit, x_sum: f32) -> f32 {
    return dot(bitcast<vec4<f32>>(quants[row * n_blocks * 8u + unit]), x);
}
#else
#ifdef INT8
struct Unit {
    v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>,
}

// In the order of the codes, see block.wgsl.
fn staged_unit(unit: u32, n_units: u32) -> Unit {
    let a = staged[unit];
    let b = staged[n_units + unit];
    let c = staged[2u * n_units + unit];
    let d = staged[3u * n_units + unit];
    return Unit(
        vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y),
        vec4<f32>(a.z, b.z, c.z, d.z), vec4<f32>(a.w, b.w, c.w, d.w),
    );
}

fn unit_sum(x: Unit) -> f32 {
#ifdef AFFINE
    return sum4(x.v0 + x.v1 + x.v2 + x.v3);
#else
    return 0.0;
#endif
}

fn unit_dot(row: u32, unit: u32, n_blocks: u32, x: Unit, x_sum: f32) -> f32 {
    let q = quants[row * n_blocks * 2u + unit];
    let product = sum4(signed_bytes(q, 24u) * x.v0 + signed_bytes(q, 16u) * x.v1
        + signed_bytes(q, 8u) * x.v2 + signed_bytes(q, 0u) * x.v3);
    let block = unit / 2u;
#ifdef LAYOUT_I8
    return load_scale(row, block, n_blocks) * product;
#else
    let pair = unpack2x16float(scales[row * n_blocks + block]);
#ifdef AFFINE
    return pair.x * product + pair.y * x_sum;
#else
    return select(pair.x, pair.y, unit % 2u == 1u) * product;
#endif
#endif
}
#else
// Whole blocks.
alias Unit = Block;

fn staged_unit(unit: u32, n_units: u32) -> Unit {
    let s = n_units;
    return arranged(Block(staged[unit], staged[s + unit], staged[2u * s + unit], staged[3u * s + unit],
        staged[4u * s + unit], staged[5u * s + unit], staged[6u * s + unit], staged[7u * s + unit]));
}

fn unit_sum(x: Unit) -> f32 {
#ifdef AFFINE
    return block_sum(x);
#else
    return 0.0;
#endif
}

fn unit_dot(row: u32, unit: u32, n_blocks: u32, x: Unit, x_sum: f32) -> f32 {
    return dot_with(row, unit, n_blocks, x, x_sum);
}
#endif
#endif
#endif
