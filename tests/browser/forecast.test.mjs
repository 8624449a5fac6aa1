/** What `forecast` says before a load, against what the load then takes: bytes, memory, speed. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startFaultServer } from "./fault-server.mjs";
import { golden, goldenFolder, smollm2 } from "./store-models.mjs";
import * as inPage from "./store-page.mjs";
import { openHarness } from "./support.mjs";

/** How far memory may be off, and speed by a factor: other programs run on the machine too. */
const MEMORY_TOLERANCE = 0.03;
const SPEED_FACTOR = 1.5;

/** A power of two: on the CPU, keys and values grow by doubling. */
const CONTEXT_LENGTH = 256;

const MODELS = {
  SmolLM2: smollm2(),
  "a1, a folder": goldenFolder("a1-basic"),
  "a1, GGUF": golden("a1-basic.bf16.gguf"),
  "a1, GGUF in 8 bits": golden("a1-basic.q8.gguf"),
  "a2, a folder": goldenFolder("a2-ratios"),
  "a2, GGUF": golden("a2-ratios.bf16.gguf"),
  "a2, GGUF in 8 bits": golden("a2-ratios.q8.gguf"),
};

/** Tokens a round, and rounds, of the speed of an answer. */
const SPEEDS = { cpu: { nTokens: 24, rounds: 5 }, webgpu: { nTokens: 6, rounds: 3 } };

/** A software WebGPU adapter takes ten seconds to get a model ready: a few are enough. */
const PRECISIONS = { cpu: ["compact", "exact"], webgpu: ["compact"] };
const NAMES = { cpu: Object.keys(MODELS), webgpu: ["SmolLM2", "a1, GGUF"] };

for (const device of ["cpu", "webgpu"]) {
  describe(`a forecast for ${device}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness({ start: startFaultServer });
      page = await harness.openBlank();
    });

    after(() => harness?.close());

    for (const name of NAMES[device]) {
      const model = MODELS[name];
      for (const precision of PRECISIONS[device]) {
        test(`of bytes and memory: ${name}, ${precision}`, async (t) => {
          const publication = harness.server.publish(model.files, { isCacheable: false });
          const source = publication.path + model.entry;
          const options = { device, precision, contextLength: CONTEXT_LENGTH };
          const forecast = await page.evaluate(callForecast, { source, options });
          t.diagnostic(`${publication.sentBytes} bytes were read for the forecast`);
          assert.equal(forecast.fits, true, JSON.stringify(forecast));
          assert.equal(forecast.device, device);
          assert.equal(forecast.contextLength, CONTEXT_LENGTH);
          assert.ok(forecast.largestContextLength >= CONTEXT_LENGTH);
          assert.ok(forecast.tokensPerSecond > 0);
          assert.ok(forecast.totalBytes > 0);

          publication.reset();
          const loaded = await page.evaluate(inPage.tryLoad, { source, options, tokens: [1, 2, 3], keep: true });
          assert.equal(loaded.error, undefined);
          assert.equal(forecast.downloadBytes, publication.sentBytes);
          t.diagnostic(`memory forecast ${JSON.stringify(forecast.memory)}`);
          t.diagnostic(`memory found    ${JSON.stringify(loaded.info.memory)}`);
          t.diagnostic(`storage forecast ${forecast.totalBytes}, found ${await storedBytes()}`);

          // On the CPU memory for the context comes as it is used.
          const grows = device === "cpu";
          const freedBytes = await page.evaluate(fillAndDispose, grows ? CONTEXT_LENGTH : 0);
          const parts = grows ? ["weightsBytes"] : Object.keys(forecast.memory);
          for (const part of parts) assertClose(forecast.memory[part], loaded.info.memory[part], part);
          if (grows) assertClose(forecast.memory.totalBytes, freedBytes, "totalBytes");

          publication.reset();
          const warm = await page.evaluate(callForecast, { source, options });
          assert.equal(warm.downloadBytes, 0);
          assert.equal(publication.sentBytes, 0);
          await page.evaluate(inPage.clearStorage);
        });
      }
    }

    test("of speed: SmolLM2", async (t) => {
      const { nTokens, rounds } = SPEEDS[device];
      const model = MODELS.SmolLM2;
      const publication = harness.server.publish(model.files);
      const source = publication.path + model.entry;
      const options = { device, precision: "compact", contextLength: CONTEXT_LENGTH };
      const cold = await page.evaluate(callForecast, { source, options });
      const loaded = await page.evaluate(inPage.tryLoad, { source, options, tokens: [1, 2, 3], keep: true });
      assert.equal(loaded.error, undefined);
      const [said, found] = [[cold.tokensPerSecond], []];
      for (let round = 0; round < rounds; round++) {
        found.push(await page.evaluate(measureSpeed, nTokens));
        said.push((await page.evaluate(callForecast, { source, options })).tokensPerSecond);
      }
      await page.evaluate(() => globalThis.model.dispose());
      await page.evaluate(inPage.clearStorage);
      const list = (speeds) => speeds.map((speed) => speed.toFixed(1)).join(", ");
      t.diagnostic(`forecast ${list(said)} tokens a second; found ${list(found)}`);
      const factor = median(said) / median(found);
      assert.ok(factor < SPEED_FACTOR && factor > 1 / SPEED_FACTOR, `the forecast is ${factor.toFixed(2)} times that`);
    });

    if (device === "cpu") {
      test("of the rest, after a load was cut off", async (t) => {
        const model = golden("a2-ratios.q8.gguf");
        const slow = { bytesPerSecond: 700_000, isCacheable: false };
        const publication = harness.server.publish(model.files, slow);
        const source = publication.path + model.entry;
        const options = { device, precision: "exact", contextLength: 128 };
        const { error } = await page.evaluate(inPage.tryLoad, { source, options, abortAt: 0.5 });
        assert.equal(error?.kind, "aborted");
        const forecast = await page.evaluate(callForecast, { source, options });
        publication.set({ isCacheable: false });
        publication.reset();
        assert.equal((await page.evaluate(inPage.tryLoad, { source, options })).error, undefined);
        t.diagnostic(`${forecast.downloadBytes} of ${model.files.get(model.entry).length} bytes were missing`);
        assert.ok(forecast.downloadBytes > 0 && forecast.downloadBytes < model.files.get(model.entry).length);
        assert.equal(publication.sentBytes, forecast.downloadBytes);
        await page.evaluate(inPage.clearStorage);
      });
    }

    test("nothing went wrong in the console but what the server refused", () => {
      const others = harness.problems.filter((problem) => !/^console: Failed to load resource/.test(problem));
      assert.deepEqual(others, []);
    });

    async function storedBytes() {
      const files = await page.evaluate(inPage.storedFiles);
      return files.reduce((sum, { bytes }) => sum + bytes, 0);
    }
  });
}

function assertClose(forecast, found, what) {
  const error = Math.abs(forecast - found) / found;
  assert.ok(error <= MEMORY_TOLERANCE, `${what}: ${forecast} was forecast, ${found} found`);
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

// The functions below run in the page.

async function callForecast({ source, options }) {
  const { forecast } = await import("/pesi.js");
  return forecast(source, options);
}

/** Uses so many positions of the context, then disposes of the model; the bytes that freed. */
async function fillAndDispose(nPositions) {
  const maxTokens = 4;
  const tokens = Array.from({ length: Math.max(nPositions - maxTokens, 0) }, (_, at) => 1 + (at % 64));
  const options = { tokens, maxTokens, temperature: 0, ignoreEos: true };
  if (nPositions > 0) for await (const _ of globalThis.model.generate(options));
  return (await globalThis.model.dispose()).freedBytes;
}

/** Tokens a second after the first that arrive together. */
async function measureSpeed(nTokens) {
  const SAME_BATCH_MS = 2;
  const options = { tokens: [1, 2, 3, 4], maxTokens: nTokens, temperature: 0, ignoreEos: true };
  const arrivals = [];
  for await (const _ of globalThis.model.generate(options)) arrivals.push(performance.now());
  const later = arrivals.filter((time) => time - arrivals[0] > SAME_BATCH_MS);
  return later.length / ((later.at(-1) - arrivals[0]) / 1000);
}
