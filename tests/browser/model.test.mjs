/**
 * What the package promises of a loaded model on each device: the same seed gives the same tokens,
 * an answer can be stopped, and disposing gives its memory back.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { openHarness } from "./support.mjs";

const PROMPT =
  "<|im_start|>user\nTell me a story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n";

for (const device of ["cpu", "webgpu"]) {
  describe(`a model on ${device}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness();
      page = await harness.openBlank();
      await page.evaluate(async (options) => {
        const { load } = await import("/pesi.js");
        globalThis.model = await load(options.model, { device: options.device });
      }, { model: defaultModelPath, device });
    });

    after(() => harness?.close());

    test("the same seed and settings give the same tokens", async () => {
      const sampled = { prompt: PROMPT, maxTokens: 8, temperature: 0.9, topP: 0.95, seed: 7 };
      const [first, second, other] = [
        await page.evaluate(collect, sampled),
        await page.evaluate(collect, sampled),
        await page.evaluate(collect, { ...sampled, seed: 8, temperature: 2, topP: 1 }),
      ];
      assert.equal(first.length, 8);
      assert.deepEqual(second, first);
      assert.notDeepEqual(other, first);
    });

    test("a kept beginning of the prompt changes nothing", async () => {
      const greedy = { prompt: PROMPT, maxTokens: 6, temperature: 0 };
      const anew = await page.evaluate(collect, { ...greedy, reusePrefix: false });
      assert.deepEqual(await page.evaluate(collect, greedy), anew);
    });

    test("an answer stops within one chunk, and the model answers again", async (t) => {
      const greedy = { prompt: PROMPT, temperature: 0, ignoreEos: true };
      const before = await page.evaluate(collect, { ...greedy, maxTokens: 6 });
      const stopped = await page.evaluate(abortAfter, { ...greedy, maxTokens: 300, abortAt: 3 });
      t.diagnostic(`${stopped.later} tokens after the abort, ${stopped.milliseconds} ms`);
      assert.equal(stopped.kind, "aborted");
      assert.ok(stopped.later <= 32, `${stopped.later} tokens came after the abort`);
      assert.deepEqual(await page.evaluate(collect, { ...greedy, maxTokens: 6 }), before);
    });

    test("a long prompt stops within one chunk", async (t) => {
      const stopped = await page.evaluate(abortPrompt, { words: 1500, afterMs: 300 });
      t.diagnostic(`${stopped.milliseconds} ms after the abort`);
      assert.equal(stopped.kind, "aborted");
      const answer = await page.evaluate(collect, { prompt: "One, two,", maxTokens: 2 });
      assert.equal(answer.length, 2);
    });

    test("disposing frees all memory, and says so to later calls", async () => {
      const { freedBytes, totalBytes, kind } = await page.evaluate(dispose);
      assert.equal(freedBytes, totalBytes);
      assert.equal(kind, "disposed");
    });

    test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
  });
}

// The functions below run in the page.

async function collect(options) {
  const tokens = [];
  for await (const { token } of globalThis.model.generate(options)) tokens.push(token);
  return tokens;
}

/** Aborts when the token `abortAt` arrives; tells how the iteration ended and what still came. */
async function abortAfter({ abortAt, ...options }) {
  const controller = new AbortController();
  let count = 0;
  let abortedAt;
  const stop = () => {
    abortedAt = { count, time: performance.now() };
    controller.abort();
  };
  try {
    for await (const _ of globalThis.model.generate({ ...options, signal: controller.signal })) {
      count += 1;
      if (count === abortAt) stop();
    }
    return { kind: "none" };
  } catch (error) {
    const milliseconds = Math.round(performance.now() - abortedAt.time);
    return { kind: error.kind, later: count - abortedAt.count, milliseconds };
  }
}

async function abortPrompt({ words, afterMs }) {
  const controller = new AbortController();
  const prompt = "and then ".repeat(words / 2);
  const options = { prompt, maxTokens: 1, reusePrefix: false, signal: controller.signal };
  let abortedAt;
  setTimeout(() => {
    abortedAt = performance.now();
    controller.abort();
  }, afterMs);
  try {
    for await (const _ of globalThis.model.generate(options));
    return { kind: "none" };
  } catch (error) {
    // The next call waits until the chunk that was being computed is done.
    await globalThis.model.encode("");
    return { kind: error.kind, milliseconds: Math.round(performance.now() - abortedAt) };
  }
}

async function dispose() {
  const { totalBytes } = globalThis.model.info.memory;
  const { freedBytes } = await globalThis.model.dispose();
  const kind = await globalThis.model.encode("gone").then(() => "none", (error) => error.kind);
  return { freedBytes, totalBytes, kind };
}
