/**
 * A small gpt-oss model with the whole vocabulary and the official tokenizer in the browser, on WebGPU and on the
 * CPU, against a float32 reference. Set-up unpacks it.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { unpackedGolden } from "../../tools/golden.mjs";
import { NMSE_LIMIT, decisive, generateGreedily, nmse } from "./golden.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { openHarness } from "./support.mjs";

const MODEL = "a3-realvocab";
/** One prompt each, since it is the vocabulary that matters here. */
const LOGITS_OF = "p1";
const GREEDY_OF = "p0";

const folder = path.join(unpackedGolden, MODEL);
const { prompts } = JSON.parse(fs.readFileSync(path.join(folder, "golden.json"), "utf8"));
const tensors = readSafetensors(path.join(folder, "golden.safetensors"));
const list = (name) => Array.from(tensors.get(name).data);

for (const device of ["cpu", "webgpu"]) {
  describe(`gpt-oss with the whole vocabulary on ${device}`, () => {
    let harness;
    let page;

    before(async () => {
      harness = await openHarness({ models: [unpackedGolden] });
      page = await harness.openBlank();
      const found = await page.evaluate(loadModel, { source: `/models/${MODEL}/`, device });
      assert.deepEqual(found, { device, vocabularySize: 201_088, chatFormat: "harmony" });
    });

    after(() => harness?.close());

    test("its prompts have the reference's tokens", async () => {
      for (const { i, text } of prompts) {
        const tokens = await page.evaluate(async (text) => Array.from(await globalThis.model.encode(text)), text);
        assert.deepEqual(tokens, list(`p${i}.ids`));
      }
    });

    test("logits", async (t) => {
      const tokens = list(`${LOGITS_OF}.ids`);
      const columns = list(`${LOGITS_OF}.logit_cols`);
      const last = list(`${LOGITS_OF}.logits_last`);
      const found = await page.evaluate(computeLogits, { tokens, columns, nLast: last.length });
      const errors = [
        nmse(found.atColumns, list(`${LOGITS_OF}.logits_at_cols`)),
        nmse(found.last, last),
      ];
      t.diagnostic(`NMSE ${errors.map((error) => error.toExponential(2)).join(", ")}`);
      assert.ok(Math.max(...errors) <= NMSE_LIMIT, `NMSE ${errors}`);
    });

    test("greedy tokens", async (t) => {
      const maxTokens = decisive(list(`${GREEDY_OF}.greedy_gap`));
      const found = await page.evaluate(generateGreedily, { tokens: list(`${GREEDY_OF}.ids`), maxTokens });
      t.diagnostic(`${maxTokens} tokens compared`);
      assert.deepEqual(found, list(`${GREEDY_OF}.greedy`).slice(0, maxTokens));
    });

    test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
  });
}

// The functions below run in the page.

async function loadModel({ source, device }) {
  const { load } = await import("/pesi.js");
  globalThis.model = await load(source, { device, precision: "exact", contextLength: 128, cache: false });
  const { info } = globalThis.model;
  return { device: info.device, vocabularySize: info.vocabularySize, chatFormat: info.chatFormat };
}

/** Some columns of each row, and the first of the last one. */
async function computeLogits({ tokens, columns, nLast }) {
  const logits = await globalThis.model.logits({ tokens });
  const { vocabularySize } = globalThis.model.info;
  const rows = tokens.map((_, at) => logits.subarray(at * vocabularySize, (at + 1) * vocabularySize));
  return {
    atColumns: rows.flatMap((row) => columns.map((column) => row[column])),
    last: Array.from(rows.at(-1).subarray(0, nLast)),
  };
}
