/** Which device a model runs on: WebGPU on a real adapter, the CPU elsewhere, and the reason in words for people. */

import { PesiError, toWire } from "./errors.js";
import { compileInParallel, takeLatePipelines } from "./pipelines.js";
import type { Team } from "./team.js";

/** What the engine needs to know of the WebGPU adapter beyond what it can ask for itself. */
export interface AdapterFacts {
  /** Whether the adapter computes on the CPU. */
  readonly softwareAdapter: boolean;
  /** Whether shaders may use subgroup operations. */
  readonly subgroups: boolean;
  /** The smallest and largest number of invocations in a subgroup; 0 without subgroups. */
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  /** Whether shaders may use 16-bit floats. */
  readonly shaderF16: boolean;
  /** The adapter by name. */
  readonly description: string;
}

/** A device, its name, and why it was chosen. */
export type DeviceChoice =
  | { readonly device: "webgpu"; readonly name: string; readonly reason: string; readonly adapter: AdapterFacts }
  | { readonly device: "cpu"; readonly name: string; readonly reason: string };

/** What the engine is told of a device. */
export interface Target {
  readonly device: "webgpu" | "cpu";
  readonly adapter?: AdapterFacts;
  /** More threads for the CPU, where there are any to be had. */
  readonly team?: Team | undefined;
}

/** The CPU by name, with so many threads. */
export function cpuName(threads: number): string {
  return threads === 1 ? "CPU (WebAssembly SIMD)" : `CPU (WebAssembly SIMD, ${threads} threads)`;
}

/** Names of adapters that compute on the CPU, for browsers that do not say so with `isFallbackAdapter`. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|\bwarp\b|basic render|\bsoftware\b/i;

/**
 * Chooses between `gpu`, the browser's entry to WebGPU where it has one, and the CPU.
 *
 * @throws {PesiError} of kind `no_adapter` where WebGPU was asked for and there is no adapter
 */
export async function chooseDevice(
  requested: "auto" | "webgpu" | "cpu",
  gpu: GPU | undefined,
  secureContext: boolean,
): Promise<DeviceChoice> {
  if (requested === "cpu") return cpu("The CPU was asked for.");
  const found = await findAdapter(gpu, secureContext);
  if (typeof found === "string") {
    if (requested === "webgpu") throw new PesiError("no_adapter", found);
    return cpu(`${found}.`);
  }
  const facts = adapterFacts(found);
  const name = facts.description;
  if (requested === "webgpu") return { device: "webgpu", name, reason: "WebGPU was asked for.", adapter: facts };
  if (facts.softwareAdapter) {
    const why = "is software, which is slower than computing on the CPU directly";
    return cpu(`The only WebGPU adapter here (${name}) ${why}.`);
  }
  return { device: "webgpu", name, reason: "This device has a GPU that WebGPU can use.", adapter: facts };
}

/**
 * Does `work` for the device chosen; once more for the CPU where the choice was free, and the GPU turns out not to be
 * able to run the model.
 */
export async function workOn<T>(
  requested: "auto" | "webgpu" | "cpu",
  choice: DeviceChoice,
  work: (target: Target) => Promise<T>,
): Promise<{ readonly result: T; readonly choice: DeviceChoice }> {
  const { device } = choice;
  const target = device === "webgpu" ? { device, adapter: choice.adapter } : { device };
  try {
    return { result: await work(target), choice };
  } catch (error) {
    const { kind, message } = toWire(error);
    if (requested !== "auto" || device !== "webgpu" || kind !== "no_adapter") throw error;
    return workOn(requested, cpu(`The GPU cannot run this model: ${message}.`), work);
  }
}

function cpu(reason: string): DeviceChoice {
  return { device: "cpu", name: cpuName(1), reason };
}

async function findAdapter(gpu: GPU | undefined, secureContext: boolean): Promise<GPUAdapter | string> {
  if (gpu === undefined) {
    return secureContext
      ? "This browser does not offer WebGPU"
      : "WebGPU is offered only to pages served over https or from localhost";
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  return adapter ?? "The browser found no GPU that it can use";
}

/** Reads an adapter's names and features. */
export function adapterFacts(adapter: GPUAdapter): AdapterFacts {
  const { info } = adapter;
  const names = [info.vendor, info.architecture, info.device, info.description].filter((part) => part !== "");
  const subgroups = adapter.features.has("subgroups");
  return {
    softwareAdapter: isFallback(adapter) || names.some((part) => SOFTWARE.test(part)),
    subgroups,
    subgroupMinSize: subgroups ? (info.subgroupMinSize ?? 0) : 0,
    subgroupMaxSize: subgroups ? (info.subgroupMaxSize ?? 0) : 0,
    shaderF16: adapter.features.has("shader-f16"),
    description: info.description || [info.vendor, info.architecture].filter((part) => part !== "").join(" ") || "GPU",
  };
}

/** `isFallbackAdapter` moved from the adapter to its info; browsers have one or the other. */
function isFallback(adapter: GPUAdapter & { readonly isFallbackAdapter?: boolean }): boolean {
  return adapter.info.isFallbackAdapter || adapter.isFallbackAdapter === true;
}

/**
 * Makes every later device what wgpu's web backend cannot ask for: one with the subgroup feature where its adapter has
 * it, which compiles pipelines in parallel.
 */
export function extendDevices({ GPUAdapter, GPUComputePassEncoder }: Partial<typeof globalThis>): void {
  if (GPUAdapter === undefined) return;
  takeLatePipelines(GPUComputePassEncoder);
  const { prototype } = GPUAdapter;
  const { requestDevice } = prototype;
  prototype.requestDevice = async function (this: GPUAdapter, descriptor: GPUDeviceDescriptor = {}) {
    const requiredFeatures = new Set(descriptor.requiredFeatures);
    if (this.features.has("subgroups")) requiredFeatures.add("subgroups");
    const device = await requestDevice.call(this, { ...descriptor, requiredFeatures: [...requiredFeatures] });
    compileInParallel(device);
    return device;
  };
}
