// What changes from token to token. Written by the host before a chunk, advanced by sample_pick.
struct State {
    position: u32,   // of the chunk's first token
    n_tokens: u32,   // in the chunk
    step: u32,       // tokens drawn in this generation
    slot: u32,       // where the next drawn token is reported
}
