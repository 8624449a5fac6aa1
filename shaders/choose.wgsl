// The experts of a token: those of the N_USED largest of its N_EXPERTS logits, the lowest index among equals,
// weighted by a softmax over these.
//
// `logits` is declared by the importing shader, whose workgroups have WORKGROUP threads. All of them call
// together.

var<workgroup> chosen: array<u32, N_USED>;

// Finds the experts for the logits at `first`: each has as its rank the number of those before it.
fn choose(first: u32, thread: u32) {
    // Numbers that are none leave slots without an expert; any will do then.
    for (var slot = thread; slot < N_USED; slot += WORKGROUP) {
        chosen[slot] = slot % N_EXPERTS;
    }
    workgroupBarrier();
    for (var expert = thread; expert < N_EXPERTS; expert += WORKGROUP) {
        let logit = logits[first + expert];
        var rank = 0u;
        for (var other = 0u; other < N_EXPERTS; other++) {
            let before = logits[first + other];
            rank += u32(before > logit || (before == logit && other < expert));
        }
        if (rank < N_USED) {
            chosen[rank] = expert;
        }
    }
    workgroupBarrier();
}

// The weight of a slot, once experts are chosen.
fn chosen_weight(first: u32, slot: u32) -> f32 {
    let largest = logits[first + chosen[0]];
    var sum = 0.0;
    for (var i = 0u; i < N_USED; i++) {
        sum += exp(logits[first + chosen[i]] - largest);
    }
    return exp(logits[first + chosen[slot]] - largest) / sum;
}
