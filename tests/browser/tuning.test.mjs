/**
 * Sizes of kernels found by trial, and kept in browser storage. Software adapters are not tried: the worker here is told
 * that the adapter is a GPU, and all else is as it is, WebGPU among it.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { root } from "../../tools/process.mjs";
import { NMSE_LIMIT, nmse } from "./golden.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { openHarness } from "./support.mjs";

const GOLDEN = path.join(root, "tests/golden/gpt-oss");
const SIZES = ["matvec_lanes", "matvec_rows", "busy_threads", "expert_gates", "split_keys"];

describe("sizes of kernels on what the page takes for a GPU", () => {
  let harness;
  let page;
  let first;

  before(async () => {
    harness = await openHarness({ models: [GOLDEN] });
    await harness.context.route("**/worker.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `(${pretend})();\n${await response.text()}` });
    });
    page = await harness.openBlank();
  });

  after(() => harness?.close());

  const stored = () => page.evaluate(readTunings);

  test("are found once, and the model computes the same", async () => {
    await page.evaluate(loadModel);
    [first] = await stored();
    assert.deepEqual(Object.keys(JSON.parse(first.text)), SIZES);
    const tensors = readSafetensors(path.join(GOLDEN, "a1-basic/golden.safetensors"));
    const list = (name) => Array.from(tensors.get(name).data);
    const tokens = list("p0.ids");
    const error = nmse(await page.evaluate(computeLogits, tokens), list("p0.logits"));
    assert.ok(error <= NMSE_LIMIT, `NMSE ${error}`);
  });

  test("are taken from storage by the next load", async () => {
    await page.evaluate(loadModel);
    assert.deepEqual(await stored(), [first]);
  });

  test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
});

/** Runs in the worker ahead of it: the adapter's names, and that it is no fallback. */
function pretend() {
  const { subgroupMinSize, subgroupMaxSize } = Object.getOwnPropertyDescriptors(GPUAdapterInfo.prototype);
  const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, "info");
  Object.defineProperty(GPUAdapter.prototype, "info", {
    get() {
      const info = get.call(this);
      return {
        vendor: "pretended",
        architecture: "",
        device: "",
        description: "Pretended GPU",
        isFallbackAdapter: false,
        subgroupMinSize: subgroupMinSize.get.call(info),
        subgroupMaxSize: subgroupMaxSize.get.call(info),
      };
    },
  });
}

// The functions below run in the page.

async function loadModel() {
  const { load } = await import("/pesi.js");
  await globalThis.model?.dispose();
  const options = { device: "webgpu", precision: "exact", contextLength: 128 };
  globalThis.model = await load("/models/a1-basic/", options);
}

async function computeLogits(tokens) {
  return Array.from(await globalThis.model.logits({ tokens }));
}

async function readTunings() {
  const root = await navigator.storage.getDirectory();
  const files = [];
  try {
    for await (const [name, handle] of await root.getDirectoryHandle("pesi-tuning")) {
      const file = await handle.getFile();
      files.push({ name, text: await file.text(), writtenAt: file.lastModified });
    }
  } catch (error) {
    if (error.name !== "NotFoundError") throw error;
  }
  return files;
}
