// The likeliest tokens by the model's own logits, for reports: ahead of penalties, biases, temperature.
//
// Grid: (shares of the vocabulary), then one workgroup of the variant MERGE, which chooses among what
// the shares found. Each workgroup of 256 threads finds its n_top first entries one after the other, in
// the order of falling logits, of rising tokens among equals: a round takes the first entry that comes
// after that of the round before. Where entries run out, the token is NONE.

#ifdef MERGE
#import "state.wgsl"
#endif
#import "sampling.wgsl"

struct Entry {
    logit: f32,            // in `top`, the log-probability
    token: u32,
}

@group(0) @binding(0) var<uniform> settings: Settings;
#ifdef MERGE
@group(0) @binding(1) var<storage, read> found: array<Entry>;           // [shares, MAX_TOP]
@group(0) @binding(2) var<storage, read_write> top: array<Entry>;       // [slots, MAX_TOP]
@group(0) @binding(3) var<storage, read> partials: array<Partial>;      // [shares]
@group(0) @binding(4) var<storage, read> state: State;
#else
@group(0) @binding(1) var<storage, read> logits: array<f32>;            // [n_vocab]
@group(0) @binding(2) var<storage, read_write> found: array<Entry>;     // [shares, MAX_TOP]
#endif

const NONE: u32 = 0xffffffffu;

var<workgroup> firsts: array<Entry, 256>;

fn comes_before(a: Entry, b: Entry) -> bool {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

fn entry(index: u32) -> Entry {
#ifdef MERGE
    return found[index / settings.n_top * MAX_TOP + index % settings.n_top];
#else
    return Entry(logits[index], index);
#endif
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
#ifdef MERGE
    let n_entries = arrayLength(&partials) * settings.n_top;
    var p = Partial(LOWEST, 0.0, LOWEST, NONE);
    for (var i = 0u; i < arrayLength(&partials); i += 1u) {
        p = joined(p, partials[i]);
    }
    let log_sum = p.largest + log(p.sum);
#else
    let n_entries = settings.n_vocab;
#endif
    let share = (n_entries + n_workgroups.x - 1u) / n_workgroups.x;
    let end = min((workgroup.x + 1u) * share, n_entries);
    var last = Entry(-LOWEST, 0u);
    for (var rank = 0u; rank < settings.n_top; rank += 1u) {
        var first = Entry(LOWEST, NONE);
        for (var index = workgroup.x * share + thread; index < end; index += 256u) {
            let candidate = entry(index);
            if (comes_before(last, candidate) && comes_before(candidate, first)) {
                first = candidate;
            }
        }
        firsts[thread] = first;
        for (var offset = 128u; offset > 0u; offset /= 2u) {
            workgroupBarrier();
            if (thread < offset && comes_before(firsts[thread + offset], firsts[thread])) {
                firsts[thread] = firsts[thread + offset];
            }
        }
        last = workgroupUniformLoad(&firsts[0]);
        if (thread == 0u) {
#ifdef MERGE
            top[state.slot * MAX_TOP + rank] = Entry(last.logit - log_sum, last.token);
#else
            found[workgroup.x * MAX_TOP + rank] = last;
#endif
        }
    }
}
