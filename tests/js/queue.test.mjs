import assert from "node:assert/strict";
import test from "node:test";

import { AsyncQueue } from "../../dist/queue.js";
import { pesiError } from "./scripted-worker.mjs";

test("items come in order, whether they were pushed before or after they were asked for", async () => {
  const queue = new AsyncQueue(() => {});
  queue.push(1);
  queue.push(2);
  assert.deepEqual(await queue.next(), { done: false, value: 1 });
  assert.deepEqual(await queue.next(), { done: false, value: 2 });
  const [third, fourth] = [queue.next(), queue.next()];
  queue.push(3);
  queue.end();
  queue.push(4);
  assert.deepEqual(await third, { done: false, value: 3 });
  assert.deepEqual(await fourth, { done: true, value: undefined });
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
});

test("a failure is thrown once, after what was queued", async () => {
  const queue = new AsyncQueue(() => assert.fail("the consumer did not leave"));
  const failure = new Error("failure");
  queue.push(1);
  queue.fail(failure);
  assert.deepEqual(await queue.next(), { done: false, value: 1 });
  await assert.rejects(queue.next(), failure);
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
});

test("an abort is thrown at once, unless the end came first", async () => {
  const controller = new AbortController();
  const [open, ended] = [new AsyncQueue(() => {}, controller.signal), new AsyncQueue(() => {}, controller.signal)];
  open.push(1);
  ended.push(1);
  ended.end();
  controller.abort();
  await assert.rejects(open.next(), pesiError("aborted"));
  assert.deepEqual(await open.next(), { done: true, value: undefined });
  assert.deepEqual(await ended.next(), { done: false, value: 1 });
  assert.deepEqual(await ended.next(), { done: true, value: undefined });
});

test("a waiting consumer gets the failure", async () => {
  const queue = new AsyncQueue(() => {});
  const next = queue.next();
  queue.fail(new Error("failure"));
  await assert.rejects(next);
});

test("leaving tells the producer once, ends a waiting next, and drops the rest", async () => {
  let left = 0;
  const queue = new AsyncQueue(() => (left += 1));
  queue.push(1);
  for await (const item of queue) {
    assert.equal(item, 1);
    queue.push(2);
    break;
  }
  await queue.return();
  queue.push(3);
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
  assert.equal(left, 1);

  const other = new AsyncQueue(() => {});
  const waiting = other.next();
  await other.return();
  assert.deepEqual(await waiting, { done: true, value: undefined });
});
