/** Reads safetensors files of `F32` and `I32` tensors: the golden files. */
import fs from "node:fs";

const ARRAYS = { F32: Float32Array, I32: Int32Array };
const HEADER_LENGTH_BYTES = 8;

/** @returns {Map<string, {shape: number[], data: Float32Array | Int32Array}>} */
export function readSafetensors(file) {
  const content = fs.readFileSync(file);
  const dataStart = HEADER_LENGTH_BYTES + Number(content.readBigUInt64LE(0));
  const header = JSON.parse(content.toString("utf8", HEADER_LENGTH_BYTES, dataStart));
  delete header.__metadata__;
  return new Map(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
      const bytes = Uint8Array.prototype.slice.call(content, dataStart + start, dataStart + end);
      return [name, { shape, data: new ARRAYS[dtype](bytes.buffer) }];
    }),
  );
}
