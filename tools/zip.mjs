/**
 * Reads one member of a zip archive, without a library or a program outside Node: enough for Python
 * wheels, whose members are stored or deflated and which stay below 4 GiB.
 *
 * The layout follows PKWARE's APPNOTE: end-of-central-directory record, central directory, local
 * header, data.
 */
import fs from "node:fs/promises";
import { createReadStream } from "node:fs";
import { PassThrough, pipeline } from "node:stream";
import { createInflateRaw } from "node:zlib";

const END_OF_DIRECTORY = { signature: 0x06054b50, bytes: 22 };
const DIRECTORY_ENTRY = { signature: 0x02014b50, bytes: 46 };
const LOCAL_HEADER = { signature: 0x04034b50, bytes: 30 };
const LONGEST_COMMENT = 0xffff;
const STORED = 0;
const DEFLATED = 8;

/**
 * Opens the content of one member as a stream.
 *
 * @returns {Promise<{bytes: number, stream: import("node:stream").Readable}>} `bytes` is the size
 *   of the content that the archive states.
 * @throws {Error} when the archive is damaged, has no such member, or uses a feature beyond the
 *   ones above.
 */
export async function openMember(archive, member) {
  const file = await fs.open(archive, "r");
  try {
    const entry = findEntry(await readDirectory(file, archive), member, archive);
    const header = await readAt(file, entry.headerOffset, LOCAL_HEADER.bytes, archive);
    expectSignature(header, 0, LOCAL_HEADER, archive);
    const start =
      entry.headerOffset + LOCAL_HEADER.bytes + header.readUInt16LE(26) + header.readUInt16LE(28);
    return { bytes: entry.bytes, stream: contentStream(archive, start, entry) };
  } finally {
    await file.close();
  }
}

async function readDirectory(file, archive) {
  const { size } = await file.stat();
  const tailBytes = Math.min(size, END_OF_DIRECTORY.bytes + LONGEST_COMMENT);
  const tail = await readAt(file, size - tailBytes, tailBytes, archive);
  for (let at = tail.length - END_OF_DIRECTORY.bytes; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END_OF_DIRECTORY.signature) continue;
    const bytes = tail.readUInt32LE(at + 12);
    const offset = tail.readUInt32LE(at + 16);
    if (offset === 0xffffffff) throw new Error(`${archive}: zip64 archives are not read`);
    return readAt(file, offset, bytes, archive);
  }
  throw new Error(`${archive}: not a zip archive, or cut short (${size} bytes)`);
}

function findEntry(directory, member, archive) {
  let at = 0;
  while (at + DIRECTORY_ENTRY.bytes <= directory.length) {
    expectSignature(directory, at, DIRECTORY_ENTRY, archive);
    const nameStart = at + DIRECTORY_ENTRY.bytes;
    const nameEnd = nameStart + directory.readUInt16LE(at + 28);
    if (directory.toString("utf8", nameStart, nameEnd) === member) {
      return {
        method: directory.readUInt16LE(at + 10),
        packedBytes: directory.readUInt32LE(at + 20),
        bytes: directory.readUInt32LE(at + 24),
        headerOffset: directory.readUInt32LE(at + 42),
      };
    }
    at = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  throw new Error(`${archive}: no member ${member}`);
}

function contentStream(archive, start, { method, packedBytes }) {
  if (method !== STORED && method !== DEFLATED) {
    throw new Error(`${archive}: compression method ${method} is not read`);
  }
  if (packedBytes === 0) return new PassThrough().end();
  const packed = createReadStream(archive, { start, end: start + packedBytes - 1 });
  if (method === STORED) return packed;
  return pipeline(packed, createInflateRaw(), () => {});
}

async function readAt(file, position, length, archive) {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, position);
  if (bytesRead !== length) {
    throw new Error(`${archive}: ${length} bytes wanted at ${position}, ${bytesRead} there`);
  }
  return buffer;
}

function expectSignature(buffer, at, { signature }, archive) {
  const found = buffer.readUInt32LE(at);
  if (found !== signature) {
    const [want, have] = [signature, found].map((value) => `0x${value.toString(16)}`);
    throw new Error(`${archive}: damaged archive, signature ${have} where ${want} belongs`);
  }
}
