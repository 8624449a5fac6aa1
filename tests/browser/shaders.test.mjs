/**
 * Every shader variant compiles in Chromium. The native tests hold the same variants against naga
 * and their CPU twins; a browser has another compiler, which can refuse what naga takes.
 *
 * Variants are also made into pipelines: all of them on a GPU; on a software adapter, which takes
 * seconds to generate code for one, as many as hold every definition of every shader.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { query } from "../../tools/process.mjs";
import { openHarness } from "./support.mjs";

describe("every shader variant compiles in Chromium", () => {
  let harness;
  let page;
  let variants;
  let isSoftware;

  before(async () => {
    // Built as `npm test` builds it: another selection of packages would build the dependencies anew.
    query("cargo", ["test", "--quiet", "--workspace", "--no-run"]);
    const metadata = query("cargo", ["metadata", "--no-deps", "--format-version", "1"]);
    const program = path.join(JSON.parse(metadata).target_directory, "debug", "pesi");
    const lines = query(program, ["shaders"]);
    assert.ok(lines, "`pesi shaders` lists the variants");
    variants = lines.split("\n").map((line) => JSON.parse(line));
    harness = await openHarness();
    page = await harness.openBlank();
    isSoftware = await page.evaluate(openDevice);
  });

  after(() => harness?.close());

  test("with 32-bit floats", async (t) => {
    const wanted = variants.filter(({ f16 }) => !f16);
    assert.ok(wanted.length > 0);
    await compileAll(t, wanted);
  });

  test("with 16-bit floats, where the adapter has them", async (t) => {
    const wanted = variants.filter(({ f16 }) => f16);
    assert.ok(wanted.length > 0);
    const isPossible = await page.evaluate(() => globalThis.device.features.has("shader-f16"));
    if (!isPossible) {
      t.diagnostic(`${wanted.length} variants skipped: the adapter has no shader-f16`);
      return;
    }
    await compileAll(t, wanted);
  });

  test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));

  async function compileAll(t, wanted) {
    const piped = isSoftware ? covering(wanted) : new Set(wanted);
    const requests = wanted.map((variant) => ({ ...variant, pipeline: piped.has(variant) }));
    const { nCompiled, nPipelines, failures } = await page.evaluate(compile, requests);
    t.diagnostic(`${nCompiled} variants compiled, ${nPipelines} of them made into pipelines`);
    assert.deepEqual(failures, []);
    assert.equal(nCompiled, wanted.length);
    assert.equal(nPipelines, piped.size);
  }
});

/**
 * Few variants such that each definition of each shader is in one: those with many come first. A label is a name,
 * definitions and numbers, which make tiles larger or smaller.
 */
function covering(variants) {
  const named = variants.map((variant) => {
    const [shader, ...others] = variant.label.split(" ");
    const definitions = others.filter((other) => !other.includes("="));
    return { variant, names: ["", ...definitions].map((definition) => `${shader} ${definition}`) };
  });
  named.sort((a, b) => b.names.length - a.names.length);
  const seen = new Set();
  const adding = named.filter(({ names }) => {
    const before = seen.size;
    for (const name of names) seen.add(name);
    return seen.size > before;
  });
  return new Set(adding.map(({ variant }) => variant));
}

// The functions below run in the page.

/** Opens a device as the engine does, with what the adapter has; tells whether it is software. */
async function openDevice() {
  const { adapterFacts } = await import("/device.js");
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter === null) throw new Error("there is no WebGPU adapter");
  const requiredLimits = {};
  for (const name in adapter.limits) requiredLimits[name] = adapter.limits[name];
  const requiredFeatures = ["shader-f16", "subgroups"].filter((name) => adapter.features.has(name));
  globalThis.device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  return adapterFacts(adapter).softwareAdapter;
}

/** Compiles the variants, those marked so to pipelines; tells how many did and what failed. */
async function compile(variants) {
  const { device } = globalThis;
  const failures = [];
  let [nCompiled, nPipelines] = [0, 0];
  const compileOne = async ({ label, source, pipeline }) => {
    const module = device.createShaderModule({ label, code: source });
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter(({ type }) => type === "error");
    for (const { lineNum, message } of errors) failures.push(`${label}:${lineNum}: ${message}`);
    if (errors.length > 0) return;
    nCompiled += 1;
    if (!pipeline) return;
    const compute = { module, entryPoint: "main" };
    await device.createComputePipelineAsync({ label, layout: "auto", compute }).then(
      () => (nPipelines += 1),
      (error) => failures.push(`${label}: ${error.message}`),
    );
  };
  await Promise.all(variants.map(compileOne));
  return { nCompiled, nPipelines, failures };
}
