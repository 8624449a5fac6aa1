/**
 * A plain web server with faults: the built package, and models, each published under a path of its own with a plan
 * of what goes wrong while it is fetched, see `faults.mjs`.
 *
 * It is as such servers are where nobody set them up for Pesi: ETags, dates and ranges, no policy and no isolation, and
 * unless a plan says otherwise no `Cache-Control` for models, so that the browser's own cache may keep and mix parts of
 * them. Files are held in memory, and the bytes of them that connections took are counted.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { isFresh, selectRange } from "../../tools/http-range.mjs";
import { dist } from "../../tools/process.mjs";
import { contentType, decodePath } from "../../tools/serve.mjs";

const HOST = "127.0.0.1";
const PIECE_BYTES = 16 << 10;
/** A connection breaks a while after its last byte, when that has been read even where much else goes on; in ms. */
export const BREAK_DELAY_MS = 250;
/** Long ago: a browser takes such a file to stay as it is for months if nothing says otherwise. */
const MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT";
export const SUMS = "SHA256SUMS";

/**
 * Starts the server.
 *
 * @param {object} [options]
 * @param {Record<string, string>} [options.pages] pages and scripts by path.
 * @param {number} [options.lanes] addresses to listen at, each another origin with the same content: what a browser
 *   keeps, and the few connections it opens to a server, are by origin.
 * @returns {Promise<{url: string, urls: string[], publish: (files: Map<string, Buffer>, plan?: object) => Publication,
 *   close: () => Promise<void>}>} `url` is the first of `urls`; none has a final slash.
 */
export async function startFaultServer({ pages = {}, lanes = 1 } = {}) {
  const site = { pages, publications: new Map(), storeUrl: "" };
  const servers = [];
  const listen = async (answer) => {
    const server = http.createServer((request, response) => {
      answer(site, request, response).catch(() => response.destroy());
    });
    server.listen(0, HOST);
    await once(server, "listening");
    servers.push(server);
    return `http://${HOST}:${server.address().port}`;
  };
  site.storeUrl = await listen(answerSigned);
  const urls = [];
  while (urls.length < lanes) urls.push(await listen(answer));

  const publish = (files, plan = {}) => {
    const name = String(site.publications.size + 1);
    const publication = new Publication(name, files, plan);
    site.publications.set(name, publication);
    return publication;
  };
  const close = async () => {
    await Promise.all(
      servers.map(async (server) => {
        server.closeAllConnections();
        server.close();
        await once(server, "close");
      }),
    );
  };
  return { url: urls[0], urls, publish, close };
}

/** The files of a folder, or one file, by name. */
export function readFiles(place) {
  const isFolder = fs.statSync(place).isDirectory();
  const names = isFolder ? fs.readdirSync(place).sort() : [path.basename(place)];
  const folder = isFolder ? place : path.dirname(place);
  return new Map(names.map((name) => [name, fs.readFileSync(path.join(folder, name))]));
}

/** A model on the server. */
export class Publication {
  /** The path of its folder, with a slash at either end. */
  path;
  /** Bytes of bodies that connections took, by file. */
  sent = new Map();
  /** `{file, range, status, start, end, time}` of each request for a file, in order; `time` as of `performance.now`. */
  requests = [];
  /** Faults that have fired, in order. */
  fired = [];
  #name;
  #files;
  #revision = 1;
  #plan;
  #faults;
  #ranges = new Map();
  #nSigned = 0;
  #signatures = new Map();
  /** When the connections, all together, may send again. */
  #freeAt = 0;

  /**
   * @param {object} plan
   * @param {import("./faults.mjs").Fault[]} [plan.faults]
   * @param {{requests: number, exposesTag: boolean}} [plan.signature] files are elsewhere, at addresses that are
   *   refused after so many requests; whether ETags can be seen there.
   * @param {boolean} [plan.ignoresRanges]
   * @param {boolean} [plan.isCacheable] by the browser; by default it is.
   * @param {"right" | "absent" | {wrong: string}} [plan.sums] digests in `SHA256SUMS`; of which file it is wrong.
   * @param {number} [plan.bytesPerSecond] of all connections together.
   */
  constructor(name, files, plan) {
    this.path = `/m/${name}/`;
    this.#name = name;
    this.#files = files;
    this.set(plan);
  }

  /** Goes on by another plan; by none, without faults. */
  set(plan = {}) {
    this.#plan = { sums: "absent", ...plan };
    this.#faults = [...(plan.faults ?? [])].sort((a, b) => a.at - b.at);
  }

  /** Publishes other files in the place of these. */
  replace(files) {
    this.#files = files;
    this.#revision += 1;
  }

  /** Body bytes of all files of the model. */
  get sentBytes() {
    return [...this.sent.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Bytes of the model that were sent at least once. */
  get coveredBytes() {
    let bytes = 0;
    for (const ranges of this.#ranges.values()) {
      let end = 0;
      for (const range of [...ranges].sort((a, b) => a.start - b.start)) {
        bytes += Math.max(0, range.end - Math.max(range.start, end));
        end = Math.max(end, range.end);
      }
    }
    return bytes;
  }

  /** Forgets what was sent and asked for. */
  reset() {
    this.sent.clear();
    this.#ranges.clear();
    this.requests.length = 0;
    this.fired.length = 0;
  }

  get signature() {
    return this.#plan.signature;
  }

  get ignoresRanges() {
    return this.#plan.ignoresRanges ?? false;
  }

  get isCacheable() {
    return this.#plan.isCacheable ?? true;
  }

  /** The file's content and what the server says of it; `undefined` where there is none. */
  entity(file) {
    const content = this.#files.get(file);
    if (content === undefined) return undefined;
    const etag = `"${content.length.toString(16)}-${this.#revision}"`;
    return { content, bytes: content.length, etag, modified: MODIFIED };
  }

  /** The text of `SHA256SUMS`, in the form of coreutils; `undefined` where it is absent. */
  sums() {
    const { sums } = this.#plan;
    if (sums === "absent") return undefined;
    const lines = [...this.#files].map(([file, content]) => {
      const digest = createHash("sha256").update(content);
      if (sums.wrong === file) digest.update("other");
      return `${digest.digest("hex")}  ${file}\n`;
    });
    return lines.join("");
  }

  /** Another address of the file, good for some requests. */
  sign(file) {
    this.#nSigned += 1;
    this.#signatures.set(String(this.#nSigned), this.#plan.signature.requests);
    return `/signed/${this.#name}/${this.#nSigned}/${encodeURIComponent(file)}`;
  }

  /** Uses a signature once; whether it was still good. */
  redeem(signature) {
    const left = this.#signatures.get(signature) ?? 0;
    this.#signatures.set(signature, left - 1);
    return left > 0;
  }

  /** The first fault in a range of a file, its end included: it will fire unless it is put back. */
  take(file, { start, end }) {
    const index = this.#faults.findIndex((fault) => fault.file === file && fault.at >= start && fault.at <= end);
    if (index === -1) return undefined;
    const [fault] = this.#faults.splice(index, 1);
    this.fired.push(fault);
    if (fault.what === "changed") this.#revision += 1;
    return fault;
  }

  /** An answer ended before it came to the fault. */
  putBack(fault) {
    this.fired.splice(this.fired.indexOf(fault), 1);
    this.set({ ...this.#plan, faults: [...this.#faults, fault] });
  }

  /** Waits until so many bytes may be sent. */
  async pass(bytes) {
    const { bytesPerSecond } = this.#plan;
    if (bytesPerSecond === undefined) return;
    const now = performance.now();
    this.#freeAt = Math.max(this.#freeAt, now) + (bytes / bytesPerSecond) * 1000;
    await sleep(this.#freeAt - now);
  }

  count(file, start, bytes) {
    this.sent.set(file, (this.sent.get(file) ?? 0) + bytes);
    const ranges = this.#ranges.get(file) ?? [];
    const last = ranges.at(-1);
    if (last?.end === start) last.end += bytes;
    else ranges.push({ start, end: start + bytes });
    this.#ranges.set(file, ranges);
  }
}

/** Answers for the package, the pages and the models. */
async function answer(site, request, response) {
  const route = decodePath(request.url);
  if (route === undefined) return refuse(response, 400);
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);
  const [, name, file] = /^\/m\/([^/]+)\/(.+)$/.exec(route) ?? [];
  const publication = site.publications.get(name);
  if (publication !== undefined) return answerModel(site, publication, file, request, response);
  if (Object.hasOwn(site.pages, route)) {
    return sendText(response, contentType(route, ".html"), site.pages[route]);
  }
  const place = path.join(dist, route);
  if (!fs.statSync(place, { throwIfNoEntry: false })?.isFile()) return refuse(response, 404);
  response.setHeader("cache-control", "max-age=3600");
  return sendText(response, contentType(route), await fs.promises.readFile(place));
}

async function answerModel(site, publication, file, request, response) {
  const sums = file === SUMS ? publication.sums() : undefined;
  if (sums !== undefined) return sendText(response, contentType(".txt"), sums);
  if (publication.entity(file) === undefined) return refuse(response, 404);
  if (publication.signature === undefined) return sendFile(publication, file, request, response);
  log(publication, file, request, 302);
  response.setHeader("location", site.storeUrl + publication.sign(file));
  response.statusCode = 302;
  response.end();
}

/** Answers at signed addresses, which are another origin, as a hub's are. */
async function answerSigned(site, request, response) {
  const route = decodePath(request.url) ?? "";
  const [, name, signature, file] = /^\/signed\/([^/]+)\/([^/]+)\/(.+)$/.exec(route) ?? [];
  const publication = site.publications.get(name);
  response.setHeader("access-control-allow-origin", "*");
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);
  if (!publication?.redeem(signature)) {
    if (publication !== undefined) log(publication, file, request, 403);
    return refuse(response, 403);
  }
  const exposed = publication.signature?.exposesTag ? "Content-Range, ETag" : "Content-Range";
  response.setHeader("access-control-expose-headers", exposed);
  return sendFile(publication, file, request, response);
}

async function sendFile(publication, file, request, response) {
  const entity = publication.entity(file);
  const range = publication.ignoresRanges ? undefined : selectRange(request.headers, entity);
  const asked = typeof range === "object" ? range : { start: 0, end: entity.bytes - 1 };
  const fault = request.method === "GET" && range !== "unsatisfiable" ? publication.take(file, asked) : undefined;
  if (fault?.what === "status") {
    log(publication, file, request, fault.status, asked);
    if (fault.retryAfter !== undefined) response.setHeader("retry-after", fault.retryAfter);
    return refuse(response, fault.status);
  }
  // The ETag may be another one since the fault was taken.
  const { etag } = publication.entity(file);
  if (!publication.ignoresRanges) response.setHeader("accept-ranges", "bytes");
  if (!publication.isCacheable) response.setHeader("cache-control", "no-store");
  response.setHeader("content-type", contentType(file));
  response.setHeader("etag", etag);
  response.setHeader("last-modified", entity.modified);
  if (isFresh(request.headers, { ...entity, etag })) {
    response.statusCode = 304;
    log(publication, file, request, 304, asked);
    return response.end();
  }
  if (range === "unsatisfiable") {
    response.setHeader("content-range", `bytes */${entity.bytes}`);
    log(publication, file, request, 416);
    return refuse(response, 416);
  }
  const isPart = range !== undefined && fault?.what !== "whole";
  const { start, end } = isPart ? asked : { start: 0, end: entity.bytes - 1 };
  const stop = fault?.what === "short" ? fault.at : end + 1;
  response.setHeader("content-length", stop - start);
  if (isPart) {
    const total = entity.bytes + (fault?.what === "total" ? fault.extra : 0);
    response.statusCode = 206;
    response.setHeader("content-range", `bytes ${start}-${end}/${total}`);
  }
  log(publication, file, request, response.statusCode, { start, end });
  response.flushHeaders();
  if (request.method === "HEAD") return response.end();
  return sendBody(publication, file, response, { content: entity.content, start, stop, fault });
}

/** Sends `content` from `start` to before `stop`, with the fault, if it is one of bodies. */
async function sendBody(publication, file, response, { content, start, stop, fault }) {
  const breaks = ["drop", "stall", "truncate"].includes(fault?.what);
  const bytes = fault?.what === "flip" ? flipped(content, fault) : content;
  const limit = breaks ? fault.at : stop;
  for (let at = start; at < limit; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, Math.min(at + PIECE_BYTES, limit));
    await publication.pass(piece.length);
    if (!(await isTaken(response, piece))) {
      const isAhead = fault !== undefined && (breaks || fault.what === "flip") && fault.at >= at;
      if (isAhead) publication.putBack(fault);
      return;
    }
    publication.count(file, at, piece.length);
  }
  if (!breaks) return void response.end();
  if (fault.what === "stall") return void (response.closed || (await once(response, "close")));
  await sleep(BREAK_DELAY_MS);
  if (fault.what === "drop") response.socket?.resetAndDestroy();
  else response.socket?.destroySoon();
}

function flipped(content, { at, bit }) {
  const bytes = Buffer.from(content);
  bytes[at] ^= 1 << bit;
  return bytes;
}

/** Whether the connection took the bytes, before it was closed. */
function isTaken(response, bytes) {
  if (response.destroyed) return false;
  return new Promise((resolve) => {
    const onClose = () => resolve(false);
    response.once("close", onClose);
    response.write(bytes, (error) => {
      response.off("close", onClose);
      resolve(error === undefined || error === null);
    });
  });
}

function log(publication, file, request, status, { start, end } = {}) {
  const range = request.headers.range ?? null;
  publication.requests.push({ file, range, status, start, end, time: performance.now() });
}

function sendText(response, type, content) {
  response.setHeader("content-type", type);
  response.end(content);
}

function refuse(response, status) {
  response.statusCode = status;
  sendText(response, contentType(".txt", ".txt"), `${status} ${http.STATUS_CODES[status]}\n`);
}
