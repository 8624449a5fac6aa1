import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { KINDS, drawPlan } from "../browser/faults.mjs";
import { BREAK_DELAY_MS, SUMS, startFaultServer } from "../browser/fault-server.mjs";
import { Random } from "../browser/random.mjs";

const FILE = "model.gguf";
const CONTENT = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251));
const FILES = new Map([
  [FILE, CONTENT],
  ["config.json", Buffer.from("{}")],
]);
let server;

before(async () => {
  server = await startFaultServer({ pages: { "/blank.html": "<!doctype html>" }, lanes: 2 });
});

after(() => server.close());

const fault = (what, at, more = {}) => ({ faults: [{ what, file: FILE, at, ...more }] });

/**
 * One request. What came is given back however it ended: `end` is `whole` for an answer as long as announced, `open`
 * where the connection is there but nothing comes.
 */
function ask(publication, { file = FILE, range = "bytes=100-59999", method = "GET", headers = {} } = {}) {
  return get(new URL(publication.path + file, server.url), { method, headers: { range, ...headers } });
}

function get(url, options = {}) {
  return new Promise((resolve, reject) => {
    let onError = reject;
    const request = http.request(url, options, (response) => {
      const pieces = [];
      let patience;
      const finish = (end) => {
        clearTimeout(patience);
        if (end === "open") request.destroy();
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces), end });
      };
      const wait = () => {
        clearTimeout(patience);
        patience = setTimeout(finish, 2 * BREAK_DELAY_MS, "open");
      };
      wait();
      response.on("data", (piece) => {
        pieces.push(piece);
        wait();
      });
      response.on("end", () => finish("whole"));
      onError = ({ code }) => finish(code);
      response.on("error", onError);
    });
    request.on("error", (error) => onError(error)).end();
  });
}

/** Asks again without faults, which is to be answered as asked. */
async function assertHealthy(publication) {
  const { status, headers, body } = await ask(publication);
  assert.equal(status, 206);
  assert.equal(headers["content-range"], `bytes 100-59999/${CONTENT.length}`);
  assert.deepEqual(body, CONTENT.subarray(100, 60_000));
}

test("without faults serves ranges and the whole, at each of its addresses", async () => {
  const publication = server.publish(FILES);
  await assertHealthy(publication);
  const { status, headers, body } = await get(server.urls[1] + publication.path + FILE);
  assert.equal(status, 200);
  assert.deepEqual(body, CONTENT);
  assert.equal(headers["cache-control"], undefined);
  publication.set({ isCacheable: false });
  assert.equal((await ask(publication)).headers["cache-control"], "no-store");
  assert.equal(headers["cross-origin-opener-policy"], undefined);
  assert.match(headers.etag, /^"[0-9a-f]+-1"$/);
  assert.equal((await ask(publication, { range: `bytes=${CONTENT.length}-` })).status, 416);
  assert.equal((await ask(publication, { headers: { "if-none-match": headers.etag } })).status, 304);
  assert.equal((await ask(publication, { file: "other.gguf" })).status, 404);
});

test("serves the package and pages", async () => {
  const page = await get(`${server.url}/blank.html`);
  assert.equal(page.headers["content-type"], "text/html; charset=utf-8");
  const module = await get(`${server.url}/pesi.js`);
  assert.equal(module.headers["content-type"], "text/javascript; charset=utf-8");
  for (const route of ["/../package.json", "/m/nothing/model.gguf", "/missing.js"]) {
    assert.ok((await get(server.url + route)).status >= 400, route);
  }
});

test("counts the bytes of each file, and those sent at least once", async () => {
  const publication = server.publish(FILES);
  await ask(publication, { range: "bytes=0-999" });
  await ask(publication, { range: "bytes=500-1499" });
  await ask(publication, { file: "config.json", range: "bytes=0-" });
  await ask(publication, { method: "HEAD" });
  assert.deepEqual(Object.fromEntries(publication.sent), { [FILE]: 2000, "config.json": 2 });
  assert.equal(publication.sentBytes, 2002);
  assert.equal(publication.coveredBytes, 1502);
  assert.deepEqual(
    publication.requests.map(({ file, status, start, end }) => [file, status, start, end]),
    [
      [FILE, 206, 0, 999],
      [FILE, 206, 500, 1499],
      ["config.json", 206, 0, 1],
      [FILE, 206, 100, 59_999],
    ],
  );
});

for (const [what, end] of [
  ["drop", "ECONNRESET"],
  ["truncate", "ECONNRESET"],
  ["stall", "open"],
  ["short", "whole"],
]) {
  for (const at of [100, 101, 30_000, 59_999]) {
    test(`${what} before byte ${at}`, async () => {
      const publication = server.publish(FILES, fault(what, at));
      const answer = await ask(publication);
      assert.equal(answer.end, end);
      assert.equal(answer.status, 206);
      assert.equal(answer.headers["content-range"], `bytes 100-59999/${CONTENT.length}`);
      assert.equal(answer.headers["content-length"], String(what === "short" ? at - 100 : 59_900));
      assert.deepEqual(answer.body, CONTENT.subarray(100, at));
      assert.equal(publication.sentBytes, at - 100);
      assert.equal(publication.fired.length, 1);
      await assertHealthy(publication);
    });
  }
}

test("one bit is wrong", async () => {
  const publication = server.publish(FILES, fault("flip", 40_000, { bit: 3 }));
  const { body } = await ask(publication);
  const expected = Buffer.from(CONTENT.subarray(100, 60_000));
  expected[39_900] ^= 8;
  assert.deepEqual(body, expected);
  await assertHealthy(publication);
});

test("refusals, with and without a time to wait", async () => {
  for (const more of [{ status: 429 }, { status: 429, retryAfter: 1 }, { status: 500 }, { status: 503 }]) {
    const publication = server.publish(FILES, fault("status", 500, more));
    const { status, headers } = await ask(publication);
    assert.equal(status, more.status);
    assert.equal(headers["retry-after"], more.retryAfter?.toString());
    assert.equal(publication.sentBytes, 0);
    await assertHealthy(publication);
  }
});

test("the range is ignored once, or always", async () => {
  const once = server.publish(FILES, fault("whole", 500));
  const always = server.publish(FILES, { ignoresRanges: true });
  for (const publication of [once, always, always]) {
    const { status, headers, body } = await ask(publication);
    assert.equal(status, 200);
    assert.equal(headers["content-range"], undefined);
    assert.deepEqual(body, CONTENT);
  }
  await assertHealthy(once);
  always.set();
  await assertHealthy(always);
});

test("the size is told wrong", async () => {
  const publication = server.publish(FILES, fault("total", 500, { extra: -3 }));
  const { headers, body } = await ask(publication);
  assert.equal(headers["content-range"], `bytes 100-59999/${CONTENT.length - 3}`);
  assert.deepEqual(body, CONTENT.subarray(100, 60_000));
  await assertHealthy(publication);
});

test("the ETag changes, and stays changed", async () => {
  const publication = server.publish(FILES, fault("changed", 50_000));
  const tagOf = async (range) => (await ask(publication, { range })).headers.etag;
  const before = await tagOf("bytes=0-9");
  const changed = await tagOf("bytes=49999-50001");
  assert.notEqual(changed, before);
  assert.equal(await tagOf("bytes=0-9"), changed);
  publication.replace(new Map([[FILE, CONTENT.subarray(0, 1000)]]));
  assert.notEqual(await tagOf("bytes=0-9"), changed);
});

test("a signed address is good for some requests, then another is to be had", async () => {
  const publication = server.publish(FILES, { signature: { requests: 2, exposesTag: false } });
  const signed = async () => {
    const { status, headers } = await ask(publication);
    assert.equal(status, 302);
    assert.notEqual(new URL(headers.location).origin, server.url);
    return headers.location;
  };
  const first = await signed();
  const options = { headers: { range: "bytes=0-9" } };
  for (const status of [206, 206, 403, 403]) {
    const answer = await get(first, options);
    assert.equal(answer.status, status);
    assert.equal(answer.headers["access-control-allow-origin"], "*");
  }
  const { headers, body } = await get(await signed(), options);
  assert.equal(headers["access-control-expose-headers"], "Content-Range");
  assert.deepEqual(body, CONTENT.subarray(0, 10));
  assert.equal(publication.sentBytes, 30);
});

test("digests are right, wrong, or not there", async () => {
  const publication = server.publish(FILES);
  const sums = async (plan) => {
    publication.set(plan);
    const { status, body } = await ask(publication, { file: SUMS });
    return status === 404 ? undefined : body.toString();
  };
  const line = (content, file) => `${createHash("sha256").update(content).digest("hex")}  ${file}\n`;
  const config = line("{}", "config.json");
  assert.equal(await sums({}), undefined);
  assert.equal(await sums({ sums: "right" }), line(CONTENT, FILE) + config);
  const wrong = await sums({ sums: { wrong: FILE } });
  assert.match(wrong, /^[0-9a-f]{64} {2}model\.gguf\n/);
  assert.ok(wrong.endsWith(config) && !wrong.startsWith(line(CONTENT, FILE)));
});

test("a fault that an answer does not come to waits for the next", async () => {
  const publication = server.publish(FILES, { ...fault("drop", 99_000), bytesPerSecond: 500_000 });
  const url = server.url + publication.path + FILE;
  await new Promise((resolve) => {
    const request = http.get(url, (response) => response.once("data", () => resolve(request.destroy())));
    request.on("error", () => {});
  });
  while (publication.fired.length > 0) await sleep(10);
  assert.ok(publication.sentBytes < CONTENT.length / 2);
  assert.equal((await get(url)).end, "ECONNRESET");
  assert.equal(publication.fired.length, 1);
});

test("sends no faster than it is told, on all connections together", async () => {
  const publication = server.publish(FILES, { bytesPerSecond: 400_000 });
  const start = performance.now();
  await Promise.all([ask(publication, { range: "bytes=0-49999" }), ask(publication, { range: "bytes=50000-" })]);
  const milliseconds = performance.now() - start;
  assert.ok(milliseconds > 200 && milliseconds < 2000, `${milliseconds} ms`);
});

test("plans come of their seed, and every kind of them fires", async () => {
  for (const kind of Object.keys(KINDS)) {
    const plan = drawPlan(kind, FILES, new Random(5));
    assert.deepEqual(drawPlan(kind, FILES, new Random(5)), plan);
    const seeds = Array.from({ length: 20 }, (_, seed) => seed);
    const plans = new Set(seeds.map((seed) => JSON.stringify(drawPlan(kind, FILES, new Random(seed)))));
    assert.ok(plans.size > 1, kind);
    const publication = server.publish(FILES, plan);
    const range = `bytes=0-${CONTENT.length - 1}`;
    // A connection that is reset before its answer is one of the faults.
    const statuses = [];
    for (const file of FILES.keys()) {
      for (let i = 0; i < 4; i++) statuses.push((await ask(publication, { file, range })).status);
    }
    const isPlain = statuses.every((status) => status === 206 || status === 416) && publication.fired.length === 0;
    assert.ok(!isPlain, kind);
    assert.equal(publication.fired.length, plan.faults?.length ?? 0, kind);
  }
});
