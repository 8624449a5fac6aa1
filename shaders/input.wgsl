// Blocks of 32 columns of an input row, `x`, and its gain, which the importing shader declares.

fn input_block(at: u32) -> Block {
    return Block(x[at], x[at + 1u], x[at + 2u], x[at + 3u],
        x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
}

#ifdef NORM
// A block of the input times that of the gain at `at`.
fn gained(b: Block, at: u32) -> Block {
    return Block(b.v0 * gain[at], b.v1 * gain[at + 1u], b.v2 * gain[at + 2u], b.v3 * gain[at + 3u],
        b.v4 * gain[at + 4u], b.v5 * gain[at + 5u], b.v6 * gain[at + 6u], b.v7 * gain[at + 7u]);
}
#endif
