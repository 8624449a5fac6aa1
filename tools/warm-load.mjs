/**
 * Measures a warm load in headless Chromium on WebGPU: how long weights take from browser storage to the GPU, against a
 * plain loop that copies the same bytes of the same files, in turns; and the most memory that loading takes in the
 * worker, of the WebAssembly module and of JavaScript.
 *
 *     npm run warm-load [-- --model SOURCE] [--models FOLDER] [--rounds N] [--json]
 *
 * Weights are on their way from the first report of the phase `load` to the first of `compile`, when the last of them
 * are in the GPU's queue; the plain loop tells both when they are there and when the queue is done.
 */
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { build } from "./build.mjs";
import { ensureModel } from "./default-model.mjs";
import { defaultModelPath, openLocalPage } from "./local-page.mjs";
import { ToolError, root, runAsProgram, say } from "./process.mjs";
import { ensureChromium, setUpBuild } from "./setup.mjs";

const PLAIN_COPY = "/plain-copy.js";
const SAMPLE_INTERVAL_MS = 20;
const MIB = 2 ** 20;

async function warmLoad() {
  const { values } = parseArgs({
    options: {
      model: { type: "string", default: defaultModelPath },
      models: { type: "string", multiple: true },
      rounds: { type: "string", default: "3" },
      json: { type: "boolean", default: false },
    },
  });
  await setUpBuild();
  await ensureChromium();
  await ensureModel();
  await build();
  const result = await measure(values.model, values.models, Number(values.rounds));
  if (values.json) console.log(JSON.stringify(result, null, 2));
  else print(result);
}

async function measure(model, models, rounds) {
  const script = fs.readFileSync(path.join(root, "tools", "plain-copy.js"), "utf8");
  const browser = await openLocalPage({ offline: true, models, pages: { [PLAIN_COPY]: script } });
  try {
    const page = await browser.openBlank();
    const heap = await watchWorkers(browser.context, page);
    say("warm-load: storing the model");
    const cold = await page.evaluate(timeLoad, model);
    if (cold.storageError !== undefined) throw new ToolError(`it was not stored: ${cold.storageError}`);
    const [loads, copies] = [[], []];
    heap.reset();
    for (let round = 0; round < rounds; round++) {
      say(`warm-load: round ${round + 1} of ${rounds}`);
      copies.push(await page.evaluate(timeCopy, PLAIN_COPY));
      const load = await page.evaluate(timeLoad, model);
      if (!load.fromStorage) throw new ToolError("the weights did not come from storage");
      loads.push(load);
    }
    const weightsMs = median(loads.map(({ weightsMs }) => weightsMs));
    const [queuedMs, doneMs] = ["queuedMs", "doneMs"].map((key) => median(copies.map((copy) => copy[key])));
    return {
      model,
      deviceName: loads[0].deviceName,
      rounds,
      bytes: copies[0].bytes,
      weightsMs,
      copyQueuedMs: queuedMs,
      copyDoneMs: doneMs,
      ratioToQueued: weightsMs / queuedMs,
      ratioToDone: weightsMs / doneMs,
      loadMs: median(loads.map(({ loadMs }) => loadMs)),
      wasmHeapBytes: Math.max(...loads.map(({ heapBytes }) => heapBytes)),
      jsHeapBytes: heap.peak(),
    };
  } finally {
    await browser.close();
  }
}

function print(result) {
  const { model, deviceName, rounds } = result;
  const ms = (name) => `${result[name].toFixed(0)} ms`;
  const mib = (name) => `${(result[name] / MIB).toFixed(0)} MiB`;
  console.log(`${model} on ${deviceName}: ${mib("bytes")} of weights, medians of ${rounds}`);
  console.log(`weights to the GPU  ${ms("weightsMs")}, of ${ms("loadMs")} for the whole load`);
  console.log(`plain copy          ${ms("copyQueuedMs")} to the queue, ${ms("copyDoneMs")} until it is done`);
  console.log(`ratio               ${result.ratioToQueued.toFixed(2)}, ${result.ratioToDone.toFixed(2)}`);
  console.log(`WebAssembly memory  ${mib("wasmHeapBytes")}`);
  console.log(`JavaScript heap     ${mib("jsHeapBytes")} at most, sampled`);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Samples the JavaScript heap of the page's workers. */
async function watchWorkers(context, page) {
  const session = await context.newCDPSession(page);
  const workers = new Set();
  let peak = 0;
  session.on("Target.attachedToTarget", ({ sessionId, targetInfo }) => {
    if (targetInfo.type === "worker") workers.add(sessionId);
  });
  session.on("Target.detachedFromTarget", ({ sessionId }) => workers.delete(sessionId));
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { result } = JSON.parse(message);
    if (result?.usedSize !== undefined) peak = Math.max(peak, result.usedSize);
  });
  await session.send("Target.setAutoAttach", {
    autoAttach: true,
    waitForDebuggerOnStart: false,
    flatten: false,
  });
  let id = 0;
  const timer = setInterval(() => {
    for (const sessionId of workers) {
      const message = JSON.stringify({ id: (id += 1), method: "Runtime.getHeapUsage" });
      // A worker may have ended since.
      session.send("Target.sendMessageToTarget", { sessionId, message }).catch(() => {});
    }
  }, SAMPLE_INTERVAL_MS);
  page.once("close", () => clearInterval(timer));
  return { peak: () => peak, reset: () => (peak = 0) };
}

// The functions below run in the page.

/** Loads the model and disposes of it. */
async function timeLoad(model) {
  const { load } = await import("/pesi.js");
  const times = {};
  const onProgress = ({ phase, loadedBytes, totalBytes }) => {
    times[phase] ??= { now: performance.now(), share: totalBytes > 0 ? loadedBytes / totalBytes : 0 };
  };
  const start = performance.now();
  const loaded = await load(model, { device: "webgpu", onProgress });
  const loadMs = performance.now() - start;
  const { fromStorage, storageError, deviceName, memory } = loaded.info;
  await loaded.dispose();
  // What the first report tells of had been done before it.
  const weightsMs =
    times.load === undefined ? undefined : (times.compile.now - times.load.now) / (1 - times.load.share);
  return { fromStorage, storageError, deviceName, heapBytes: memory.heapBytes, loadMs, weightsMs };
}

/** Copies what is stored. */
async function timeCopy(script) {
  const worker = new Worker(script);
  const { promise, resolve, reject } = Promise.withResolvers();
  worker.addEventListener("message", ({ data }) => resolve(data));
  worker.addEventListener("error", ({ message }) => reject(new Error(message)));
  worker.postMessage("copy");
  const result = await promise;
  worker.terminate();
  if (result.error !== undefined) throw new Error(result.error);
  return result;
}

await runAsProgram(import.meta.url, warmLoad);
