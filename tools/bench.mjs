/**
 * Measures the package in headless Chromium, on the CPU and on WebGPU: loading from the network and
 * from browser storage, time to the first token of the page, speed over prompts and over the answers after them, the
 * most memory that all processes of the browser have together, and the bytes of code that the page fetched.
 *
 *     npm run bench [-- --device cpu|webgpu] [--rounds N] [--json]
 *
 * Times are taken in the page around the package's public calls; each figure is the median of its
 * rounds.
 */
import os from "node:os";
import { parseArgs } from "node:util";

import { build } from "./build.mjs";
import { defaultModelPath, openLocalPage } from "./local-page.mjs";
import { watchMemory } from "./memory.mjs";
import { ToolError, runAsProgram, say } from "./process.mjs";
import { ensureChromium, setUpBuild } from "./setup.mjs";
import { shippedBytes } from "./sizes.mjs";
import { defaultModel, ensureModel } from "./default-model.mjs";

/** What a software WebGPU adapter can do in reasonable time decides its rounds and tokens. */
const PLANS = {
  cpu: { rounds: 3, answerTokens: 64 },
  webgpu: { rounds: 1, answerTokens: 16 },
};

/** Tokens of the prompts, in the order in which they are asked. */
const PROMPTS = [32, 256];

const MB = 1e6;

/** Titles, and a result's cell. */
const COLUMNS = [
  ["device", ({ device }) => device],
  ["load cold, s", ({ loadColdSeconds }) => loadColdSeconds.toFixed(2)],
  ["load warm, s", ({ loadWarmSeconds }) => loadWarmSeconds.toFixed(2)],
  ["first token, s", ({ firstTokenSeconds }) => firstTokenSeconds.toFixed(2)],
  ...PROMPTS.flatMap((length, i) => [
    [`prompt ${length}, tok/s`, ({ prompts }) => prompts[i].promptTokensPerSecond.toFixed(1)],
    ["answer, tok/s", ({ prompts }) => prompts[i].answerTokensPerSecond.toFixed(1)],
  ]),
  ["memory, MB", ({ peakMemoryBytes: bytes }) => (bytes === undefined ? "unknown" : (bytes / MB).toFixed(0))],
  ["shipped, MB", ({ shippedBytes }) => (shippedBytes / MB).toFixed(2)],
];

async function bench() {
  const { values } = parseArgs({
    options: {
      device: { type: "string" },
      rounds: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const devices = values.device === undefined ? Object.keys(PLANS) : [values.device];
  for (const device of devices) {
    if (!(device in PLANS)) throw new ToolError(`--device takes ${Object.keys(PLANS).join(", ")}`);
  }
  await setUpBuild();
  await ensureChromium();
  await ensureModel();
  await build();

  const results = [];
  for (const device of devices) {
    say(`bench: ${device}`);
    const rounds = Number(values.rounds ?? PLANS[device].rounds);
    results.push(await measure(device, { ...PLANS[device], rounds }));
  }
  const machine = { cores: os.cpus().length, processor: os.cpus()[0]?.model };
  if (values.json) console.log(JSON.stringify({ model: defaultModel, machine, results }, null, 2));
  else printTable(machine, results);
}

async function measure(device, { rounds, answerTokens }) {
  const loads = { cold: [], warm: [] };
  const firstTokens = [];
  const memory = watchMemory();
  const log = [];
  let browser;
  let page;
  try {
    for (let round = 0; round < rounds; round++) {
      await browser?.close();
      browser = await openLocalPage({ isolated: true, log });
      for (const kind of ["cold", "warm"]) {
        await page?.close().catch(() => {});
        page = await browser.openBlank();
        loads[kind].push(await page.evaluate(timeLoad, { model: defaultModelPath, device, kind }));
      }
      firstTokens.push((await page.evaluate(timeAnswer, { length: PROMPTS[0], maxTokens: 1 })).firstTokenSeconds);
    }
    const { deviceName } = await page.evaluate(() => globalThis.model.info);
    const prompts = [];
    for (const length of PROMPTS) {
      const answers = [];
      while (answers.length < rounds) {
        answers.push(await page.evaluate(timeAnswer, { length, maxTokens: answerTokens }));
      }
      prompts.push({
        tokens: length,
        promptTokensPerSecond: length / median(answers.map(({ firstTokenSeconds }) => firstTokenSeconds)),
        answerTokensPerSecond: median(answers.map(({ tokensPerSecond }) => tokensPerSecond)),
      });
    }
    return {
      device,
      deviceName,
      rounds,
      loadColdSeconds: median(loads.cold),
      loadWarmSeconds: median(loads.warm),
      firstTokenSeconds: median(firstTokens),
      answerTokens,
      prompts,
      peakMemoryBytes: memory.peak(),
      shippedBytes: shippedBytes(log.map((request) => request.path)),
    };
  } finally {
    memory.stop();
    await browser?.close();
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function printTable({ cores, processor }, results) {
  console.log(`${defaultModel}, ${cores} cores of ${processor}`);
  console.log(COLUMNS.map(([title]) => title).join(" | "));
  for (const result of results) {
    console.log(COLUMNS.map(([title, cell]) => cell(result).padEnd(title.length)).join(" | "));
    say(`${result.device}: ${result.deviceName}, median of ${result.rounds}`);
  }
}

// The functions below run in the page.

/** Loads the model; seconds. */
async function timeLoad({ model, device, kind }) {
  const { load } = await import("/pesi.js");
  const start = performance.now();
  globalThis.model = await load(model, { device });
  const seconds = (performance.now() - start) / 1000;
  const { fromStorage } = globalThis.model.info;
  if (fromStorage !== (kind === "warm")) {
    throw new Error(`a ${kind} load whose weights came from storage: ${fromStorage}`);
  }
  return seconds;
}

/**
 * Asks for `maxTokens` tokens after `length` tokens, none of which are held already: the time to the first, and the speed
 * of those that do not arrive together with it.
 */
async function timeAnswer({ length, maxTokens }) {
  // Any tokens do for the work to be the same; the draws seldom repeat what is there, so that none are guessed.
  const { vocabularySize } = globalThis.model.info;
  const tokens = Array.from({ length }, (_, i) => (i * 7919) % vocabularySize);
  const options = { tokens, maxTokens, temperature: 1, seed: 1, ignoreEos: true, reusePrefix: false };
  const arrivals = [];
  const start = performance.now();
  for await (const _ of globalThis.model.generate(options)) arrivals.push(performance.now());
  const SAME_BATCH_MS = 2;
  const later = arrivals.filter((time) => time - arrivals[0] > SAME_BATCH_MS);
  return {
    firstTokenSeconds: (arrivals[0] - start) / 1000,
    tokensPerSecond: (later.length * 1000) / (later.at(-1) - arrivals[0]),
  };
}

await runAsProgram(import.meta.url, bench);
