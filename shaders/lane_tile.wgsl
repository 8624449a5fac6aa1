// What a thread computes where threads are lanes of a CPU's vectors: ROWS rows of a matrix (with SWIGLU gates and their
// ups) times 4 · QUADS inputs.
//
// The importing shader imports block.wgsl and input.wgsl. A block of inputs is loaded once for all rows of a thread, a
// block of weights once for all inputs.

// Where inputs start in `x`.
struct Starts {
#repeat q QUADS
#repeat t 4
    s$q_$t: u32,
#end
#end
}

struct Inputs {
#repeat q QUADS
#repeat t 4
    b$q_$t: Block,
#end
#end
}

// A number for each input.
struct Tile {
#repeat q QUADS
    q$q: vec4<f32>,
#end
}

var<private> sums: array<Tile, ROWS>;
#ifdef SWIGLU
var<private> up_sums: array<Tile, ROWS>;
#endif
#ifdef NORM
// The sums of squares of what this thread has read.
var<private> tile_squares: Tile;
#endif

// The products of one block of a row with the inputs', added to `before`.
fn add_products(before: Tile, row: u32, block: u32, x: Inputs) -> Tile {
    let w = load_block(row, block, params.n_blocks);
    return Tile(
#repeat q QUADS
        before.q$q + vec4<f32>(
#repeat t 4
            block_dot(w, x.b$q_$t),
#end
        ),
#end
    );
}

// A block of inputs that is computed once. Where threads exchange inputs, lavapipe's compiler moves the exchange beside
// each product that it feeds, for every row anew; a product with a number it does not know stays where it is.
fn kept(x: Block, thread: u32) -> Block {
    let one = min(f32(thread) + 1.0, 1.0);
    return block_scale(x, one, 0.0);
}

// Sums up the products of `n_rows` rows from `first_row` on, whose ups are `pair` rows further.
fn multiply(starts: Starts, first_row: u32, n_rows: u32, pair: u32, thread: u32) {
    for (var block = 0u; block < params.n_blocks; block++) {
#repeat q QUADS
#repeat t 4
#ifdef NORM
        squares = 0.0;
#endif
        let b$q_$t = kept(input_block(starts.s$q_$t, block, thread), thread);
#ifdef NORM
        tile_squares.q$q[$t] += squares;
#endif
#end
#end
        let inputs = Inputs(
#repeat q QUADS
            b$q_0, b$q_1, b$q_2, b$q_3,
#end
        );
        for (var i = 0u; i < n_rows; i++) {
            let row = first_row + i;
            sums[i] = add_products(sums[i], row, block, inputs);
#ifdef SWIGLU
            up_sums[i] = add_products(up_sums[i], row + pair, block, inputs);
#endif
        }
    }
}

// What `multiply` summed up for the ups of a row.
fn ups_of(i: u32) -> Tile {
#ifdef SWIGLU
    return up_sums[i];
#else
    return Tile();
#endif
}

// What the sums of each input are multiplied with, once `multiply` has read it.
fn factors(thread: u32) -> Tile {
    var found = Tile();
#repeat q QUADS
#repeat t 4
#ifdef NORM
    squares = tile_squares.q$q[$t];
#endif
    found.q$q[$t] = norm_factor(thread);
#end
#end
    return found;
}
