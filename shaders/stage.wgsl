// Puts an input row into workgroup memory for unit.wgsl, times the gain where the row is normalised.
//
// `x` and `gain` are declared by the importing shader.

// Stages the row at `x_start`; with NORM returns the sum of its squares, taken before the gain.
fn stage(x_start: u32, n_units: u32, thread: u32) -> f32 {
    var squares = 0.0;
    for (var word = thread; word < STAGED_WORDS; word += WORKGROUP) {
        var v = x[x_start + word];
#ifdef NORM
        squares += dot(v, v);
        v *= gain[word];
#endif
        staged[staged_at(word, n_units)] = v;
    }
#ifdef NORM
    squares = sum_workgroup(squares, thread);
#else
    workgroupBarrier();
#endif
    return squares;
}
