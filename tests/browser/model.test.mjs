/**
 * What the package promises of a loaded model on each device: the same seed gives the same tokens,
 * an answer can be stopped, and disposing gives its memory back.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { openHarness } from "./support.mjs";

/** Two tokens. */
const REPEATED = "and then ";

/** Prompts and numbers of tokens; a software WebGPU adapter takes long for each. */
const CPU = {
  device: "cpu",
  prompt: "<|im_start|>user\nTell me a story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n",
  nSampled: 6,
  nGreedy: 6,
  shortRepeats: 32,
};
const SCOPES = {
  "the CPU": CPU,
  "threads of the CPU": { ...CPU, isolated: true },
  WebGPU: { device: "webgpu", prompt: "Once upon a time", nSampled: 3, nGreedy: 3, shortRepeats: 16 },
};

for (const [name, { device, isolated, prompt, nSampled, nGreedy, shortRepeats }] of Object.entries(SCOPES)) {
  describe(`a model on ${name}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness({ isolated });
      page = await harness.openBlank();
      await page.evaluate(async (options) => {
        const { load } = await import("/pesi.js");
        globalThis.model = await load(options.model, { device: options.device });
      }, { model: defaultModelPath, device });
    });

    after(() => harness?.close());

    const answerOf = (options) => page.evaluate(answer, options);

    test("the same seed and settings give the same tokens", async () => {
      const length = { maxTokens: nSampled, ignoreEos: true };
      const sampled = { prompt, ...length, temperature: 0.9, topP: 0.95, seed: 7 };
      const first = await answerOf(sampled);
      const second = await answerOf(sampled);
      const other = await answerOf({ ...sampled, seed: 8, temperature: 2, topP: 1 });
      assert.equal(first.tokens.length, nSampled);
      assert.deepEqual(second.tokens, first.tokens);
      assert.notDeepEqual(other.tokens, first.tokens);
    });

    test("a kept beginning of the prompt changes nothing", async () => {
      const greedy = { prompt, maxTokens: 2, temperature: 0 };
      const anew = await answerOf({ ...greedy, reusePrefix: false });
      assert.deepEqual((await answerOf(greedy)).tokens, anew.tokens);
    });

    test("an answer stops within one batch of tokens, and the model answers again", async (t) => {
      const greedy = { prompt, temperature: 0, ignoreEos: true };
      await answerOf({ ...greedy, maxTokens: 1 });
      const one = await answerOf({ ...greedy, maxTokens: 1 });
      const idle = await answerOf({ ...greedy, maxTokens: nGreedy });
      const stopped = await page.evaluate(abortAnswer, { ...greedy, maxTokens: 300, abortAt: 2 });
      const again = await answerOf({ ...greedy, maxTokens: nGreedy });
      const delay = again.milliseconds - idle.milliseconds;
      const perToken = (idle.milliseconds - one.milliseconds) / (nGreedy - 1);
      t.diagnostic(`the next answer waits ${ms(delay)}; a token takes ${ms(perToken)}`);
      assert.deepEqual(stopped, { kind: "aborted", tokensAfterAbort: 0 });
      assert.deepEqual(again.tokens, idle.tokens);
      assert.ok(delay < 500 + 10 * perToken, `the engine went on for ${ms(delay)}`);
    });

    test("a long prompt stops within one chunk", async (t) => {
      const anew = { temperature: 0, maxTokens: 1, reusePrefix: false };
      const short = await answerOf({ ...anew, prompt: REPEATED.repeat(shortRepeats) });
      const long = { ...anew, prompt: REPEATED.repeat(8 * shortRepeats) };
      const kind = await page.evaluate(abortPrompt, { ...long, afterMs: 200 });
      const next = await answerOf({ ...anew, prompt: "One, two," });
      const whole = 8 * short.milliseconds;
      t.diagnostic(`the next answer takes ${ms(next.milliseconds)}, the prompt ${ms(whole)}`);
      assert.equal(kind, "aborted");
      assert.equal(next.tokens.length, 1);
      assert.ok(next.milliseconds < whole / 2, "the next answer waited for the whole prompt");
    });

    test("disposing frees all memory, and later calls say that it is gone", async () => {
      const { freedBytes, totalBytes, kind } = await page.evaluate(dispose);
      assert.ok(freedBytes >= totalBytes, `${freedBytes} bytes were freed of ${totalBytes}`);
      assert.equal(kind, "disposed");
    });

    test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
  });
}

function ms(milliseconds) {
  return `${milliseconds.toFixed(0)} ms`;
}

// The functions below run in the page.

async function answer(options) {
  const start = performance.now();
  const tokens = [];
  for await (const { token } of globalThis.model.generate(options)) tokens.push(token);
  return { tokens, milliseconds: performance.now() - start };
}

/** Aborts when token number `abortAt` comes; tells how the iteration ended and what came after. */
async function abortAnswer({ abortAt, ...options }) {
  const controller = new AbortController();
  let count = 0;
  try {
    for await (const _ of globalThis.model.generate({ ...options, signal: controller.signal })) {
      count += 1;
      if (count === abortAt) controller.abort();
    }
    return { kind: "none" };
  } catch (error) {
    return { kind: error.kind, tokensAfterAbort: count - abortAt };
  }
}

/** Aborts while the prompt is being computed; tells how the iteration ended. */
async function abortPrompt({ afterMs, ...options }) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), afterMs);
  try {
    for await (const _ of globalThis.model.generate({ ...options, signal: controller.signal }));
    return "none";
  } catch (error) {
    return error.kind;
  }
}

async function dispose() {
  const { totalBytes } = globalThis.model.info.memory;
  const { freedBytes } = await globalThis.model.dispose();
  const kind = await globalThis.model.encode("gone").then(() => "none", (error) => error.kind);
  return { freedBytes, totalBytes, kind };
}
