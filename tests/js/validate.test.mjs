import assert from "node:assert/strict";
import test from "node:test";

import { forecastOptions, generateParams, loadOptions } from "../../dist/validate.js";
import { pesiError } from "./scripted-worker.mjs";

const VOCABULARY = 100;

test("load's settings have defaults", () => {
  assert.deepEqual(loadOptions(undefined), {
    device: "auto",
    options: { precision: "compact", kvCache: "full", cache: true },
    onProgress: undefined,
    signal: undefined,
  });
});

test("load's settings are handed on", () => {
  const { signal } = new AbortController();
  const onProgress = () => {};
  const options = { precision: "exact", kvCache: "int8", contextLength: 512, cache: false };
  const given = { device: "cpu", ...options, onProgress, signal };
  assert.deepEqual(loadOptions(given), {
    device: "cpu",
    options,
    onProgress,
    signal,
  });
});

test("a setting of load that cannot be used is named", () => {
  for (const [given, parameter, found] of [
    [{ device: "gpu" }, "device", '"gpu"'],
    [{ device: null }, "device", "null"],
    [{ precision: "half" }, "precision", '"half"'],
    [{ kvCache: 8 }, "kvCache", "8"],
    [{ contextLength: 0 }, "contextLength", "0"],
    [{ contextLength: 1.5 }, "contextLength", "1.5"],
    [{ contextLength: "512" }, "contextLength", '"512"'],
    [{ contextLength: 2 ** 32 }, "contextLength", "4294967296"],
    [{ cache: 1 }, "cache", "1"],
    [{ onProgress: {} }, "onProgress", "an object"],
    [{ signal: {} }, "signal", "an object"],
    [{ quality: "best" }, "quality", '"best"'],
    ["cpu", "options", '"cpu"'],
    [[], "options", "an array of 0"],
  ]) {
    assert.throws(() => loadOptions(given), pesiError("invalid_argument", { parameter, found }), JSON.stringify(given));
  }
});

test("a forecast has load's settings, as far as they decide how a model lies in memory", () => {
  assert.deepEqual(forecastOptions(undefined), {
    device: "auto",
    options: { precision: "compact", kvCache: "full" },
    signal: undefined,
  });
  const given = { device: "webgpu", precision: "exact", kvCache: "int8", contextLength: 512 };
  assert.deepEqual(forecastOptions(given), {
    device: "webgpu",
    options: { precision: "exact", kvCache: "int8", contextLength: 512 },
    signal: undefined,
  });
});

test("generate takes a prompt or tokens, and only settings that were given", () => {
  assert.deepEqual(generateParams({ prompt: "Hi", temperature: undefined }, VOCABULARY), {
    input: { kind: "prompt", prompt: "Hi" },
    options: {},
    signal: undefined,
  });
  const settings = {
    maxTokens: 5,
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    repetitionPenalty: 1.1,
    frequencyPenalty: -2,
    presencePenalty: 2,
    seed: Number.MAX_SAFE_INTEGER,
    logprobs: true,
    ignoreEos: false,
    reusePrefix: false,
  };
  const { input, options } = generateParams({ ...settings, tokens: [0, 99], stop: "\n" }, VOCABULARY);
  assert.deepEqual(options, { ...settings, stop: ["\n"] });
  assert.deepEqual(input, { kind: "tokens", tokens: Uint32Array.of(0, 99) });
});

test("the caller's tokens are copied", () => {
  const tokens = Uint32Array.of(1, 2);
  const { input } = generateParams({ tokens }, VOCABULARY);
  tokens[0] = 50;
  assert.equal(input.tokens[0], 1);
});

test("numbers are refused just outside their bounds and taken at them", () => {
  const bounds = {
    maxTokens: { good: [1, 2 ** 32 - 1], bad: [0, 2 ** 32, 1.5] },
    temperature: { good: [0, 100], bad: [-0.001, Infinity, NaN] },
    topP: { good: [0.001, 1], bad: [0, 1.001] },
    topK: { good: [0, 40], bad: [-1, 0.5] },
    minP: { good: [0, 0.999], bad: [-0.001, 1] },
    repetitionPenalty: { good: [0.001, 2], bad: [0, -1] },
    frequencyPenalty: { good: [-2, 2], bad: [-2.001, 2.001] },
    presencePenalty: { good: [-2, 2], bad: [-2.001, 2.001] },
    seed: { good: [0, 2 ** 53 - 1], bad: [-1, 2 ** 53, 0.5] },
  };
  for (const [parameter, { good, bad }] of Object.entries(bounds)) {
    for (const value of good) {
      assert.equal(generateParams({ prompt: "", [parameter]: value }, VOCABULARY).options[parameter], value);
    }
    for (const value of [...bad, "1", null, {}]) {
      assert.throws(
        () => generateParams({ prompt: "", [parameter]: value }, VOCABULARY),
        pesiError("invalid_argument", { parameter }),
        `${parameter}: ${value}`,
      );
    }
  }
});

test("other parameters of generate that cannot be used are named", () => {
  for (const [given, parameter] of [
    [undefined, "options"],
    [{}, "prompt"],
    [{ prompt: 5 }, "prompt"],
    [{ prompt: "a", tokens: [1] }, "tokens"],
    [{ tokens: [] }, "tokens"],
    [{ tokens: 7 }, "tokens"],
    [{ tokens: { length: 2 ** 40 } }, "tokens"],
    [{ tokens: [1, 100] }, "tokens[1]"],
    [{ tokens: [-1] }, "tokens[0]"],
    [{ tokens: [1.5] }, "tokens[0]"],
    [{ tokens: ["1"] }, "tokens[0]"],
    [{ prompt: "a", stop: "" }, "stop"],
    [{ prompt: "a", stop: ["b", 1] }, "stop[1]"],
    [{ prompt: "a", logprobs: "yes" }, "logprobs"],
    [{ prompt: "a", max_tokens: 5 }, "max_tokens"],
    [{ prompt: "a", signal: new AbortController() }, "signal"],
  ]) {
    assert.throws(
      () => generateParams(given, VOCABULARY),
      pesiError("invalid_argument", { parameter }),
      JSON.stringify(given),
    );
  }
});

test("a message says the parameter, what was expected and what was found", () => {
  assert.throws(() => generateParams({ prompt: "", topP: 2 }, VOCABULARY), {
    message: "topP must be a number above 0 to 1, but was 2",
    details: { parameter: "topP", expected: "a number above 0 to 1", found: "2" },
  });
  assert.throws(() => generateParams({ prompt: "", minP: 1 }, VOCABULARY), {
    message: "minP must be a number from 0 to below 1, but was 1",
  });
  assert.throws(() => generateParams({ prompt: "", seed: -1 }, VOCABULARY), {
    message: "seed must be a whole number from 0, but was -1",
  });
});
