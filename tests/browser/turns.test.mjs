/**
 * Several requests to one model in the browser, on both kinds of device: conversations that take turns have the tokens
 * that they have alone, and requests that are aborted at random leave nothing behind.
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
/** How long a long answer takes at least, in milliseconds: four times the half second after which it gives way. */
const LONG_MS = 2000;

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
        const asked = seeds.map((seed) => ({ tokens: promptOf(40, seed), maxTokens: 8, temperature: 1, seed }));
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

    test("a short answer comes in the midst of a long one, and neither has other tokens for it", async (t) => {
      const found = await page.evaluate(giveWay, LONG_MS);
      const { alone, together, longMs, shortMs, nBefore } = found;
      const nLong = alone[0].length;
      const [long, short] = [longMs, shortMs].map((ms) => `${ms.toFixed(0)} ms`);
      t.diagnostic(`${nLong} tokens in ${long}; the short answer in ${short}, after ${nBefore} of them`);
      assert.deepEqual(together, alone);
      assert.ok(nBefore < nLong, "the short answer came before the end of the long one");
      // A slice, what is under way at its end, and the short answer itself.
      assert.ok(shortMs < longMs, `${shortMs} ms, and ${longMs} ms for the long one`);
    });

    test("an answer that gave way is freed as it is aborted", async () => {
      const { kinds, before, after } = await page.evaluate(abortWhatGaveWay);
      assert.deepEqual(kinds, ["aborted", "aborted"]);
      assert.ok(after.setAsideBytes <= before.setAsideBytes, JSON.stringify([before, after]));
      assert.equal(after.deviceBytes - after.setAsideBytes, before.deviceBytes - before.setAsideBytes);
    });

    test(`${N_ABORTS} aborts, of what waits, of prompts and of answers, leave nothing behind`, async (t) => {
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
      assert.equal(stages.waiting + stages.answering, N_ABORTS);
      assert.ok(stages.waiting >= 10 && stages.answering >= 10, JSON.stringify(stages));
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

/** Asks for a short answer while a long one is under way; tells their tokens, and those of each alone. */
async function giveWay(longMs) {
  const { answer, promptOf, model } = globalThis;
  const common = { temperature: 1, reusePrefix: false };
  const timed = async (work) => {
    const start = performance.now();
    return [await work(), performance.now() - start];
  };
  const probe = { ...common, tokens: promptOf(20, 1), maxTokens: 40, seed: 1 };
  const [, probeMs] = await timed(() => answer(probe));
  const room = model.info.contextLength - probe.tokens.length;
  const long = { ...probe, maxTokens: Math.min(room, Math.ceil((longMs / probeMs) * probe.maxTokens)) };
  const short = { ...common, tokens: promptOf(20, 2), maxTokens: 3, seed: 2 };
  const [longAlone, aloneMs] = await timed(() => answer(long));
  const alone = [longAlone, await answer(short)];
  const tokens = [];
  let asked;
  for await (const { token } of model.generate({ ignoreEos: true, ...long })) {
    tokens.push(token);
    asked ??= timed(() => answer(short)).then((answered) => [...answered, tokens.length]);
  }
  const [shortTokens, shortMs, nBefore] = await asked;
  return { alone, together: [tokens, shortTokens], longMs: aloneMs, shortMs, nBefore };
}

/** Aborts an answer that has given way to another one, as that begins, and the other one as well. */
async function abortWhatGaveWay() {
  const { model, promptOf, answer } = globalThis;
  // What was in the caches so far is set aside by this, and not by what follows.
  await answer({ tokens: promptOf(40, 21), maxTokens: 1 });
  const before = await model.memory();
  const [first, second] = [new AbortController(), new AbortController()];
  const kindOf = async (seed, { signal }, onToken) => {
    try {
      for await (const _ of model.generate({ tokens: promptOf(40, seed), seed, ignoreEos: true, signal })) onToken();
      return "none";
    } catch (error) {
      return error.kind;
    }
  };
  let other;
  const kind = await kindOf(21, first, () => {
    other ??= kindOf(22, second, () => {
      first.abort();
      second.abort();
    });
  });
  return { kinds: [kind, await other], before, after: await model.memory() };
}

/** Makes requests, some at once, and aborts each of them; tells how far they had come, and what they left. */
async function abortAll({ plans, atOnce }) {
  const { model, promptOf, answer } = globalThis;
  const check = { tokens: promptOf(50, 9), maxTokens: 6, temperature: 0, reusePrefix: false };
  const expected = await answer(check);
  const before = await model.memory();
  const stages = { waiting: 0, answering: 0 };
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
    stages[count === 0 ? "waiting" : "answering"] += 1;
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
