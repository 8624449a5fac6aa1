// Reads two f16: whether a device takes subnormal ones for zeros, as it may.
//
// Grid: one workgroup.

@group(0) @binding(0) var<storage, read> halves: array<u32>;             // [1]
@group(0) @binding(1) var<storage, read_write> numbers: array<f32>;      // [2]

@compute @workgroup_size(1)
fn main() {
    let pair = unpack2x16float(halves[0]);
    numbers[0] = pair.x;
    numbers[1] = pair.y;
}
