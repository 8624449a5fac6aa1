// Blocks of 32 columns of an input row, `x`, and its gain, which the importing shader declares.
//
// With BROADCAST all threads of a subgroup ask for the same block: each loads a vector of it, of subgroups of 4
// (BROADCAST_4) two, and they exchange these. Where threads are lanes of a CPU's vectors, each would load
// the whole block by itself otherwise.

#ifdef BROADCAST
// Of 8 vectors from `at` on.
fn input_block(at: u32, thread: u32) -> Block {
#ifdef BROADCAST_4
    let a = x[at + thread % 4u];
    let b = x[at + 4u + thread % 4u];
    return Block(
        subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u),
        subgroupBroadcast(b, 0u), subgroupBroadcast(b, 1u), subgroupBroadcast(b, 2u), subgroupBroadcast(b, 3u));
#else
    let a = x[at + thread % 8u];
    return Block(
        subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u),
        subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u), subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u));
#endif
}
#else
fn input_block(at: u32, thread: u32) -> Block {
    return Block(x[at], x[at + 1u], x[at + 2u], x[at + 3u],
        x[at + 4u], x[at + 5u], x[at + 6u], x[at + 7u]);
}
#endif

#ifdef NORM
// A block of the input times that of the gain at `at`.
fn gained(b: Block, at: u32) -> Block {
    return Block(b.v0 * gain[at], b.v1 * gain[at + 1u], b.v2 * gain[at + 2u], b.v3 * gain[at + 3u],
        b.v4 * gain[at + 4u], b.v5 * gain[at + 5u], b.v6 * gain[at + 6u], b.v7 * gain[at + 7u]);
}
#endif
