/** What a `load` source means: an address, files or a folder, and the name the model goes by in browser storage. */

import { PesiError } from "./errors.js";
import type { EngineSource, Sums } from "./protocol.js";
import { fromDirectory, fromFiles, isDirectory, isFile, isPlainName, partOf } from "./source-files.js";
import { badArgument } from "./validate.js";

const HUB = "https://huggingface.co";
const MAIN = "main";

/** Where a folder has the SHA-256 of its files, by custom. */
const SUMS = "SHA256SUMS";

const EXPECTED =
  'the URL of a .gguf file or of a folder, "owner/repo" or "owner/repo/file.gguf" on the Hugging Face hub, ' +
  "File objects, or a directory handle";

/** What the hub allows in the name of an owner or a repository. */
const HUB_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;

/** The end of a file's name, as opposed to a version such as the `.5B` of a folder: a letter comes first. */
const FILE_ENDING = /\.[a-z][a-z0-9_]*$/i;

/** A page or a file of the hub: owner, repository, and where there are more: revision and path. */
const HUB_PATH = /^\/([^/]+)\/([^/]+)(?:\/(?:tree|blob|resolve)\/([^/]+)((?:\/[^/]+)*))?\/?$/;

/** The address that a page's, or a worker's, relative URLs start from. */
export function baseAddress(): string {
  return globalThis.document?.baseURI ?? globalThis.location?.href;
}

/**
 * Reads a source. Text is a URL where it has a scheme or starts with `/`, `./` or `../`, and where it is a bare
 * path of one or two parts that ends in `.gguf`; otherwise it names a repository on the hub, or a file in one.
 *
 * @param base the address that relative URLs start from
 * @throws {PesiError} of kind `invalid_argument` or `unsupported`; `storage` where a folder cannot be listed
 */
export async function parseSource(source: unknown, base: string): Promise<EngineSource> {
  if (typeof source === "string") return parseText(source.trim(), base);
  if (source instanceof URL) return fromUrl(source.href, base);
  if (isFile(source)) return fromFiles([source]);
  if (isFileList(source)) {
    const files = Array.from(source);
    if (files.length > 0 && files.every(isFile)) return fromFiles(files);
    throw badArgument("source", EXPECTED, files);
  }
  if (isDirectory(source)) return fromDirectory(source);
  throw badArgument("source", EXPECTED, source);
}

function parseText(source: string, base: string): EngineSource {
  if (/^[a-z][a-z0-9+.-]*:/i.test(source) || /^\.{0,2}\//.test(source)) return fromUrl(source, base);
  const [path = "", after, ...rest] = source.split("@");
  const parts = path.split("/");
  if (after === undefined && parts.length < 3 && isGguf(path)) return fromUrl(source, base);
  if (rest.length > 0 || after === "" || parts.length < 2) throw badArgument("source", EXPECTED, source);
  const [owner = "", repo = "", ...file] = parts;
  if (after === undefined || file.length > 0 || !isGguf(after)) {
    return fromHub({ owner, repo, path: file, revision: after ?? MAIN }, source);
  }
  // In `owner/repo@revision/file.gguf` the revision ends at the first slash; one with slashes can stand at the end.
  const [revision = "", ...fileAfter] = after.split("/");
  return fromHub({ owner, repo, path: fileAfter, revision }, source);
}

interface HubPlace {
  readonly owner: string;
  readonly repo: string;
  /** The parts of a path in the repository; none stands for the repository as a whole. */
  readonly path: readonly string[];
  readonly revision: string;
}

function fromHub({ owner, repo, path, revision }: HubPlace, source: string): EngineSource {
  const isSound = [owner, repo].every((name) => HUB_NAME.test(name));
  if (!isSound || ![...path, ...revision.split("/")].every(isPlainName)) throw badArgument("source", EXPECTED, source);
  const root = `${HUB}/${owner}/${repo}/resolve/${encodeURIComponent(revision)}/`;
  const url = root + path.map(encodeURIComponent).join("/");
  const name = [owner, repo, ...path].join("/");
  const id = revision === MAIN ? name : `${name}@${revision}`;
  const last = path.at(-1);
  const sumsIn = (folder: readonly string[]): Sums => ({
    kind: "hub",
    url: `${HUB}/api/models/${owner}/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`,
    prefix: folder.map((part) => `${part}/`).join(""),
  });
  if (last === undefined) return { kind: "folder", url, id, sums: sumsIn([]) };
  if (isGguf(last)) {
    refuseLaterPart(source, last);
    return { kind: "url", url, id, sums: sumsIn(path.slice(0, -1)) };
  }
  if (FILE_ENDING.test(last)) {
    throw unsupported(JSON.stringify(source), `the whole repository, "${owner}/${repo}", or one of its .gguf files`);
  }
  return { kind: "folder", url: `${url}/`, id, sums: sumsIn(path) };
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
  if (url.username !== "" || url.password !== "") {
    throw badArgument("source", "a URL without a user name and password", source);
  }
  const onHub = url.origin === HUB ? hubPlace(url) : undefined;
  if (onHub !== undefined) return fromHub(onHub, source);
  url.hash = "";
  if (isGguf(url.pathname)) {
    refuseLaterPart(source, url.pathname);
    return { kind: "url", url: url.href, id: url.href, sums: sumsBeside(url) };
  }
  if (FILE_ENDING.test(url.pathname)) {
    const folder = new URL(".", url).href;
    throw unsupported(JSON.stringify(source), `its folder, ${JSON.stringify(folder)}, or the URL of a .gguf file`);
  }
  if (url.search !== "") throw badArgument("source", "the URL of a .gguf file, or a folder's without a query", source);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return { kind: "folder", url: url.href, id: url.href, sums: sumsBeside(url) };
}

/** In the folder that `url` is, or is in. A file's query, which may let its reader in, lets in to what is beside it. */
function sumsBeside(url: URL): Sums {
  const sums = new URL(url);
  sums.pathname = url.pathname.replace(/[^/]*$/, SUMS);
  return { kind: "sha256sums", url: sums.href, prefix: "" };
}

/** What an address on the hub names, a page's as people copy it from the browser among them. */
function hubPlace({ pathname }: URL): HubPlace | undefined {
  const match = HUB_PATH.exec(pathname);
  if (match === null) return undefined;
  const [owner = "", repo = "", revision = MAIN, path = ""] = match.slice(1);
  return { owner, repo, path: path.split("/").slice(1).map(decoded), revision: decoded(revision) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Refuses all but the first file of a split set, whose path or name ends in `name`, before anything is read. */
function refuseLaterPart(source: string, name: string): void {
  const part = partOf(name.replace(/^.*\//, ""));
  if (part === undefined || part.number === 1) return;
  const what = `${JSON.stringify(source)}, number ${part.number} of ${part.count} files,`;
  throw unsupported(what, `the first of them, ${JSON.stringify(part.nameOf(1))}`);
}

function isGguf(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

/** Whether it is an array or, of this realm or another, a `FileList`. */
function isFileList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || Object.prototype.toString.call(value) === "[object FileList]";
}

function unsupported(what: string, instead: string): PesiError {
  return new PesiError("unsupported", `Loading ${what} is not supported; give ${instead}`, {
    parameter: "source",
    expected: instead,
    found: what,
  });
}
