// What a thread takes of an input row at once: a block of 32 columns, with QUADS four of them.
//
// `params`, `x` and, with NORM, `gain` are declared by the importing shader. With NORM the row comes times the gain, and
// the squares of what was read are summed.
//
// With BROADCAST all threads of a subgroup ask for the same block: each loads a vector of it, of subgroups of 4
// (BROADCAST_4) two, and they exchange these. Where threads are lanes of a CPU's vectors, each would load
// the whole block by itself otherwise.

#ifdef QUADS
// Zero beyond the row, where its last blocks are less than four.
fn read_word(start: u32, word: u32) -> vec4<f32> {
    let n_words = params.n_blocks * 8u;
    return select(vec4<f32>(), x[start + min(word, n_words - 1u)], word < n_words);
}
#else
fn read_word(start: u32, word: u32) -> vec4<f32> {
    return x[start + word];
}
#endif

#ifdef NORM
// The sum of squares of what this thread has read.
var<private> squares: f32;

fn input_word(start: u32, word: u32) -> vec4<f32> {
    let v = read_word(start, word);
    squares += dot(v, v);
    return v * gain[word];
}
#else
fn input_word(start: u32, word: u32) -> vec4<f32> {
    return read_word(start, word);
}
#endif

#ifdef BROADCAST
// A block of the row that starts at `start`.
fn input_block(start: u32, block: u32, thread: u32) -> Block {
    let at = block * 8u;
#ifdef BROADCAST_4
    let a = input_word(start, at + thread);
    let b = input_word(start, at + 4u + thread);
    return Block(
        subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u),
        subgroupBroadcast(b, 0u), subgroupBroadcast(b, 1u), subgroupBroadcast(b, 2u), subgroupBroadcast(b, 3u));
#else
    let a = input_word(start, at + thread % 8u);
    // Chromium compares the subgroup's size with the index of a broadcast, and the product takes half again as long
    // on lavapipe.
    return Block(
        subgroupShuffle(a, 0u), subgroupShuffle(a, 1u), subgroupShuffle(a, 2u), subgroupShuffle(a, 3u),
        subgroupShuffle(a, 4u), subgroupShuffle(a, 5u), subgroupShuffle(a, 6u), subgroupShuffle(a, 7u));
#endif
}
#else
// A block of the row that starts at `start`.
fn input_block(start: u32, block: u32, thread: u32) -> Block {
    let at = block * 8u;
    return Block(
        input_word(start, at), input_word(start, at + 1u), input_word(start, at + 2u), input_word(start, at + 3u),
        input_word(start, at + 4u), input_word(start, at + 5u), input_word(start, at + 6u), input_word(start, at + 7u));
}
#endif

// What products with the row are multiplied with, once the threads that share outputs have read it.
fn norm_factor(thread: u32) -> f32 {
#ifdef NORM
#ifdef STAGED
    // Of the whole row, which stage.wgsl has read.
    let sum = squares;
#else
#ifdef BROADCAST
    // Threads from the ninth on read what others have read.
    let sum = subgroupAdd(squares) * (f32(min(WORKGROUP, 8u)) / f32(WORKGROUP));
#else
    let sum = sum_lanes(squares, thread);
#endif
#endif
    return inverseSqrt(sum / f32(params.n_blocks * 32u) + params.eps);
#else
    return 1.0;
#endif
}

#ifdef QUADS
const BLOCKS_A_TURN: u32 = 4u;

alias Turn = Quad;

fn input_turn(start: u32, block: u32, thread: u32) -> Turn {
    return Quad(
        arranged(input_block(start, block, thread)),
        arranged(input_block(start, block + 1u, thread)),
        arranged(input_block(start, block + 2u, thread)),
        arranged(input_block(start, block + 3u, thread)),
    );
}

fn turn_dot(row: u32, block: u32, n_blocks: u32, x: Turn) -> f32 {
    return quad_dot(row, block, n_blocks, x);
}
#else
const BLOCKS_A_TURN: u32 = 1u;

struct Turn {
    block: Block,
    sum: f32,
}

// The blocks of the row that starts at `start`, from `block` on.
fn input_turn(start: u32, block: u32, thread: u32) -> Turn {
    let b = arranged(input_block(start, block, thread));
    return Turn(b, block_sum(b));
}

// The product of the blocks of a row with those of the input.
fn turn_dot(row: u32, block: u32, n_blocks: u32, x: Turn) -> f32 {
    return dot_with(row, block, n_blocks, x.block, x.sum);
}
#endif
