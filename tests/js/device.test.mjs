import assert from "node:assert/strict";
import test from "node:test";

import { adapterFacts, chooseDevice, extendDevices, workOn } from "../../dist/device.js";
import { PesiError } from "../../dist/errors.js";
import { pesiError } from "./scripted-worker.mjs";

function adapter(info, features = []) {
  const names = { vendor: "", architecture: "", device: "", description: "", isFallbackAdapter: false };
  return { features: new Set(features), info: { ...names, subgroupMinSize: 4, subgroupMaxSize: 64, ...info } };
}

function gpu(found) {
  return { requestAdapter: async () => found };
}

const REAL = adapter({ vendor: "apple", architecture: "metal-3" }, ["subgroups", "shader-f16"]);
const SOFTWARE = [
  adapter({ vendor: "google", architecture: "swiftshader" }),
  adapter({ vendor: "mesa", architecture: "", description: "llvmpipe (LLVM 15.0.7, 256 bits)" }),
  adapter({ vendor: "microsoft", architecture: "warp" }),
  adapter({ vendor: "microsoft", device: "Microsoft Basic Render Driver" }),
  adapter({ vendor: "nobody", isFallbackAdapter: true }),
  { ...adapter({ vendor: "nobody" }), isFallbackAdapter: true },
];

test("auto takes WebGPU on a real adapter and tells what it can do", async () => {
  const choice = await chooseDevice("auto", gpu(REAL), true);
  assert.equal(choice.device, "webgpu");
  assert.equal(choice.name, "apple metal-3");
  assert.deepEqual(choice.adapter, {
    softwareAdapter: false,
    subgroups: true,
    subgroupMinSize: 4,
    subgroupMaxSize: 64,
    shaderF16: true,
    description: "apple metal-3",
  });
});

test("auto takes the CPU where the adapter is software, and names the adapter", async () => {
  for (const software of SOFTWARE) {
    const choice = await chooseDevice("auto", gpu(software), true);
    assert.equal(choice.device, "cpu", JSON.stringify(software.info));
    assert.match(choice.reason, /software/);
    assert.ok(choice.reason.includes(adapterFacts(software).description));
  }
});

test("auto takes the CPU where there is no adapter and no WebGPU, each with its own reason", async () => {
  const reasons = await Promise.all([
    chooseDevice("auto", gpu(null), true),
    chooseDevice("auto", undefined, true),
    chooseDevice("auto", undefined, false),
    chooseDevice("cpu", gpu(REAL), true),
  ]);
  assert.deepEqual(
    reasons.map(({ device }) => device),
    ["cpu", "cpu", "cpu", "cpu"],
  );
  assert.equal(new Set(reasons.map(({ reason }) => reason)).size, 4);
  assert.match(reasons[2].reason, /https/);
});

test("webgpu takes a software adapter and fails without any", async () => {
  const choice = await chooseDevice("webgpu", gpu(SOFTWARE[0]), true);
  assert.equal(choice.device, "webgpu");
  assert.equal(choice.adapter.softwareAdapter, true);
  await assert.rejects(chooseDevice("webgpu", gpu(null), true), pesiError("no_adapter"));
  await assert.rejects(chooseDevice("webgpu", undefined, true), pesiError("no_adapter"));
});

test("a vendor whose name only resembles a software adapter's is real", () => {
  for (const architecture of ["warpspeed", "gen-12lp", "turing"]) {
    assert.equal(adapterFacts(adapter({ vendor: "acme", architecture })).softwareAdapter, false);
  }
});

test("work is told of the device, and of the adapter where there is one", async () => {
  for (const [requested, adapter] of [["cpu", undefined], ["auto", adapterFacts(REAL)]]) {
    const choice = await chooseDevice(requested, gpu(REAL), true);
    const targets = [];
    const done = await workOn(requested, choice, async (target) => targets.push(target));
    assert.deepEqual(done, { result: 1, choice });
    assert.deepEqual(targets, [{ device: choice.device, ...(adapter === undefined ? {} : { adapter }) }]);
  }
});

test("work falls back to the CPU only where the choice was free and the GPU cannot run the model", async () => {
  const attempt = async (requested, kind) => {
    const devices = [];
    const choice = await chooseDevice(requested, gpu(REAL), true);
    const outcome = await workOn(requested, choice, async ({ device }) => {
      devices.push(device);
      if (device === "webgpu" || kind === "storage") throw new PesiError(kind, "bindings are too small");
      return "done";
    }).catch((error) => error);
    return { devices, outcome };
  };
  const { devices, outcome } = await attempt("auto", "no_adapter");
  assert.deepEqual(devices, ["webgpu", "cpu"]);
  assert.equal(outcome.result, "done");
  assert.equal(outcome.choice.device, "cpu");
  assert.match(outcome.choice.reason, /bindings are too small/);
  for (const [requested, kind, tried] of [
    ["webgpu", "no_adapter", ["webgpu"]],
    ["auto", "out_of_memory", ["webgpu"]],
    ["cpu", "storage", ["cpu"]],
  ]) {
    const failed = await attempt(requested, kind);
    assert.deepEqual(failed.devices, tried);
    assert.equal(failed.outcome.kind, kind);
  }
});

test("subgroups are requested where the adapter has them, beside what was asked for", async () => {
  class Adapter {
    constructor(features) {
      this.features = new Set(features);
    }
    async requestDevice(descriptor) {
      const others = { pushErrorScope() {}, popErrorScope() {}, createComputePipeline() {} };
      return { adapter: this, descriptor, ...others };
    }
  }
  extendDevices({ GPUAdapter: Adapter });
  const having = new Adapter(["subgroups"]);
  const { adapter: self, descriptor } = await having.requestDevice({ label: "a", requiredFeatures: ["shader-f16"] });
  assert.equal(self, having);
  assert.equal(descriptor.label, "a");
  assert.deepEqual(descriptor.requiredFeatures, ["shader-f16", "subgroups"]);
  assert.deepEqual((await new Adapter([]).requestDevice()).descriptor.requiredFeatures, []);
});
