/**
 * Several requests to one model in the browser, on both kinds of device: conversations that take turns have the tokens
 * that they have alone, and requests that are aborted at random, queued or under way, leave nothing behind.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { root } from "../../tools/process.mjs";
import { Random } from "./random.mjs";
import { openHarness } from "./support.mjs";

const GOLDEN = path.join(root, "tests/golden/gpt-oss");
const SOURCE = "/models/a1-basic/";
const CONTEXT = 4096;
const N_ABORTS = 100;
/** Requests that are made at once. */
const AT_ONCE = 5;

for (const device of ["cpu", "webgpu"]) {
  describe(`requests that take turns on ${device}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness({ models: [GOLDEN] });
      page = await harness.openBlank();
      await page.evaluate(setUp, { source: SOURCE, options: { device, contextLength: CONTEXT, cache: false } });
    });

    after(() => harness?.close());

    test("conversations interleaved have the tokens that they have alone", async () => {
      const { alone, together } = await page.evaluate(async (seeds) => {
        const { promptOf, answer } = globalThis;
        const asked = seeds.map((seed) => ({ tokens: promptOf(60, seed), maxTokens: 8, temperature: 1, seed }));
        const alone = [];
        for (const request of asked) {
          const first = await answer({ ...request, reusePrefix: false });
          const tokens = [...request.tokens, ...first, ...promptOf(10, request.seed + 100)];
          alone.push([first, await answer({ ...request, tokens, reusePrefix: false })]);
        }
        const together = await Promise.all(
          asked.map(async (request) => {
            const first = await answer(request);
            const tokens = [...request.tokens, ...first, ...promptOf(10, request.seed + 100)];
            return [first, await answer({ ...request, tokens })];
          }),
        );
        return { alone, together };
      }, [1, 2, 3]);
      assert.deepEqual(together, alone);
      assert.notDeepEqual(alone[0], alone[1]);
    });

    test(`${N_ABORTS} aborts, of what is queued and of what is under way, leave nothing behind`, async (t) => {
      const random = new Random(7);
      const plans = Array.from({ length: N_ABORTS }, (_, nth) => ({
        nPrompt: 1 + random.below(40),
        seed: random.below(4),
        reusePrefix: random.below(4) > 0,
        afterMs: nth % 3 === 0 ? 0 : random.below(60),
        afterTokens: nth % 3 === 1 ? 1 + random.below(6) : undefined,
      }));
      const found = await page.evaluate(abortAll, { plans, atOnce: AT_ONCE });
      const { stages, before, after, expected, answered, slowest, cacheBytes } = found;
      t.diagnostic(`${JSON.stringify(stages)}; the next answer waits ${slowest.toFixed(0)} ms at most`);
      assert.equal(stages.queued + stages.underWay, N_ABORTS);
      assert.ok(stages.queued >= 10 && stages.underWay >= 10, JSON.stringify(stages));
      assert.equal(after.deviceBytes - after.setAsideBytes, before.deviceBytes - before.setAsideBytes);
      assert.ok(after.setAsideBytes <= cacheBytes, JSON.stringify(after));
      assert.deepEqual(answered, expected);
      assert.ok(slowest < 3000, `an aborted request went on for ${slowest} ms`);
    });

    test("a load that is aborted at any time is, and the next one loads", async () => {
      const kinds = await page.evaluate(abortLoads, { source: SOURCE, device, delays: [0, 20, 100, 300] });
      assert.deepEqual(kinds.filter((kind) => !["aborted", "loaded"].includes(kind)), []);
      assert.equal(kinds[0], "aborted");
    });

    test("disposing frees what is in use", async () => {
      const { inUse, freedBytes } = await page.evaluate(async () => {
        const { deviceBytes } = await globalThis.model.memory();
        return { inUse: deviceBytes, ...(await globalThis.model.dispose()) };
      });
      assert.equal(freedBytes, inUse);
    });

    test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
  });
}

// The functions below run in the page.

async function setUp({ source, options }) {
  const { load } = await import("/pesi.js");
  const model = await load(source, options);
  Object.assign(globalThis, {
    model,
    /** A prompt of random tokens, another for each seed. */
    promptOf: (length, seed) => {
      let state = seed * 7919 + 1;
      return Array.from({ length }, () => (state = (state * 16_807) % 2_147_483_647) % 250);
    },
    answer: async (request) => {
      const tokens = [];
      for await (const { token } of model.generate({ ignoreEos: true, ...request })) tokens.push(token);
      return tokens;
    },
  });
}

/** Makes requests, some at once, and aborts each of them; tells how far they had come, and what they left. */
async function abortAll({ plans, atOnce }) {
  const { model, promptOf, answer } = globalThis;
  const check = { tokens: promptOf(50, 9), maxTokens: 6, temperature: 0, reusePrefix: false };
  const expected = await answer(check);
  const before = await model.memory();
  const stages = { queued: 0, underWay: 0 };
  let slowest = 0;
  const abortOne = async ({ nPrompt, seed, reusePrefix, afterMs, afterTokens }) => {
    const controller = new AbortController();
    const { signal } = controller;
    const tokens = [...promptOf(40, seed), ...promptOf(nPrompt, seed + 10)];
    let count = 0;
    if (afterTokens === undefined) setTimeout(() => controller.abort(), afterMs);
    try {
      for await (const _ of model.generate({ tokens, seed, reusePrefix, signal, ignoreEos: true })) {
        count += 1;
        if (count === afterTokens) controller.abort();
      }
      throw new Error("the answer came to its end");
    } catch (error) {
      if (error.kind !== "aborted") throw error;
    }
    stages[count === 0 ? "queued" : "underWay"] += 1;
  };
  for (let start = 0; start < plans.length; start += atOnce) {
    await Promise.all(plans.slice(start, start + atOnce).map(abortOne));
    const aborted = performance.now();
    await model.memory();
    slowest = Math.max(slowest, performance.now() - aborted);
  }
  const after = await model.memory();
  const { cacheBytes } = model.info.memory;
  return { stages, before, after, expected, answered: await answer(check), slowest, cacheBytes };
}

/** Aborts a load after each delay; tells how each ended. */
async function abortLoads({ source, device, delays }) {
  const { load } = await import("/pesi.js");
  const kinds = [];
  for (const delay of delays) {
    const signal = AbortSignal.timeout(delay);
    try {
      const model = await load(source, { device, cache: false, signal });
      kinds.push("loaded");
      await model.dispose();
    } catch (error) {
      kinds.push(error.kind);
    }
  }
  return kinds;
}
