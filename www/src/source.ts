/** What a `load` source means: an address or files, and the name the model goes by in browser storage. */

import { PesiError } from "./errors.js";
import type { EngineSource } from "./protocol.js";
import { badArgument } from "./validate.js";

const HUB = "https://huggingface.co";
const EXPECTED = 'the URL of a .gguf file, "owner/repo/file.gguf" on the Hugging Face hub, or a File';

/** The end of a name in a split set: the file's number, then how many files there are. */
const PART = /-\d{5}-of-(\d{5})\.gguf$/i;

/**
 * Reads a source. Text is a URL where it has a scheme or starts with `/`, `./` or `../`, and where it is a bare
 * path of one or two parts that ends in `.gguf`; `owner/repo/…/file.gguf[@revision]` is a file on the hub.
 *
 * @param base the address that relative URLs start from
 */
export function parseSource(source: unknown, base: string): EngineSource {
  if (typeof source === "string") return parseText(source.trim(), base);
  if (source instanceof URL) return fromUrl(source.href, base);
  if (isFile(source)) return fromFile(source);
  if (Array.isArray(source) && source.length > 0 && source.every(isFile)) {
    throw unsupported("a list of files", "one File");
  }
  if (typeof source === "object" && source !== null && "kind" in source && source.kind === "directory") {
    throw unsupported("a folder", "the folder's .gguf file");
  }
  throw badArgument("source", EXPECTED, source);
}

function parseText(source: string, base: string): EngineSource {
  if (/^[a-z][a-z0-9+.-]*:/i.test(source) || /^\.{0,2}\//.test(source)) return fromUrl(source, base);
  const [path = "", revision, ...rest] = source.split("@");
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..") || rest.length > 0 || revision === "") {
    throw badArgument("source", EXPECTED, source);
  }
  if (isGguf(path)) {
    return parts.length < 3 && revision === undefined ? fromUrl(source, base) : fromHub(parts, revision, source);
  }
  if (parts.length === 2) {
    throw unsupported("a hub repository as a whole", `one of its files, such as "${path}/model.gguf"`);
  }
  if (parts.length > 2) throw unsupported(`the file type of ${JSON.stringify(source)}`, "a .gguf file");
  throw badArgument("source", EXPECTED, source);
}

function fromHub(parts: readonly string[], revision: string | undefined, source: string): EngineSource {
  const [owner, repo, ...file] = parts;
  if (owner === undefined || repo === undefined || file.length === 0) throw badArgument("source", EXPECTED, source);
  refusePart(source, file.at(-1) ?? "");
  const path = [owner, repo, "resolve", revision ?? "main", ...file].map(encodeURIComponent).join("/");
  return { kind: "url", url: `${HUB}/${path}`, id: source };
}

function fromUrl(source: string, base: string): EngineSource {
  let url: URL;
  try {
    url = new URL(source, base);
  } catch {
    throw badArgument("source", EXPECTED, source);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw badArgument("source", "an http or https URL", source);
  }
  if (!isGguf(url.pathname)) throw unsupported("a URL that does not end in .gguf", "the URL of a .gguf file");
  refusePart(source, url.pathname);
  url.hash = "";
  return { kind: "url", url: url.href, id: url.href };
}

function fromFile(file: File): EngineSource {
  const { name, size, lastModified } = file;
  if (!isGguf(name)) throw unsupported(`the file type of ${JSON.stringify(name)}`, "a .gguf file");
  refusePart(name, name);
  // Two files of one name are told apart by what else a browser tells of them.
  return { kind: "files", files: [file], id: `${name}@${size}-${lastModified}` };
}

/** Refuses one file of a split set, whose path or name ends in `name`, before anything of it is read. */
function refusePart(source: string, name: string): void {
  const count = Number(PART.exec(name)?.[1] ?? 1);
  if (count > 1) throw unsupported(`${JSON.stringify(source)}, one of ${count} files,`, "a model in one .gguf file");
}

function isFile(value: unknown): value is File {
  return typeof File !== "undefined" && value instanceof File;
}

function isGguf(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

function unsupported(what: string, instead: string): PesiError {
  return new PesiError("unsupported", `Loading ${what} is not supported; give ${instead}`, {
    parameter: "source",
    expected: instead,
    found: what,
  });
}
