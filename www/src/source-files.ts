/** Files that somebody picked, or those of a folder: which of them make a model, and the name it goes by. */

import { PesiError } from "./errors.js";
import type { EngineSource } from "./protocol.js";

/** The file that makes a folder a model, beside its weights. */
const CONFIG = "config.json";

/** What a model is read from; other files of a folder, such as its README, are passed over. */
const OF_A_MODEL = /\.(gguf|safetensors|json|jinja)$/i;

/** A name in a split set: what all have, the file's number, how many files there are and the ending. */
const PART = /^(.*-)(\d{5})(-of-(\d{5})\.gguf)$/i;

/** What no name of a file can hold: control characters, slashes, halves of surrogate pairs. */
const UNUSABLE = /[\p{Cc}\p{Surrogate}\\/]/u;

/** What a file's name says of the split set it belongs to. */
export interface Part {
  readonly number: number;
  readonly count: number;
  /** The name of the set's file with this number. */
  readonly nameOf: (number: number) => string;
}

/** Reads the name of a file in a split set; `undefined` for other names. */
export function partOf(name: string): Part | undefined {
  const match = PART.exec(name);
  if (match === null) return undefined;
  const [stem = "", number, end = "", count] = match.slice(1);
  const nameOf = (other: number): string => `${stem}${String(other).padStart(5, "0")}${end}`;
  return { number: Number(number), count: Number(count), nameOf };
}

/** Whether `name` can be that of a file, and of nothing above it. */
export function isPlainName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !UNUSABLE.test(name);
}

/** A file, of this realm. */
export function isFile(value: unknown): value is File {
  return typeof File !== "undefined" && value instanceof File;
}

/** A directory handle, of this realm or another. */
export function isDirectory(value: unknown): value is FileSystemDirectoryHandle {
  if (typeof value !== "object" || value === null) return false;
  const { kind, values } = value as Partial<FileSystemDirectoryHandle>;
  return kind === "directory" && typeof values === "function";
}

/** The model in a folder: what {@link fromFiles} makes of the files directly in it. */
export async function fromDirectory(directory: FileSystemDirectoryHandle): Promise<EngineSource> {
  const files: File[] = [];
  try {
    for await (const handle of directory.values()) {
      if (handle.kind === "file" && OF_A_MODEL.test(handle.name)) {
        files.push(await (handle as FileSystemFileHandle).getFile());
      }
    }
  } catch (error) {
    const message = `The folder ${JSON.stringify(directory.name)} could not be read: ${String(error)}`;
    throw new PesiError("storage", message, { parameter: "source", found: directory.name }, { cause: error });
  }
  return fromFiles(files);
}

/**
 * The model that files make, in whatever order they are: one `.gguf` file, a split set of them, or `config.json`
 * with `.safetensors` files. Of a picked folder only the files directly in it count.
 *
 * @throws {PesiError} of kind `invalid_argument` or `unsupported` where they make none, or more than one
 */
export function fromFiles(picked: readonly File[]): EngineSource {
  const files = picked.filter((file) => OF_A_MODEL.test(file.name) && !isInSubfolder(file)).sort(byName);
  for (const [index, { name }] of files.entries()) {
    if (!isPlainName(name)) throw refused("files with plain names", JSON.stringify(name));
    if (files[index + 1]?.name === name) throw refused("files of different names", `two called ${JSON.stringify(name)}`);
  }
  const gguf = files.filter(({ name }) => /\.gguf$/i.test(name));
  const safetensors = files.filter(({ name }) => /\.safetensors$/i.test(name));
  if (gguf.length > 0 && safetensors.length > 0) throw refused("one model", "both .gguf and .safetensors files");
  if (gguf.length > 0) return { kind: "files", files: wholeSet(gguf), id: identity(gguf) };
  if (safetensors.length === 0) throw unusable(picked);
  if (!files.some(({ name }) => name === CONFIG)) {
    throw refused(`a model's whole folder, ${CONFIG} included`, `${names(safetensors)} without it`);
  }
  return { kind: "files", files, id: identity(files) };
}

/** Checks that GGUF files, sorted by name, are one file or the whole of one split set. */
function wholeSet(files: readonly File[]): readonly File[] {
  const found = new Set(files.map(({ name }) => name));
  const [first = ""] = found;
  const set = partOf(first);
  const count = Math.max(set?.count ?? 1, 1);
  const expected = Array.from({ length: count }, (_, index) => set?.nameOf(index + 1) ?? first);
  const missing = expected.find((name) => !found.has(name));
  if (missing !== undefined) throw refused(`all ${count} files of a split set`, `${names(files)} without ${missing}`);
  if (found.size > count) throw refused("one model", `${names(files)}, which are several`);
  return files;
}

/** Two files of one name are told apart by what else a browser tells of them. */
function identity(files: readonly File[]): string {
  return files.map(({ name, size, lastModified }) => `${name}@${size}-${lastModified}`).join(", ");
}

/** Whether a file comes from below the folder that was picked. */
function isInSubfolder({ webkitRelativePath }: File): boolean {
  return (webkitRelativePath ?? "").split("/").length > 2;
}

/** By code units, so that the order is the same in every language. */
function byName({ name: a }: File, { name: b }: File): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function names(files: readonly File[]): string {
  const [first, second] = files.map(({ name }) => name);
  const more = files.length > 2 ? ` and ${files.length - 2} more` : "";
  return `${first ?? "nothing"}${second === undefined ? "" : `, ${second}`}${more}`;
}

function unusable(files: readonly File[]): PesiError {
  const expected = `a .gguf file, the files of a split set, or ${CONFIG} with .safetensors files`;
  const found = names(files);
  const message = `Loading ${found} is not supported; give ${expected}`;
  return new PesiError("unsupported", message, { parameter: "source", expected, found });
}

function refused(expected: string, found: string): PesiError {
  const details = { parameter: "source", expected, found };
  return new PesiError("invalid_argument", `source must be ${expected}, but there was ${found}`, details);
}
