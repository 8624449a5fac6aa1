/** Threads of the CPU when they do not do as they should: a model goes without them, or says that they are lost. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { dist } from "../../tools/process.mjs";
import { openHarness } from "./support.mjs";

const THREAD = fs.readFileSync(path.join(dist, "thread.js"), "utf8");

/** A thread that takes its share, and fails at the `count`th chunk of tokens. */
const failingAt = (count) => `
  import "./thread-itself.js";
  const { onmessage } = self;
  let chunks = 0;
  self.onmessage = ({ data }) => {
    if (data.type === "order" && data.words[0] === 1 && ++chunks === ${count}) data.words.fill(99);
    onmessage({ data });
  };`;

async function withThread(script, work) {
  const pages = { "/thread.js": script, "/thread-itself.js": THREAD };
  const harness = await openHarness({ isolated: true, pages });
  try {
    return await work(await harness.openBlank(), harness);
  } finally {
    await harness.close();
  }
}

for (const [what, script] of [
  ["throws at once", "throw new Error('no thread');"],
  ["is no script", "<!doctype html>"],
  ["cannot join", "self.onmessage = () => self.postMessage({ type: 'failed', error: { message: 'no room' } });"],
]) {
  test(`a thread that ${what} is done without`, async () => {
    const { name, answer } = await withThread(script, (page) => page.evaluate(answerOnCpu, defaultModelPath));
    assert.equal(name, "CPU (WebAssembly SIMD)");
    assert.equal(answer.length, 3);
  });
}

test("a thread that fails later is an error, and the model can be loaded again", async () => {
  const { first, error, second } = await withThread(failingAt(3), (page) => page.evaluate(loseThread, defaultModelPath));
  assert.match(first, /2 threads|[3-8] threads/);
  assert.equal(error.name, "PesiError");
  assert.equal(error.kind, "device_lost");
  assert.match(error.message, /thread/);
  assert.equal(second.length, 1);
});

// The functions below run in the page.

async function answerOnCpu(source) {
  const { load } = await import("/pesi.js");
  const model = await load(source, { device: "cpu" });
  const answer = [];
  for await (const { token } of model.generate({ prompt: "Once", maxTokens: 3, temperature: 0 })) answer.push(token);
  return { name: model.info.deviceName, answer };
}

async function loseThread(source) {
  const { load } = await import("/pesi.js");
  const answer = async (model, maxTokens) => {
    const tokens = [];
    for await (const { token } of model.generate({ prompt: "Once", maxTokens, temperature: 0 })) tokens.push(token);
    return tokens;
  };
  const model = await load(source, { device: "cpu" });
  const error = await answer(model, 20).catch(({ name, kind, message }) => ({ name, kind, message }));
  await model.dispose();
  const again = await load(source, { device: "cpu" });
  return { first: model.info.deviceName, error, second: await answer(again, 1) };
}
