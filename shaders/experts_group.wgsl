// Sorts the chunk's choices by expert and cuts each expert's into tiles.
//
// A choice is a token's expert: token · N_USED + slot. Grid: one workgroup of 256 threads. Also writes
// how many workgroups the products take: `row_tiles` by the number of tiles.
// Limits: N_EXPERTS words fit workgroup memory.

#import "state.wgsl"

struct Params {
    row_tiles: u32,
}

struct Tile {
    expert: u32,
    first: u32,     // in `order`
    n_choices: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> routing: array<f32>;                // [n_tokens, 2 · N_USED]
@group(0) @binding(3) var<storage, read_write> order: array<u32>;            // [n_tokens · N_USED]
@group(0) @binding(4) var<storage, read_write> tiles: array<Tile>;           // [n_tiles]
@group(0) @binding(5) var<storage, read_write> workgroups: array<u32, 3>;

// First the number of an expert's choices, then the place of its next one.
var<workgroup> counts: array<atomic<u32>, N_EXPERTS>;

fn expert_of(choice: u32) -> u32 {
    let at = choice / N_USED * 2u * N_USED + choice % N_USED;
    return min(u32(routing[at]), N_EXPERTS - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    let n_choices = state.n_tokens * N_USED;
    for (var expert = thread; expert < N_EXPERTS; expert += 256u) {
        atomicStore(&counts[expert], 0u);
    }
    workgroupBarrier();
    for (var choice = thread; choice < n_choices; choice += 256u) {
        atomicAdd(&counts[expert_of(choice)], 1u);
    }
    workgroupBarrier();
    if (thread == 0u) {
        var first = 0u;
        var n_tiles = 0u;
        for (var expert = 0u; expert < N_EXPERTS; expert++) {
            let count = atomicLoad(&counts[expert]);
            atomicStore(&counts[expert], first);
            for (var i = 0u; i < count; i += TILE_TOKENS) {
                tiles[n_tiles] = Tile(expert, first + i, min(TILE_TOKENS, count - i));
                n_tiles += 1u;
            }
            first += count;
        }
        workgroups[0] = params.row_tiles;
        workgroups[1] = n_tiles;
        workgroups[2] = 1u;
    }
    workgroupBarrier();
    for (var choice = thread; choice < n_choices; choice += 256u) {
        order[atomicAdd(&counts[expert_of(choice)], 1u)] = choice;
    }
}
