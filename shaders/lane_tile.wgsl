// What a thread computes where threads are lanes of a CPU's vectors: some rows of a matrix times 4 · QUADS inputs.
//
// The importing shader imports block.wgsl and declares `params`. A block of inputs is loaded once for all rows of a
// thread, a block of weights once for all inputs.

struct Inputs {
#repeat q QUADS
#repeat t 4
    b$q_$t: Block,
#end
#end
}

// A number for each token.
struct Tile {
#repeat q QUADS
    q$q: vec4<f32>,
#end
}

// The products of one block of a row with the tokens', added to `sums`.
fn add_products(sums: Tile, row: u32, block: u32, x: Inputs) -> Tile {
    let w = load_block(row, block, params.n_blocks);
    return Tile(
#repeat q QUADS
        sums.q$q + vec4<f32>(
#repeat t 4
            block_dot(w, x.b$q_$t),
#end
        ),
#end
    );
}
