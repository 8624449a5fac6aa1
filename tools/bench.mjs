/**
 * Measures the package in headless Chromium, on the CPU and on WebGPU: loading from the network and
 * from browser storage, time to the first token, speed over a prompt and over an answer.
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
import { ToolError, runAsProgram, say } from "./process.mjs";
import { ensureChromium, setUpBuild } from "./setup.mjs";
import { defaultModel, ensureModel } from "./default-model.mjs";

/** What a software WebGPU adapter can do in reasonable time decides its rounds and tokens. */
const PLANS = {
  cpu: { rounds: 3, answerTokens: 64 },
  webgpu: { rounds: 1, answerTokens: 16 },
};

const SHORT_PROMPT = 32;
const LONG_PROMPT = 256;

const COLUMNS = [
  ["device", "device"],
  ["load cold, s", "loadColdSeconds"],
  ["load warm, s", "loadWarmSeconds"],
  ["first token, s", "firstTokenSeconds"],
  [`prompt ${SHORT_PROMPT}, tok/s`, "shortPromptTokensPerSecond"],
  [`prompt ${LONG_PROMPT}, tok/s`, "longPromptTokensPerSecond"],
  ["answer, tok/s", "answerTokensPerSecond"],
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
  let browser;
  let page;
  for (let round = 0; round < rounds; round++) {
    await browser?.close();
    browser = await openLocalPage({ isolated: true });
    for (const kind of ["cold", "warm"]) {
      await page?.close().catch(() => {});
      page = await browser.openBlank();
      loads[kind].push(await page.evaluate(timeLoad, { model: defaultModelPath, device, kind }));
    }
  }
  try {
    const info = await page.evaluate(() => globalThis.model.info);
    const medianOf = async (run, argument) => {
      const found = [];
      while (found.length < rounds) found.push(await page.evaluate(run, argument));
      return median(found);
    };
    const shortPrompt = await medianOf(timePrompt, SHORT_PROMPT);
    const longPrompt = await medianOf(timePrompt, LONG_PROMPT);
    return {
      device,
      deviceName: info.deviceName,
      rounds,
      loadColdSeconds: median(loads.cold),
      loadWarmSeconds: median(loads.warm),
      firstTokenSeconds: shortPrompt,
      shortPromptTokensPerSecond: SHORT_PROMPT / shortPrompt,
      longPromptTokensPerSecond: LONG_PROMPT / longPrompt,
      answerTokensPerSecond: await medianOf(timeAnswer, answerTokens),
    };
  } finally {
    await browser.close();
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
    const cells = COLUMNS.map(([title, key]) => {
      const value = result[key];
      return (typeof value === "number" ? value.toFixed(2) : value).padEnd(title.length);
    });
    console.log(cells.join(" | "));
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

/** Time to the first token after `length` tokens, none of them held already; seconds. */
async function timePrompt(length) {
  const text = "The history of open weights is a history of people who wanted to look inside. ";
  const tokens = (await globalThis.model.encode(text.repeat(length))).slice(0, length);
  const options = { tokens, maxTokens: 1, temperature: 0, ignoreEos: true, reusePrefix: false };
  const start = performance.now();
  for await (const _ of globalThis.model.generate(options));
  return (performance.now() - start) / 1000;
}

/** Tokens per second after the first that arrive together. */
async function timeAnswer(maxTokens) {
  const tokens = await globalThis.model.encode("Once upon a time, in a village by the sea,");
  const options = { tokens, maxTokens, temperature: 0, ignoreEos: true, reusePrefix: false };
  const arrivals = [];
  for await (const _ of globalThis.model.generate(options)) arrivals.push(performance.now());
  const SAME_BATCH_MS = 2;
  const later = arrivals.filter((time) => time - arrivals[0] > SAME_BATCH_MS);
  return later.length / ((later.at(-1) - arrivals[0]) / 1000);
}

await runAsProgram(import.meta.url, bench);
