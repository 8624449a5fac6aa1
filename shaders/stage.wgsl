// Puts an input row, as input.wgsl reads it, into workgroup memory for unit.wgsl.

// Stages the row at `x_start`; with NORM each thread has the sum of its squares then.
fn stage(x_start: u32, n_units: u32, thread: u32) {
    for (var word = thread; word < STAGED_WORDS; word += WORKGROUP) {
        staged[staged_at(word, n_units)] = input_word(x_start, word);
    }
#ifdef NORM
    squares = sum_workgroup(squares, thread);
#else
    workgroupBarrier();
#endif
}
