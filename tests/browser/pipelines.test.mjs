/** Pipelines compiled in parallel, on a real device. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { openHarness } from "./support.mjs";

describe("pipelines of a validation scope", () => {
  let harness;
  let page;

  before(async () => {
    harness = await openHarness();
    page = await harness.openBlank();
    await page.evaluate(openDevice);
  });

  after(() => harness?.close());

  test("are there once the scope has answered, and compute", async () => {
    assert.deepEqual(await page.evaluate(computeWithin, "validation"), { early: "refused", found: [3, 6, 9] });
  });

  test("that cannot be made are what the scope answers", async () => {
    const { kinds, messages } = await page.evaluate(makeBroken);
    assert.deepEqual(kinds, [null, "GPUValidationError", null]);
    assert.match(messages[1], /absent/);
  });

  test("leave the errors of other calls to the scope they came in", async () => {
    const kinds = await page.evaluate(async () => {
      const { device, pipelineOf } = globalThis;
      device.pushErrorScope("validation");
      device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
      pipelineOf("main");
      const error = await device.popErrorScope();
      return error?.constructor.name;
    });
    assert.equal(kinds, "GPUValidationError");
  });

  test("are as ever without one", async () => {
    assert.deepEqual(await page.evaluate(computeWithin, undefined), { early: "taken", found: [3, 6, 9] });
  });

  test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
});

async function openDevice() {
  const { compileInParallel, takeLatePipelines } = await import("/pipelines.js");
  takeLatePipelines(GPUComputePassEncoder);
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice();
  compileInParallel(device);
  const code = `@group(0) @binding(0) var<storage, read_write> numbers: array<f32>;
    @compute @workgroup_size(3) fn main(@builtin(local_invocation_index) i: u32) { numbers[i] *= 3.0; }`;
  const module = device.createShaderModule({ code });
  const entry = { binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "storage" } };
  const layout = device.createBindGroupLayout({ entries: [entry] });
  const bindGroupLayouts = [layout];
  globalThis.pipelineOf = (entryPoint) =>
    device.createComputePipeline({
      layout: device.createPipelineLayout({ bindGroupLayouts }),
      compute: { module, entryPoint },
    });
  Object.assign(globalThis, { device, layout });
}

async function computeWithin(filter) {
  const { device, layout, pipelineOf } = globalThis;
  if (filter !== undefined) device.pushErrorScope(filter);
  const pipeline = pipelineOf("main");
  const answer = filter === undefined ? null : device.popErrorScope();
  const { COPY_DST, COPY_SRC, MAP_READ, STORAGE } = GPUBufferUsage;
  const buffer = device.createBuffer({ size: 12, usage: STORAGE | COPY_SRC | COPY_DST });
  const readback = device.createBuffer({ size: 12, usage: MAP_READ | COPY_DST });
  device.queue.writeBuffer(buffer, 0, new Float32Array([1, 2, 3]));
  const encode = (use) => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    try {
      pass.setPipeline(pipeline);
    } catch {
      return "refused";
    }
    use(pass);
    pass.end();
    encoder.copyBufferToBuffer(buffer, 0, readback, 0, 12);
    device.queue.submit([encoder.finish()]);
    return "taken";
  };
  const early = encode(() => {});
  if ((await answer) !== null) throw new Error("the scope answers with an error");
  encode((pass) => {
    pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] }));
    pass.dispatchWorkgroups(1);
  });
  await readback.mapAsync(GPUMapMode.READ);
  return { early, found: Array.from(new Float32Array(readback.getMappedRange())) };
}

async function makeBroken() {
  const { device, pipelineOf } = globalThis;
  const answers = ["main", "absent", "main"].map((entryPoint) => {
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    pipelineOf(entryPoint);
    return [device.popErrorScope(), device.popErrorScope()];
  });
  const memory = await Promise.all(answers.map(([answer]) => answer));
  if (memory.some((error) => error !== null)) throw new Error("a pipeline is told of as out of memory");
  const errors = await Promise.all(answers.map(([, answer]) => answer));
  return {
    kinds: errors.map((error) => error?.constructor.name ?? null),
    messages: errors.map((error) => error?.message),
  };
}
