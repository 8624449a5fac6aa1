/** Cuts a GGUF file into a set of two, as llama.cpp's tool does: the first has the metadata. */

const UINT16 = 2;
const INT32 = 5;
const STRING = 8;
const ARRAY = 9;
/** Bytes of a value by its type, where all of that type have the same. */
const SIZES = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
/** Of the data section and each tensor, where the metadata names no other. */
const ALIGNMENT = 32;
/** The magic and the version. */
const PREAMBLE_BYTES = 8;

/**
 * @param {Buffer} file
 * @returns {[Buffer, Buffer]} the first and the second file, each with half of the tensors.
 */
export function splitGguf(file) {
  const { metadata, nEntries, tensors, data } = parse(file);
  const middle = tensors.length >> 1;
  return [tensors.slice(0, middle), tensors.slice(middle)].map((part, index) => {
    const split = [
      entry("split.no", UINT16, index),
      entry("split.count", UINT16, 2),
      entry("split.tensors.count", INT32, tensors.length),
    ];
    const first = index === 0;
    const head = [
      file.subarray(0, PREAMBLE_BYTES),
      uint64(part.length),
      uint64(split.length + (first ? nEntries : 0)),
      ...(first ? [metadata] : []),
      ...split,
    ];
    let offset = 0;
    for (const { description, bytes } of part) {
      head.push(description, uint64(offset));
      offset += bytes.length;
    }
    const length = head.reduce((sum, piece) => sum + piece.length, 0);
    const padding = Buffer.alloc(padded(length) - length);
    return Buffer.concat([...head, padding, ...part.map(({ bytes }) => data.subarray(bytes.start, bytes.end))]);
  });
}

/** The metadata as they stand, and the tensors in the order of their bytes in the data section. */
function parse(file) {
  let at = PREAMBLE_BYTES;
  const number = (bytes) => {
    at += bytes;
    return bytes === 8 ? Number(file.readBigUInt64LE(at - 8)) : file.readUInt32LE(at - bytes);
  };
  const skip = (bytes) => (at += bytes);
  const skipString = () => skip(number(8));
  const skipValue = (type) => {
    if (type === STRING) return skipString();
    if (type !== ARRAY) return skip(SIZES[type]);
    const [element, count] = [number(4), number(8)];
    for (let index = 0; index < count; index++) skipValue(element);
  };

  const [nTensors, nEntries] = [number(8), number(8)];
  const metadataStart = at;
  for (let index = 0; index < nEntries; index++) {
    skipString();
    skipValue(number(4));
  }
  const metadata = file.subarray(metadataStart, at);
  const tensors = Array.from({ length: nTensors }, () => {
    const start = at;
    skipString();
    // The extents, and the encoding.
    skip(8 * number(4) + 4);
    const description = file.subarray(start, at);
    return { description, offset: number(8) };
  });
  const data = file.subarray(padded(at));
  tensors.sort((a, b) => a.offset - b.offset);
  return {
    metadata,
    nEntries,
    data,
    tensors: tensors.map(({ description, offset }, index) => {
      const end = tensors[index + 1]?.offset ?? data.length;
      return { description, bytes: { start: offset, end, length: end - offset } };
    }),
  };
}

function entry(key, type, value) {
  const fixed = Buffer.alloc(4 + SIZES[type]);
  fixed.writeUInt32LE(type);
  fixed.writeUIntLE(value, 4, SIZES[type]);
  return Buffer.concat([uint64(key.length), Buffer.from(key), fixed]);
}

function uint64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function padded(length) {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}
