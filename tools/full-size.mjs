/**
 * Loads a synthetic gpt-oss of full size in headless Chromium on WebGPU and generates a few tokens:
 * what no test can, for it takes 14 GB of disk twice and minutes of time.
 *
 *     npm run full-size [-- --preset gpt-oss-20b|gpt-oss-120b] [--layers N] [--tokens N] [--warm] [--check]
 *
 * With `--check` weights are held as published, and logits are compared with those of the CPU, natively.
 * Reports times, the most memory that all processes of the browser had together (proportional set
 * size, Linux only), and the size of the WebAssembly module's memory, which never shrinks.
 */
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { build } from "./build.mjs";
import { openLocalPage } from "./local-page.mjs";
import { watchMemory } from "./memory.mjs";
import { root, runAsProgram, runShown, say, ToolError } from "./process.mjs";
import { ensureChromium, setUpBuild } from "./setup.mjs";

/** Normalised mean squared error that logits may have. */
const MAX_NMSE = 1e-4;
/** Ids from all over the vocabulary. */
const CHECKED_TOKENS = [0, 199999, 12345, 100000, 7, 201087, 65536, 13];
const GIB = 2 ** 30;
const MIB = 2 ** 20;

async function fullSize() {
  const { values } = parseArgs({
    options: {
      preset: { type: "string", default: "gpt-oss-20b" },
      layers: { type: "string" },
      tokens: { type: "string", default: "4" },
      warm: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
    },
  });
  await setUpBuild();
  await ensureChromium();
  await build();
  const name = values.layers === undefined ? values.preset : `${values.preset}-${values.layers}`;
  const folder = path.join(root, ".cache", "synth", name);
  await ensureModel(folder, values.preset, values.layers);

  const browser = await openLocalPage({ offline: true, models: [path.dirname(folder)] });
  const memory = watchMemory();
  try {
    const options = {
      source: `/models/${name}/`,
      maxTokens: Number(values.tokens),
      precision: values.check ? "exact" : "compact",
      checked: values.check ? CHECKED_TOKENS : [],
    };
    const cold = await measure(browser, options);
    report("cold", cold, memory);
    if (values.check) await compare(folder, cold.logits);
    if (values.warm) report("warm", await measure(browser, options), memory);
  } finally {
    memory.stop();
    await browser.close();
  }
}

async function ensureModel(folder, preset, layers) {
  if (fs.existsSync(path.join(folder, "model.safetensors.index.json"))) return;
  say(`full-size: writing ${folder}`);
  const run = ["run", "--release", "--bin", "pesi", "--", "synth", "--preset", preset];
  const only = layers === undefined ? [] : ["--layers", layers];
  const { code } = await runShown("cargo", [...run, "--out", folder, "--force", ...only]);
  if (code !== 0) throw new ToolError("the model could not be written");
}

/** Compares the browser's logits, [tokens, vocabulary] in base 64, with the CPU's. */
async function compare(folder, logits) {
  const out = path.join(folder, "..", "logits.safetensors");
  const model = ["--model", folder, "--device", "cpu", "--precision", "exact"];
  const command = ["logits", ...model, "--tokens", CHECKED_TOKENS.join(","), "--out", out];
  const { code } = await runShown("cargo", ["run", "--release", "--bin", "pesi", "--", ...command]);
  if (code !== 0) throw new ToolError("the logits could not be computed natively");
  const content = fs.readFileSync(out);
  const expected = content.subarray(8 + Number(content.readBigUInt64LE(0)));
  const found = Buffer.from(logits, "base64");
  if (found.length !== expected.length) throw new ToolError("the logits have another shape");
  let [error, energy] = [0, 0];
  for (let at = 0; at < found.length; at += 4) {
    error += (found.readFloatLE(at) - expected.readFloatLE(at)) ** 2;
    energy += expected.readFloatLE(at) ** 2;
  }
  const nmse = error / energy;
  say(`logits of ${CHECKED_TOKENS.length} tokens against the CPU's: NMSE ${nmse.toExponential(2)}`);
  if (!(nmse <= MAX_NMSE)) throw new ToolError(`NMSE is above ${MAX_NMSE}`);
}

async function measure(browser, options) {
  const page = await browser.openBlank();
  page.on("console", (message) => say(message.text()));
  try {
    return await page.evaluate(loadAndGenerate, options);
  } finally {
    await page.close();
  }
}

function report(kind, { info, loadSeconds, firstTokenSeconds, tokenSeconds, tokens }, memory) {
  const { weightsBytes, cacheBytes, scratchBytes, heapBytes } = info.memory;
  say(`${kind} load on ${info.deviceName}: ${loadSeconds.toFixed(1)} s`);
  say(`GPU: weights ${gib(weightsBytes)}, cache ${gib(cacheBytes)}, scratch ${gib(scratchBytes)}`);
  say(`first token ${firstTokenSeconds.toFixed(1)} s, then ${tokenSeconds.toFixed(1)} s a token`);
  say(`tokens ${tokens.join(", ")}`);
  say(`WebAssembly memory ${(heapBytes / MIB).toFixed(0)} MiB`);
  const peak = memory.peak();
  say(`most memory of all browser processes ${peak === undefined ? "unknown" : gib(peak)}`);
}

function gib(bytes) {
  return `${(bytes / GIB).toFixed(2)} GiB`;
}

/** Runs in the page. */
async function loadAndGenerate({ source, maxTokens, precision, checked }) {
  const { load } = await import("/pesi.js");
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  let reported = 0;
  const onProgress = ({ phase, loadedBytes, totalBytes }) => {
    if (seconds() - reported < 20) return;
    reported = seconds();
    console.log(`${reported.toFixed(0)} s: ${phase} ${(loadedBytes / 1e9).toFixed(2)} of ${(totalBytes / 1e9).toFixed(2)} GB`);
  };
  const model = await load(source, { device: "webgpu", contextLength: 4096, precision, onProgress });
  const loadSeconds = seconds();
  const prompt = await model.encode("Hello");
  const [tokens, arrivals] = [[], []];
  const options = { tokens: prompt, maxTokens, temperature: 0, ignoreEos: true };
  const asked = seconds();
  for await (const { token } of model.generate(options)) {
    tokens.push(token);
    arrivals.push(seconds());
  }
  const { info } = model;
  let logits = "";
  if (checked.length > 0) {
    const bytes = new Uint8Array((await model.logits({ tokens: checked })).buffer);
    // Spreading all of them at once would overflow the stack.
    let text = "";
    for (let at = 0; at < bytes.length; at += 4096) {
      text += String.fromCharCode(...bytes.subarray(at, at + 4096));
    }
    logits = btoa(text);
  }
  await model.dispose();
  const firstTokenSeconds = arrivals[0] - asked;
  const tokenSeconds = (arrivals.at(-1) - arrivals[0]) / Math.max(tokens.length - 1, 1);
  return { info, loadSeconds, firstTokenSeconds, tokenSeconds, tokens, logits };
}

await runAsProgram(import.meta.url, fullSize);
