/** Models for tests of storage, as files by name, and what the design promises of their pieces. */
import path from "node:path";

import { defaultModel, modelsFolder } from "../../tools/default-model.mjs";
import { root } from "../../tools/process.mjs";
import { readFiles } from "./fault-server.mjs";
import { splitGguf } from "./gguf.mjs";

const GOLDEN = path.join(root, "tests/golden/gpt-oss");
const [SMALLEST_PIECE, LARGEST_PIECE] = [64 << 10, 4 << 20];
const N_PIECES = 64;

/** Requests at a time. */
const N_CONNECTIONS = 4;

/** A golden model in one file: `{entry, files}`, `entry` being what is loaded. */
export function golden(name) {
  return { entry: name, files: readFiles(path.join(GOLDEN, "gguf", name)) };
}

/** A golden model in a set of two files. */
export function goldenHalves(name) {
  const [whole] = golden(name).files.values();
  const nameOf = (index) => `half-0000${index + 1}-of-00002.gguf`;
  return { entry: nameOf(0), files: new Map(splitGguf(whole).map((part, index) => [nameOf(index), part])) };
}

/** A golden model as a folder, without its references. */
export function goldenFolder(name) {
  const files = [...readFiles(path.join(GOLDEN, name))];
  return { entry: "", files: new Map(files.filter(([file]) => !file.startsWith("golden."))) };
}

/** SmolLM2. */
export function smollm2() {
  return { entry: defaultModel, files: readFiles(path.join(modelsFolder, defaultModel)) };
}

/** The most bytes that a piece of a model of so many has. */
export function pieceBytes(modelBytes) {
  return Math.min(Math.max(modelBytes / N_PIECES, SMALLEST_PIECE), LARGEST_PIECE);
}

/** Bytes that may be fetched again after a load was cut off: a piece for each connection. */
export function bytesInFlight(modelBytes) {
  return N_CONNECTIONS * pieceBytes(modelBytes);
}
