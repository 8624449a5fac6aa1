/**
 * SmolLM2 in the browser against a float32 reference: logits at every position of three prompts and
 * up to 64 greedy tokens, on WebGPU and on the CPU, with one thread and with several. The native tests read the same golden files.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { root } from "../../tools/process.mjs";
import { NMSE_LIMIT, decisive, generateGreedily, nmse } from "./golden.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { openHarness } from "./support.mjs";

/** How far the logarithm of the softmax's denominator may be off. */
const LOG_SUM_EXP_LIMIT = 0.05;

const PROMPTS = ["english", "code", "italian"];

const tensors = readSafetensors(
  path.join(root, "tests/golden/smollm2/golden_compact.safetensors"),
);

/** Only the pages of an isolated server may have threads. */
const WAYS = [
  { device: "cpu", isolated: false, name: /^CPU \(WebAssembly SIMD\)$/ },
  { device: "cpu", isolated: true, name: /^CPU \(WebAssembly SIMD, [2-9] threads\)$/ },
  { device: "webgpu", isolated: false, name: /./ },
];

for (const { device, isolated, name } of WAYS) {
  describe(`SmolLM2 on ${device}${isolated ? " with threads" : ""}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness({ isolated });
      page = await harness.openBlank();
      const found = await page.evaluate(loadModel, { model: defaultModelPath, device });
      assert.equal(found.device, device);
      assert.match(found.deviceName, name);
    });

    after(() => harness?.close());

    for (const prompt of PROMPTS) {
      test(`${prompt}: logits`, async (t) => {
        const golden = goldenLogits(prompt);
        const found = await page.evaluate(computeLogits, golden);
        assert.ok(found.allFinite, "every logit is a finite number");
        const errors = golden.values.map((values, at) => nmse(found.values[at], values));
        const shifts = golden.logSumExp.map((value, at) => Math.abs(found.logSumExp[at] - value));
        const [worstError, worstShift] = [Math.max(...errors), Math.max(...shifts)];
        t.diagnostic(`${errors.length} positions: worst NMSE ${worstError.toExponential(2)}`);
        t.diagnostic(`worst log-sum-exp difference ${worstShift.toExponential(2)}`);
        assert.ok(worstError <= NMSE_LIMIT, `NMSE ${worstError} at ${errors.indexOf(worstError)}`);
        assert.ok(worstShift <= LOG_SUM_EXP_LIMIT, `log-sum-exp is off by ${worstShift}`);
      });

      test(`${prompt}: greedy tokens`, async (t) => {
        const tokens = list(`${prompt}.ids`);
        const maxTokens = decisive(list(`${prompt}.greedy_gap`));
        const found = await page.evaluate(generateGreedily, { tokens, maxTokens });
        t.diagnostic(`${maxTokens} tokens compared`);
        assert.deepEqual(found, list(`${prompt}.greedy`).slice(0, maxTokens));
      });
    }

    test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
  });
}

function list(name) {
  return Array.from(tensors.get(name).data);
}

/**
 * What is known of a prompt's logits: columns and their values at each position, which are all
 * columns at the last.
 */
function goldenLogits(prompt) {
  const tokens = list(`${prompt}.ids`);
  const sampled = list(`${prompt}.cols`);
  const rows = (name) => {
    const { shape, data } = tensors.get(`${prompt}.${name}`);
    return tokens.map((_, at) => Array.from(data.subarray(at * shape[1], (at + 1) * shape[1])));
  };
  const [atSampled, top, atTop] = ["logits_at_cols", "top16_ids", "top16_logits"].map(rows);
  const columns = tokens.map((_, at) => [...sampled, ...top[at]]);
  const values = tokens.map((_, at) => [...atSampled[at], ...atTop[at]]);
  values[values.length - 1] = list(`${prompt}.logits_last`);
  columns[columns.length - 1] = values.at(-1).map((_, column) => column);
  return { tokens, columns, values, logSumExp: list(`${prompt}.logsumexp`) };
}

// The functions below run in the page.

async function loadModel({ model, device }) {
  const { load } = await import("/pesi.js");
  globalThis.model = await load(model, { device });
  return globalThis.model.info;
}

async function computeLogits({ tokens, columns }) {
  const logits = await globalThis.model.logits({ tokens });
  const vocabulary = logits.length / tokens.length;
  const rows = tokens.map((_, at) => logits.subarray(at * vocabulary, (at + 1) * vocabulary));
  return {
    allFinite: logits.every(Number.isFinite),
    values: rows.map((row, at) => columns[at].map((column) => row[column])),
    logSumExp: rows.map((row) => {
      const largest = row.reduce((a, b) => Math.max(a, b));
      return largest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    }),
  };
}
