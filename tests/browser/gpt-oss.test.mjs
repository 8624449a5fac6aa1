/**
 * Small gpt-oss models with random weights in the browser against a float32 reference: logits, greedy tokens and
 * hidden states of both file formats, on WebGPU and on the CPU. The native tests read the same golden files.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { root } from "../../tools/process.mjs";
import { NMSE_LIMIT, decisive, generateGreedily, nmse } from "./golden.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { openHarness } from "./support.mjs";

const GOLDEN = path.join(root, "tests/golden/gpt-oss");
const PROMPTS = [0, 1, 2, 3, 4];
/** What keys and values as integers may change: with random weights some tokens go to other experts. */
const INTEGERS_LIMIT = 0.1;

/** The goldens of each model: weights are the same in safetensors and in 16-bit GGUF. */
const GOLDENS = Object.fromEntries(
  ["a1-basic", "a2-ratios"].flatMap((name) => [
    [`${name}/`, `${name}/golden.safetensors`],
    [`gguf/${name}.bf16.gguf`, `${name}/golden.safetensors`],
    [`gguf/${name}.q8.gguf`, `gguf/${name}.q8.golden.safetensors`],
  ]),
);

/**
 * Models by device. A software WebGPU adapter takes ten seconds to generate code for one: these two have all layouts
 * of weights, numbers of experts and ratios of heads between them.
 */
const SCOPES = {
  cpu: Object.keys(GOLDENS),
  webgpu: ["a1-basic/", "gguf/a2-ratios.q8.gguf"],
};

for (const [device, sources] of Object.entries(SCOPES)) {
  describe(`gpt-oss on ${device}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness({ models: [GOLDEN] });
      page = await harness.openBlank();
    });

    after(() => harness?.close());

    for (const source of sources) {
      test(source, async (t) => {
        const tensors = readSafetensors(path.join(GOLDEN, GOLDENS[source]));
        const list = (name) => Array.from(tensors.get(name).data);
        const found = await page.evaluate(loadModel, { source: `/models/${source}`, device });
        assert.deepEqual(found, { device, architecture: "gpt-oss", chatFormat: "harmony" });

        const errors = [];
        for (const prompt of PROMPTS) {
          const tokens = list(`p${prompt}.ids`);
          const name = `p${prompt}.logits`;
          const reference = list(tensors.has(name) ? name : `${name}_last`);
          const logits = await page.evaluate(computeLogits, { tokens, nLast: reference.length });
          errors.push(nmse(logits, reference));
        }
        const worst = Math.max(...errors);
        t.diagnostic(`logits: worst NMSE ${worst.toExponential(2)}`);
        assert.ok(worst <= NMSE_LIMIT, `NMSE ${worst} of prompt ${errors.indexOf(worst)}`);

        let nTokens = 0;
        for (const prompt of PROMPTS) {
          const tokens = list(`p${prompt}.ids`);
          const maxTokens = decisive(list(`p${prompt}.greedy_gap`));
          nTokens += maxTokens;
          const answer = await page.evaluate(generateGreedily, { tokens, maxTokens });
          assert.deepEqual(answer, list(`p${prompt}.greedy`).slice(0, maxTokens), `prompt ${prompt}`);
        }
        t.diagnostic(`${nTokens} greedy tokens are the same`);

        if (tensors.has("p0.hidden.0")) {
          const states = await page.evaluate(computeHiddenStates, list("p0.ids"));
          const layers = states.map((state, at) => nmse(state, list(`p0.hidden.${at}`)));
          t.diagnostic(`hidden states: worst NMSE ${Math.max(...layers).toExponential(2)}`);
          assert.ok(!tensors.has(`p0.hidden.${states.length}`), "all layers are compared");
          assert.ok(Math.max(...layers) <= NMSE_LIMIT, `NMSE by layer: ${layers}`);
        }
        await page.evaluate(() => globalThis.model.dispose());
      });
    }

    test("with keys and values as integers", async (t) => {
      const tensors = readSafetensors(path.join(GOLDEN, "a1-basic/golden.safetensors"));
      const list = (name) => Array.from(tensors.get(name).data);
      const bytes = [];
      for (const kvCache of ["full", "int8"]) {
        await page.evaluate(loadModel, { source: "/models/a1-basic/", device, kvCache });
        bytes.push(await page.evaluate(() => globalThis.model.info.memory.cacheBytes));
        if (kvCache === "full") await page.evaluate(() => globalThis.model.dispose());
      }
      assert.equal(bytes[1] / bytes[0], 8.5 / 32);
      const reference = list("p0.logits");
      const logits = await page.evaluate(computeLogits, { tokens: list("p0.ids"), nLast: reference.length });
      const error = nmse(logits, reference);
      t.diagnostic(`logits: NMSE ${error.toExponential(2)}`);
      assert.ok(error > NMSE_LIMIT && error < INTEGERS_LIMIT, `NMSE ${error}`);
      await page.evaluate(() => globalThis.model.dispose());
    });

    test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
  });
}

// The functions below run in the page.

async function loadModel({ source, device, kvCache }) {
  const { load } = await import("/pesi.js");
  const options = { device, precision: "exact", kvCache, contextLength: 128, cache: false };
  globalThis.model = await load(source, options);
  const { info } = globalThis.model;
  return { device: info.device, architecture: info.architecture, chatFormat: info.chatFormat };
}

/** The last `nLast` logits of all. */
async function computeLogits({ tokens, nLast }) {
  const logits = await globalThis.model.logits({ tokens });
  return Array.from(logits.subarray(logits.length - nLast));
}

/** The hidden states, layer by layer. */
async function computeHiddenStates(tokens) {
  const states = await globalThis.model.hiddenStates({ tokens });
  const { layers, hiddenSize } = globalThis.model.info;
  const size = tokens.length * hiddenSize;
  return Array.from({ length: layers + 1 }, (_, at) => Array.from(states.subarray(at * size, (at + 1) * size)));
}
