/** Calls that each start a worker: `load` on the page's side, `forecast`, and the models in browser storage. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { forecast, load, models } from "../../dist/pesi.js";
import { INFO, ScriptedWorker, pesiError } from "./scripted-worker.mjs";

const MODEL = "http://localhost/models/a.gguf";

/** Workers that were started, in order. */
let started;
/** What the browser was asked about storage, in order, and what it answers. */
let storage;

beforeEach(() => {
  started = [];
  globalThis.Worker = class extends ScriptedWorker {
    constructor(url, options) {
      super();
      this.script = `${url}`;
      this.options = options;
      started.push(this);
    }
  };
  storage = { asked: [], isPersisted: false, estimated: { quota: 100, usage: 90 } };
  const answer = (name, value) => async () => {
    storage.asked.push(name);
    if (value() instanceof Error) throw value();
    return value();
  };
  const fake = {
    persisted: answer("persisted", () => storage.isPersisted),
    persist: answer("persist", () => true),
    estimate: answer("estimate", () => storage.estimated),
  };
  Object.defineProperty(globalThis, "navigator", { value: { storage: fake }, configurable: true, writable: true });
});

afterEach(() => {
  delete globalThis.Worker;
});

/** The worker that a call starts, and its request. */
async function begun(method, nth = 0) {
  while (started[nth] === undefined) await new Promise(setImmediate);
  return { worker: started[nth], ...(await started[nth].request(method)) };
}

// The first test of the file: the package remembers that it has asked.
test("the first load that stores asks to keep storage, and does not wait for the answer", async () => {
  const loaded = async (options) => {
    started.length = 0;
    const result = load(MODEL, options);
    const { worker, id } = await begun("load");
    worker.result(id, INFO);
    assert.equal((await result).info.id, INFO.id);
    assert.equal(worker.terminated, false);
    await new Promise(setImmediate);
    return storage.asked.splice(0);
  };
  assert.deepEqual(await loaded({ cache: false }), []);
  navigator.storage.persist = () => new Promise(() => storage.asked.push("persist"));
  assert.deepEqual(await loaded(), ["persisted", "persist"]);
  assert.deepEqual(await loaded(), []);
});

/** Calls whose answers are handed on: how each is made, the request it makes and the answer. */
const CALLS = {
  "models.list": {
    call: () => models.list({ incomplete: true }),
    method: "listModels",
    params: { incomplete: true },
    answer: [{ id: "owner/repo" }],
  },
  "models.remove": {
    call: () => models.remove("owner/repo", { precision: "exact" }),
    method: "removeModel",
    params: { id: "owner/repo", precision: "exact" },
    answer: { removedBytes: 5 },
  },
  "models.verify": {
    call: () => models.verify("owner/repo", { precision: "compact", repair: false }),
    method: "verifyModel",
    params: { id: "owner/repo", precision: "compact", repair: false },
    answer: { id: "owner/repo", ok: true, checkedBytes: 5, damagedPieces: 0, repairedPieces: 0 },
  },
  forecast: {
    call: () => forecast(MODEL, { device: "cpu", precision: "exact", contextLength: 512 }),
    method: "forecast",
    params: {
      source: {
        kind: "url",
        url: MODEL,
        id: MODEL,
        sums: { kind: "sha256sums", url: "http://localhost/models/SHA256SUMS", prefix: "" },
      },
      device: "cpu",
      options: { precision: "exact", kvCache: "full", contextLength: 512 },
    },
    answer: { id: MODEL, fits: true },
  },
};

for (const [name, { call, method, params, answer }] of Object.entries(CALLS)) {
  test(`${name} asks a worker of its own, and ends it with the answer`, async () => {
    const result = call();
    const { worker, id, params: posted } = await begun(method);
    assert.match(worker.script, /\/dist\/worker\.js$/);
    assert.equal(worker.options.type, "module");
    assert.deepEqual(posted, params);
    assert.equal(worker.terminated, false);
    worker.result(id, answer);
    assert.deepEqual(await result, answer);
    assert.equal(worker.terminated, true);
    assert.equal(started.length, 1);
  });

  test(`${name} fails as the worker does, and ends it`, async () => {
    for (const fail of [
      (worker, id) => worker.error(id, "storage", { details: { limit: 3 } }),
      (worker, id) => worker.error(id, "storage", { details: { limit: 3 }, fatal: true }),
    ]) {
      started.length = 0;
      const result = call();
      const { worker, id } = await begun(method);
      fail(worker, id);
      await assert.rejects(result, pesiError("storage", { limit: 3 }));
      assert.equal(worker.terminated, true);
    }
    started.length = 0;
    const result = call();
    (await begun(method)).worker.crash("unreachable");
    await assert.rejects(result, pesiError("internal"));
  });
}

test("settings that are left out have defaults", async () => {
  const calls = [
    [() => models.list(), "listModels", { incomplete: false }],
    [() => models.remove("a"), "removeModel", { id: "a" }],
    [() => models.verify("a"), "verifyModel", { id: "a", repair: true }],
  ];
  for (const [nth, [call, method, params]] of calls.entries()) {
    const result = call();
    const { worker, id, params: posted } = await begun(method, nth);
    assert.deepEqual(posted, params);
    worker.result(id, {});
    await result;
  }
});

test("what cannot be used is refused by name, before a worker starts", async () => {
  for (const [call, parameter, found] of [
    [() => models.list({ incomplete: 1 }), "incomplete", "1"],
    [() => models.list({ all: true }), "all", "true"],
    [() => models.list("all"), "options", '"all"'],
    [() => models.remove(), "id", "undefined"],
    [() => models.remove(""), "id", '""'],
    [() => models.remove({ id: "a" }), "id", "an object"],
    [() => models.remove("a", { precision: "half" }), "precision", '"half"'],
    [() => models.remove("a", { repair: true }), "repair", "true"],
    [() => models.verify(5), "id", "5"],
    [() => models.verify("a", { repair: "yes" }), "repair", '"yes"'],
    [() => models.verify("a", { onProgress: {} }), "onProgress", "an object"],
    [() => models.verify("a", { signal: 1 }), "signal", "1"],
    [() => models.verify("a", { incomplete: true }), "incomplete", "true"],
    [() => forecast(MODEL, { device: "gpu" }), "device", '"gpu"'],
    [() => forecast(MODEL, { precision: "half" }), "precision", '"half"'],
    [() => forecast(MODEL, { contextLength: 0 }), "contextLength", "0"],
    [() => forecast(MODEL, { signal: {} }), "signal", "an object"],
    [() => forecast(MODEL, { cache: false }), "cache", "false"],
    [() => forecast(42), "source", "42"],
  ]) {
    await assert.rejects(call(), pesiError("invalid_argument", { parameter, found }));
  }
  assert.deepEqual(started, []);
});

test("verify tells its progress until it is cancelled, and then gives the worker a moment", async () => {
  const controller = new AbortController();
  const told = [];
  const onProgress = ({ loadedBytes }) => told.push(loadedBytes);
  const result = models.verify("a", { onProgress, signal: controller.signal });
  const { worker, id } = await begun("verifyModel");
  worker.event(id, { phase: "verify", loadedBytes: 1 });
  controller.abort("enough");
  assert.deepEqual(worker.posted.at(-1), { type: "cancel", id });
  worker.event(id, { phase: "verify", loadedBytes: 2 });
  assert.equal(worker.terminated, false);
  worker.error(id, "aborted");
  await assert.rejects(result, (error) => pesiError("aborted")(error) && error.cause === "enough");
  assert.deepEqual(told, [1]);
  assert.equal(worker.terminated, true);
});

for (const [name, call, method] of [
  ["load", (signal) => load(MODEL, { signal }), "load"],
  ["forecast", (signal) => forecast(MODEL, { signal }), "forecast"],
  ["models.verify", (signal) => models.verify("a", { signal }), "verifyModel"],
]) {
  test(`a worker that does not answer a cancelled ${name} is ended by force`, async (context) => {
    const controller = new AbortController();
    const result = call(controller.signal);
    const { worker } = await begun(method);
    context.mock.timers.enable({ apis: ["setTimeout"] });
    controller.abort();
    context.mock.timers.tick(1_000);
    assert.equal(worker.terminated, false);
    context.mock.timers.tick(60_000);
    await assert.rejects(result, pesiError("aborted"));
    assert.equal(worker.terminated, true);
  });

  test(`${name} starts no worker where it is cancelled before`, async () => {
    await assert.rejects(call(AbortSignal.abort()), pesiError("aborted"));
    assert.deepEqual(started, []);
  });
}

test("storage that is kept already is not asked for", async () => {
  storage.isPersisted = true;
  const { askToPersist } = await import("../../dist/browser-storage.js?kept");
  askToPersist();
  await new Promise(setImmediate);
  assert.deepEqual(storage.asked, ["persisted"]);
});

test("a browser that cannot be asked to keep storage is left alone", async () => {
  storage.isPersisted = new Error("not allowed");
  for (const [nth, has] of [navigator, undefined, {}, { storage: {} }].entries()) {
    globalThis.navigator = has;
    const { askToPersist } = await import(`../../dist/browser-storage.js?without${nth}`);
    askToPersist();
    await new Promise(setImmediate);
  }
  assert.deepEqual(storage.asked, ["persisted"]);
});

test("where storage cannot hold the model, the browser's estimate is told with it", async () => {
  const details = { needed: 80, stored: 20 };
  const failure = async (kind) => {
    started.length = 0;
    const result = load(MODEL);
    const { worker, id } = await begun("load");
    worker.error(id, kind, { details });
    return result.then(assert.fail, (error) => error);
  };
  const told = await failure("quota_exceeded");
  assert.ok(pesiError("quota_exceeded")(told));
  assert.deepEqual(told.details, { ...details, quota: 100, usage: 90 });
  storage.estimated = { quota: 100 };
  assert.deepEqual((await failure("quota_exceeded")).details, { ...details, quota: 100 });
  storage.estimated = new Error("not allowed");
  assert.deepEqual((await failure("quota_exceeded")).details, details);
  globalThis.navigator = {};
  assert.deepEqual((await failure("quota_exceeded")).details, details);
  assert.deepEqual((await failure("out_of_memory")).details, details);
});
