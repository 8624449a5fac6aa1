import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { startServer } from "../../../tools/serve.mjs";

const CONTENT = Buffer.from(Array.from({ length: 100 }, (_, i) => i));
/** Where the shard's bytes that are not zero begin: past what 32 bits can say. */
const SHARD_END = 5 * 2 ** 30;
const log = [];
let folder;
let server;

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "pesi-serve-"));
  fs.writeFileSync(path.join(folder, "secret"), "outside");
  fs.mkdirSync(path.join(folder, "models", "split"), { recursive: true });
  fs.writeFileSync(path.join(folder, "models", "tiny.gguf"), CONTENT);
  fs.writeFileSync(path.join(folder, "models", "empty.gguf"), "");
  fs.writeFileSync(path.join(folder, "models", "split", "config.json"), "{}");
  const shard = fs.openSync(path.join(folder, "models", "split", "model.safetensors"), "w");
  fs.writeSync(shard, CONTENT, 0, CONTENT.length, SHARD_END);
  fs.closeSync(shard);
  fs.symlinkSync(path.join("..", "tiny.gguf"), path.join(folder, "models", "split", "link.gguf"));
  const pages = { "/blank": "<!doctype html><title>Blank</title>" };
  server = await startServer({ models: [path.join(folder, "models")], pages, log });
});

after(async () => {
  await server.close();
  fs.rmSync(folder, { recursive: true });
});

/** One request over a plain socket: unlike `fetch`, it sends the path as it is. */
function ask(route, { method = "GET", headers = {} } = {}) {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const request = http.request({ hostname, port, path: route, method, headers }, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () => {
        const { statusCode: status, headers: answered } = response;
        resolve({ status, headers: answered, body: Buffer.concat(pieces) });
      });
    });
    request.on("error", reject).end();
  });
}

const tiny = (range, headers = {}) => ask("/models/tiny.gguf", { headers: { range, ...headers } });

test("serves a model whole, with what a range reader needs to know", async () => {
  const { status, headers, body } = await ask("/models/tiny.gguf");
  assert.equal(status, 200);
  assert.deepEqual(body, CONTENT);
  assert.equal(headers["content-length"], "100");
  assert.equal(headers["accept-ranges"], "bytes");
  assert.equal(headers["content-type"], "application/octet-stream");
  assert.match(headers.etag, /^"[0-9a-f]+-[0-9a-f]+"$/);
  assert.ok(!Number.isNaN(Date.parse(headers["last-modified"])));
});

for (const [range, start, end] of [
  ["bytes=0-0", 0, 0],
  ["bytes=10-19", 10, 19],
  ["bytes=90-", 90, 99],
  ["bytes=-5", 95, 99],
  ["bytes=-500", 0, 99],
  ["bytes=50-1000", 50, 99],
]) {
  test(`answers ${range} with bytes ${start} to ${end}`, async () => {
    const { status, headers, body } = await tiny(range);
    assert.equal(status, 206);
    assert.equal(headers["content-range"], `bytes ${start}-${end}/100`);
    assert.deepEqual(body, CONTENT.subarray(start, end + 1));
  });
}

test("refuses ranges past the end", async () => {
  for (const range of ["bytes=100-", "bytes=500-600", "bytes=-0"]) {
    const { status, headers } = await tiny(range);
    assert.equal(status, 416, range);
    assert.equal(headers["content-range"], "bytes */100");
  }
});

test("sends the whole where a range is malformed, multiple, or of an older file", async () => {
  const ranges = ["bytes=-", "bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b"];
  for (const range of ranges) assert.equal((await tiny(range)).status, 200, range);
  assert.equal((await tiny("bytes=0-1", { "if-range": '"other"' })).status, 200);
  const { headers } = await ask("/models/tiny.gguf");
  assert.equal((await tiny("bytes=0-1", { "if-range": headers.etag })).status, 206);
});

test("serves the files of a model's folder, beyond 4 GiB too", async () => {
  const config = await ask("/models/split/config.json");
  assert.equal(config.headers["content-type"], "application/json; charset=utf-8");
  assert.equal(config.body.toString(), "{}");

  const size = SHARD_END + CONTENT.length;
  const shard = "/models/split/model.safetensors";
  const { headers } = await ask(shard, { method: "HEAD" });
  assert.equal(headers["content-length"], String(size));
  for (const range of [`bytes=${SHARD_END + 10}-${SHARD_END + 19}`, `bytes=${SHARD_END + 90}-`]) {
    const { status, headers: answered, body } = await ask(shard, { headers: { range } });
    const [start, end] = range.endsWith("-") ? [90, 99] : [10, 19];
    assert.equal(status, 206);
    assert.equal(answered["content-range"], `bytes ${SHARD_END + start}-${SHARD_END + end}/${size}`);
    assert.equal(answered["content-length"], String(end - start + 1));
    assert.deepEqual(body, CONTENT.subarray(start, end + 1));
  }
  assert.equal((await ask(shard, { headers: { range: `bytes=${size}-` } })).status, 416);
});

test("follows links in a model's folder: the hub's own cache is made of them", async () => {
  assert.deepEqual((await ask("/models/split/link.gguf")).body, CONTENT);
});

test("has no page for a folder of models", async () => {
  assert.equal((await ask("/models/split/")).status, 404);
});

test("says 304 to a copy that is current", async () => {
  const { headers } = await ask("/models/tiny.gguf");
  for (const condition of [
    { "if-none-match": headers.etag },
    { "if-none-match": `"other", W/${headers.etag}` },
    { "if-modified-since": headers["last-modified"] },
  ]) {
    assert.equal((await ask("/models/tiny.gguf", { headers: condition })).status, 304);
  }
  const changed = { "if-none-match": '"other"' };
  assert.equal((await ask("/models/tiny.gguf", { headers: changed })).status, 200);
});

test("answers HEAD without a body", async () => {
  const { status, headers, body } = await ask("/models/tiny.gguf", { method: "HEAD" });
  assert.equal(status, 200);
  assert.equal(headers["content-length"], "100");
  assert.equal(body.length, 0);
});

test("serves an empty file", async () => {
  const { status, body } = await ask("/models/empty.gguf");
  assert.equal(status, 200);
  assert.equal(body.length, 0);
});

test("never leaves its folders", async () => {
  for (const route of [
    "/models/../secret",
    "/models/%2e%2e/secret",
    "/models/..%2fsecret",
    "/models/..%5csecret",
    "/models/split/../../secret",
    "/models/split/%2e%2e/%2e%2e/secret",
    "/models/split/.hidden",
    "//secret",
    "/models/%00tiny.gguf",
    "/%",
  ]) {
    assert.equal((await ask(route)).status, 400, route);
  }
});

test("answers only to its own name, and only reads", async () => {
  assert.equal((await ask("/blank", { headers: { host: "example.test" } })).status, 403);
  assert.equal((await ask("/blank", { headers: { host: "localhost:1" } })).status, 200);
  assert.equal((await ask("/blank", { method: "POST" })).status, 405);
});

test("leads to the page and says what is missing", async () => {
  const start = await ask("/");
  assert.equal(start.status, 302);
  assert.equal(start.headers.location, "/demo/");
  assert.equal((await ask("/models/split")).headers.location, "/models/split/");
  assert.equal((await ask("/models/missing.gguf")).status, 404);
});

test("sends the policy the product promises to live under", async () => {
  for (const route of ["/blank", "/models/tiny.gguf", "/models/missing.gguf"]) {
    const { headers } = await ask(route);
    const policy = headers["content-security-policy"];
    assert.match(policy, /default-src 'self'/);
    assert.match(policy, /script-src 'self' 'wasm-unsafe-eval';/);
    // The hub answers a request for a large file with one of the hosts under hf.co.
    assert.match(policy, /connect-src 'self' https:\/\/huggingface\.co [^;]*https:\/\/\*\.hf\.co;/);
    assert.doesNotMatch(policy, /'unsafe-/);
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.equal(headers["cross-origin-opener-policy"], undefined);
  }
});

test("adds isolation where it is asked for", async () => {
  const isolated = await startServer({ isolated: true, pages: { "/blank": "" } });
  const { headers } = await fetch(`${isolated.url}/blank`);
  await isolated.close();
  assert.equal(headers.get("cross-origin-opener-policy"), "same-origin");
  assert.equal(headers.get("cross-origin-embedder-policy"), "require-corp");
});

test("logs each request with the bytes it sent", async () => {
  log.length = 0;
  await tiny("bytes=10-19");
  await ask("/models/missing.gguf");
  assert.deepEqual(log, [
    { method: "GET", path: "/models/tiny.gguf", status: 206, bytes: 10, range: "bytes=10-19" },
    { method: "GET", path: "/models/missing.gguf", status: 404, bytes: 14, range: null },
  ]);
});
