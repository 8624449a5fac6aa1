// Reads an array once and does nothing else with it: the speed of memory that other kernels are held
// against.
//
// Grid: any number of workgroups, which stride over the array together.

@group(0) @binding(0) var<storage, read> words: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;          // [1]

@compute @workgroup_size(256)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
) {
    let stride = n_workgroups.x * 256u;
    let n_words = arrayLength(&words);
    var sum = vec4<u32>(0u);
    for (var i = id.x; i < n_words; i += 4u * stride) {
        // Four reads at once are in flight; those past the end read the last word again.
        let a = words[i];
        let b = words[min(i + stride, n_words - 1u)];
        let c = words[min(i + 2u * stride, n_words - 1u)];
        let d = words[min(i + 3u * stride, n_words - 1u)];
        sum += a ^ b ^ c ^ d;
    }
    // Never true, which no compiler knows.
    if (all(sum == vec4<u32>(0x9e3779b9u, 0x7f4a7c15u, 0xf39cc060u, 0x5cedc834u))) {
        out[0] = 1u;
    }
}
