import assert from "node:assert/strict";
import test from "node:test";

import { Turns } from "../../dist/turns.js";
import { pesiError } from "./scripted-worker.mjs";

/** Work that is over when the test says so. */
function work(begun, name) {
  const settlers = {};
  const promise = new Promise((resolve, reject) => Object.assign(settlers, { resolve, reject }));
  const run = () => {
    begun.push(name);
    return promise;
  };
  return { run, ...settlers };
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

test("turns come one after the other, in their order, whether those before fail or not", async () => {
  const turns = new Turns();
  const begun = [];
  const [a, b, c] = ["a", "b", "c"].map((name) => work(begun, name));
  const taken = [a, b, c].map(({ run }) => turns.take(undefined, run));
  assert.deepEqual([begun, turns.isAwaited], [["a"], true]);
  a.reject(new Error("a failed"));
  await assert.rejects(taken[0], /a failed/);
  await settled();
  assert.deepEqual([begun, turns.isAwaited], [["a", "b"], true]);
  b.resolve(2);
  assert.equal(await taken[1], 2);
  await settled();
  assert.deepEqual([begun, turns.isAwaited], [["a", "b", "c"], false]);
  c.resolve(3);
  assert.equal(await taken[2], 3);
  assert.equal(await turns.take(undefined, () => 4), 4);
});

test("whoever takes another turn comes after those that wait", async () => {
  const turns = new Turns();
  const order = [];
  const several = async (name, n) => {
    for (let turn = 0; turn < n; turn += 1) await turns.take(undefined, async () => order.push(name));
  };
  await Promise.all([several("long", 4), several("short", 1), several("other", 2)]);
  assert.deepEqual(order, ["long", "short", "other", "long", "other", "long", "long"]);
});

test("an abort while it waits takes it out at once, and others keep their places", async () => {
  const turns = new Turns();
  const begun = [];
  const [a, b, c] = ["a", "b", "c"].map((name) => work(begun, name));
  const controller = new AbortController();
  const first = turns.take(controller.signal, a.run);
  const second = turns.take(controller.signal, b.run);
  const third = turns.take(undefined, c.run);
  controller.abort();
  await assert.rejects(second, pesiError("aborted"));
  assert.deepEqual(begun, ["a"]);
  a.resolve();
  await first;
  await settled();
  assert.deepEqual(begun, ["a", "c"]);
  c.resolve();
  await third;
  await assert.rejects(turns.take(controller.signal, b.run), pesiError("aborted"));
  assert.deepEqual(begun, ["a", "c"]);
});
