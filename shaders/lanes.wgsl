// Sums and maxima over the LANES threads that work together: neighbours in the workgroup, aligned.
//
// LANES is a power of two that divides WORKGROUP. With SUBGROUPS, SUBGROUP is the smallest subgroup
// that the device may use, so that exchanges with thread `i ^ offset` stay inside of one; what spans
// more goes through workgroup memory. All threads of the workgroup call together.

// The number of a thread among those that it works with.
fn lane_of(thread: u32) -> u32 {
#ifdef SINGLE_LANE
    return 0u;
#else
    return thread % LANES;
#endif
}

#ifdef SINGLE_LANE
fn sum_lanes(value: f32, thread: u32) -> f32 {
    return value;
}
#else
var<workgroup> lane_values: array<f32, WORKGROUP>;

#ifdef SUBGROUPS
const IN_SUBGROUP: u32 = min(LANES, SUBGROUP);

fn sum_lanes(value: f32, thread: u32) -> f32 {
    var sum = value;
    for (var offset = IN_SUBGROUP / 2u; offset > 0u; offset /= 2u) {
        sum += subgroupShuffleXor(sum, offset);
    }
    if (LANES > IN_SUBGROUP) {
        workgroupBarrier();
        lane_values[thread] = sum;
        workgroupBarrier();
        sum = 0.0;
        let first = thread - thread % LANES;
        for (var i = first; i < first + LANES; i += IN_SUBGROUP) {
            sum += lane_values[i];
        }
    }
    return sum;
}

fn max_lanes(value: f32, thread: u32) -> f32 {
    var largest = value;
    for (var offset = IN_SUBGROUP / 2u; offset > 0u; offset /= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, offset));
    }
    if (LANES > IN_SUBGROUP) {
        workgroupBarrier();
        lane_values[thread] = largest;
        workgroupBarrier();
        let first = thread - thread % LANES;
        for (var i = first; i < first + LANES; i += IN_SUBGROUP) {
            largest = max(largest, lane_values[i]);
        }
    }
    return largest;
}
#else
fn sum_lanes(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    lane_values[thread] = value;
    for (var offset = LANES / 2u; offset > 0u; offset /= 2u) {
        workgroupBarrier();
        if (thread % LANES < offset) {
            lane_values[thread] += lane_values[thread + offset];
        }
    }
    workgroupBarrier();
    return lane_values[thread - thread % LANES];
}

fn max_lanes(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    lane_values[thread] = value;
    for (var offset = LANES / 2u; offset > 0u; offset /= 2u) {
        workgroupBarrier();
        if (thread % LANES < offset) {
            lane_values[thread] = max(lane_values[thread], lane_values[thread + offset]);
        }
    }
    workgroupBarrier();
    return lane_values[thread - thread % LANES];
}
#endif

// The sum over all threads of the workgroup, after which what they wrote before is there to read.
fn sum_workgroup(value: f32, thread: u32) -> f32 {
#ifdef SUBGROUPS
    const IN_GROUP: u32 = min(WORKGROUP, SUBGROUP);
    var sum = value;
    for (var offset = IN_GROUP / 2u; offset > 0u; offset /= 2u) {
        sum += subgroupShuffleXor(sum, offset);
    }
    workgroupBarrier();
    lane_values[thread] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < WORKGROUP; i += IN_GROUP) {
        sum += lane_values[i];
    }
    return sum;
#else
    workgroupBarrier();
    lane_values[thread] = value;
    for (var offset = WORKGROUP / 2u; offset > 0u; offset /= 2u) {
        workgroupBarrier();
        if (thread < offset) {
            lane_values[thread] += lane_values[thread + offset];
        }
    }
    workgroupBarrier();
    return lane_values[0];
#endif
}
#endif
