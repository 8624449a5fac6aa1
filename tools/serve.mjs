/**
 * The local web server: the built package and its demo page, and models under `/models/`, on this
 * machine only. It sends the Content-Security-Policy that the product promises to live under, and
 * answers byte ranges, so that a model's file can be read in pieces.
 *
 *     node tools/serve.mjs [--port N] [--models FOLDER]... [--isolated]
 */
import { once } from "node:events";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";

import { modelsFolder } from "./default-model.mjs";
import { isFresh, selectRange } from "./http-range.mjs";
import { ToolError, dist, runAsProgram, say } from "./process.mjs";

const HOST = "127.0.0.1";
const HOST_NAMES = new Set(["127.0.0.1", "localhost"]);
const START = "/demo/";

/** Where the demo may read models from, besides this server; the hub keeps large files on others. */
const HUB = ["https://huggingface.co", "https://*.huggingface.co", "https://*.hf.co"];

const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  `connect-src 'self' ${HUB.join(" ")}`,
  "img-src 'self' data:",
  "style-src 'self'",
  "object-src 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS = {
  "content-security-policy": POLICY,
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

const ISOLATION = {
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-opener-policy": "same-origin",
};

const TYPES = {
  ".bin": "application/octet-stream",
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".md": "text/markdown; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".ts": "text/plain; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};

/**
 * Starts the server.
 *
 * @param {object} [options]
 * @param {number} [options.port] 0 takes a free one.
 * @param {string[]} [options.models] folders to look in for `/models/`, in order, before the
 *   repository's own: models in one file, and folders of files.
 * @param {string} [options.folder] what is served beside models, by default the built package.
 * @param {boolean} [options.isolated] adds the headers of cross-origin isolation, with which Pesi has
 *   several threads on the CPU.
 * @param {Record<string, string>} [options.pages] further pages and scripts by path, for tests.
 * @param {(path: string) => Promise<void>} [options.pace] awaited before each piece of a file
 *   that is sent, so that a test can hold a download.
 * @param {object[]} [options.log] receives `{method, path, status, bytes, range}` of each request
 *   once it is answered; `bytes` counts the body that was sent.
 * @returns {Promise<{url: string, close: () => Promise<void>}>} `url` without a final slash.
 */
export async function startServer(options = {}) {
  const { port = 0, models = [], folder = dist, isolated = false, pages = {}, pace, log } = options;
  const site = {
    pages,
    pace,
    headers: { ...HEADERS, ...(isolated ? ISOLATION : {}) },
    mounts: [
      { prefix: "/models/", folders: [...models, modelsFolder] },
      { prefix: "/", folders: [folder] },
    ],
  };
  const server = http.createServer(async (request, response) => {
    const bytes = await answer(site, request, response).catch(() => response.destroy() && 0);
    const { method, url } = request;
    const range = request.headers.range ?? null;
    log?.push({ method, path: url, status: response.statusCode, bytes, range });
  });
  server.listen(port, HOST);
  await Promise.race([
    once(server, "listening"),
    once(server, "error").then(([error]) => {
      throw new ToolError(`the server cannot listen on port ${port}: ${error.message}`);
    }),
  ]);
  const close = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
  return { url: `http://${HOST}:${server.address().port}`, close };
}

async function answer(site, request, response) {
  for (const [name, value] of Object.entries(site.headers)) response.setHeader(name, value);
  if (!HOST_NAMES.has((request.headers.host ?? "").replace(/:\d+$/, ""))) {
    return refuse(response, 403);
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    return refuse(response, 405);
  }
  const route = decodePath(request.url);
  if (route === undefined) return refuse(response, 400);
  if (route === "/") return redirect(response, START);
  if (Object.hasOwn(site.pages, route)) {
    response.setHeader("content-type", contentType(route, ".html"));
    response.end(site.pages[route]);
    return Buffer.byteLength(site.pages[route]);
  }
  const found = await findFile(site.mounts, route);
  if (found === undefined) return refuse(response, 404);
  if (found.folder) return redirect(response, `${route}/`);
  return sendFile(found, request, response, () => site.pace?.(route));
}

/** What a file is by the ending of its name; what has none of those known is as `otherwise` ends. */
export function contentType(file, otherwise = ".bin") {
  return TYPES[path.extname(file)] ?? TYPES[otherwise];
}

/** The path of a request with its escapes resolved; `undefined` where it could leave the site. */
export function decodePath(url) {
  let route;
  try {
    route = decodeURIComponent(url.replace(/[?#].*$/s, ""));
  } catch {
    return undefined;
  }
  const leaves = !route.startsWith("/") || /\/\.|\/\/|[\\\0]/.test(route);
  return leaves ? undefined : route;
}

async function findFile(mounts, route) {
  const { prefix, folders } = mounts.find((mount) => route.startsWith(mount.prefix));
  for (const folder of folders) {
    const named = path.join(folder, route.slice(prefix.length));
    const file = route.endsWith("/") ? path.join(named, "index.html") : named;
    const stat = await fs.stat(file).catch(() => undefined);
    if (stat?.isFile()) return { file, stat };
    if (stat?.isDirectory()) return { folder: true };
  }
  return undefined;
}

async function sendFile({ file, stat }, request, response, beforePiece) {
  const entity = {
    bytes: stat.size,
    etag: `"${stat.size.toString(16)}-${Math.trunc(stat.mtimeMs).toString(16)}"`,
    modified: stat.mtime.toUTCString(),
  };
  response.setHeader("accept-ranges", "bytes");
  response.setHeader("cache-control", "no-cache");
  response.setHeader("content-type", contentType(file));
  response.setHeader("etag", entity.etag);
  response.setHeader("last-modified", entity.modified);
  if (isFresh(request.headers, entity)) return endEmpty(response, 304);

  const range = selectRange(request.headers, entity);
  if (range === "unsatisfiable") {
    response.setHeader("content-range", `bytes */${entity.bytes}`);
    return refuse(response, 416);
  }
  const { start, end } = range ?? { start: 0, end: entity.bytes - 1 };
  const length = end - start + 1;
  response.setHeader("content-length", length);
  if (range !== undefined) {
    response.statusCode = 206;
    response.setHeader("content-range", `bytes ${start}-${end}/${entity.bytes}`);
  }
  if (request.method === "HEAD" || length === 0) {
    response.end();
    return 0;
  }
  let sent = 0;
  const pieces = async function* (content) {
    for await (const piece of content) {
      await beforePiece();
      sent += piece.length;
      yield piece;
    }
  };
  // A reader that goes away in the middle is no failure of the server.
  await pipeline(createReadStream(file, { start, end }), pieces, response).catch(() => {});
  return sent;
}

function refuse(response, status) {
  const body = `${status} ${http.STATUS_CODES[status]}\n`;
  response.statusCode = status;
  response.setHeader("content-type", TYPES[".txt"]);
  response.end(body);
  return body.length;
}

function endEmpty(response, status) {
  response.statusCode = status;
  response.end();
  return 0;
}

function redirect(response, location) {
  response.setHeader("location", encodeURI(location));
  return endEmpty(response, 302);
}

await runAsProgram(import.meta.url, async () => {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "8080" },
      models: { type: "string", multiple: true },
      isolated: { type: "boolean" },
    },
  });
  const server = await startServer({ ...values, port: Number(values.port) });
  say(`${server.url}${START}`);
});
