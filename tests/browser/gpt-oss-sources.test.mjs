/**
 * A gpt-oss model from each place that a model of several files can come from, its answers, and what the package
 * says of files that are not whole. On the CPU: what is read does not depend on the device.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { root } from "../../tools/process.mjs";
import { splitGguf } from "./gguf.mjs";
import { openHarness } from "./support.mjs";

const GOLDEN = path.join(root, "tests/golden/gpt-oss");
const FOLDER = "/models/a1-basic/";
const GGUF = "/models/gguf/a1-basic.bf16.gguf";
const TOKENS = [1, 20, 300, 4, 50, 6, 7, 80];
const TEXT = "In 12345 lines, the first is:\r\n  an end";
const PATTERN = "\\w+|\\W";
/** Those of DeepSeek's tokenizers, which are well known together alone. */
const DEEPSEEK = [
  "\\p{N}{1,3}",
  "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
];

const MISSING_SHARD = "model-00001-of-00002.safetensors";

describe("a gpt-oss model", () => {
  let harness;
  let page;
  let folder;

  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "pesi-sources-"));
    writeSplit(folder);
    writeIncomplete(folder);
    writePatterns(folder, "other-pattern", [PATTERN]);
    writePatterns(folder, "deepseek-patterns", DEEPSEEK);
    harness = await openHarness({ models: [folder, GOLDEN] });
    page = await harness.openBlank();
    await page.evaluate(definePick);
  });

  after(async () => {
    await harness?.close();
    fs.rmSync(folder, { recursive: true });
  });

  const logitsOf = (source, options) => page.evaluate(computeLogits, { source, options, tokens: TOKENS });

  test("from picked files is that of their folder", async () => {
    const { logits } = await logitsOf(FOLDER);
    const files = fs.readdirSync(path.join(GOLDEN, "a1-basic")).map((name) => FOLDER + name);
    assert.deepEqual((await logitsOf(files)).logits, logits);
  });

  test("from two files of GGUF is that of one", async () => {
    const { logits } = await logitsOf(GGUF);
    assert.deepEqual((await logitsOf("/models/split-00001-of-00002.gguf")).logits, logits);
  });

  for (const source of [FOLDER, "/models/split-00001-of-00002.gguf"]) {
    test(`from storage needs no network: ${source}`, async () => {
      const cold = await logitsOf(source, { cache: true });
      assert.equal(cold.fromStorage, false);
      harness.served.length = 0;
      const warm = await logitsOf(source, { cache: true });
      assert.equal(warm.fromStorage, true);
      assert.deepEqual(warm.logits, cold.logits);
      assert.deepEqual(harness.served.filter(({ path }) => path.startsWith("/models/")), []);
    });
  }

  test("answers in a stream, whatever it says", async (t) => {
    const { chatFormat, answers } = await page.evaluate(chat, { source: FOLDER, ends: endsOfTurns(), nAnswers: 8 });
    assert.equal(chatFormat, "harmony");
    const reasons = [];
    for (const { chunks, completion } of answers) {
      const choices = chunks.flatMap(({ choices }) => choices);
      assert.equal(choices[0].delta.role, "assistant");
      assert.equal(choices.at(-1).finish_reason, "length");
      assert.ok(choices.slice(0, -1).every(({ finish_reason }) => finish_reason === null));
      const malformed = choices.flatMap(({ malformed }) => malformed ?? []);
      reasons.push(...malformed);

      const [choice] = completion.choices;
      assert.equal(choice.malformed, malformed[0]);
      assert.equal(choice.finish_reason, "length");
      const texts = choices.map(({ delta }) => delta.content ?? "");
      assert.equal(choice.message.content, texts.join(""));
    }
    assert.ok(reasons.length > 0, "answers of random weights break the format");
    t.diagnostic(reasons[0]);
  });

  test("says which messages it writes in the name of others, and they are not shown", async (t) => {
    const answers = await page.evaluate(chatAtRandom, { source: FOLDER, nAnswers: 120 });
    let nInvented = 0;
    // Blank lines come between messages that are shown.
    const length = (text) => text.replaceAll("\n", "").length;
    for (const { tokens, completion } of answers) {
      const lengthOf = (isIncluded) => length(tokens.filter(isIncluded).map(({ text }) => text).join(""));
      const invented = lengthOf(({ otherAuthor }) => otherAuthor === true);
      const shown = lengthOf(({ otherAuthor, recipient }) => otherAuthor !== true && recipient === undefined);
      const { message, malformed } = completion.choices[0];
      assert.equal(length(message.content + (message.reasoning ?? "")), shown);
      if (invented > 0) {
        nInvented += 1;
        assert.notEqual(malformed, undefined);
      }
    }
    t.diagnostic(`${nInvented} answers`);
    assert.ok(nInvented > 0, "tokens in any order begin a message of another author at times");
  });

  test("of an incomplete folder is refused by the name of the file", async () => {
    const errorOf = (source) => page.evaluate(loadError, source);
    const missing = (file) => ({ name: "PesiError", kind: "invalid_model", details: { file } });
    assert.deepEqual(await errorOf("/models/gguf/"), missing("config.json"));
    assert.deepEqual(await errorOf("/models/incomplete/"), missing(MISSING_SHARD));
    const picked = [`${FOLDER}config.json`, `${FOLDER}model-00000-of-00002.safetensors`];
    assert.deepEqual(await errorOf(picked), missing("tokenizer.json"));
  });

  test("whose tokenizer has a pattern of its own is refused by that pattern", async () => {
    const refused = { name: "PesiError", kind: "unsupported", details: { found: PATTERN } };
    assert.deepEqual(await page.evaluate(loadError, "/models/other-pattern/"), refused);
  });

  test("whose tokenizer has the patterns of DeepSeek is taken", async () => {
    assert.deepEqual(await page.evaluate(decoded, { source: "/models/deepseek-patterns/", text: TEXT }), TEXT);
  });

  test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
});

function writeSplit(folder) {
  const whole = fs.readFileSync(path.join(GOLDEN, "gguf", "a1-basic.bf16.gguf"));
  splitGguf(whole).forEach((part, index) => {
    fs.writeFileSync(path.join(folder, `split-0000${index + 1}-of-00002.gguf`), part);
  });
}

function writeIncomplete(folder) {
  const target = path.join(folder, "incomplete");
  fs.cpSync(path.join(GOLDEN, "a1-basic"), target, { recursive: true });
  fs.rmSync(path.join(target, MISSING_SHARD));
}

/** A model whose tokenizer cuts words by `patterns`, one after the other. */
function writePatterns(folder, name, patterns) {
  const target = path.join(folder, name);
  fs.cpSync(path.join(GOLDEN, "a1-basic"), target, { recursive: true });
  const file = path.join(target, "tokenizer.json");
  const tokenizer = JSON.parse(fs.readFileSync(file, "utf8"));
  const { pretokenizers } = tokenizer.pre_tokenizer;
  const splits = patterns.map((Regex) => ({ ...pretokenizers[0], pattern: { Regex } }));
  pretokenizers.splice(0, 1, ...splits);
  fs.writeFileSync(file, JSON.stringify(tokenizer));
}

// The functions below run in the page.

/** Makes files, as a person picks them, of a list of addresses; one address stays one. */
function definePick() {
  const fileAt = async (url) => new File([await (await fetch(url)).blob()], url.replace(/.*\//, ""));
  globalThis.pick = (source) => (Array.isArray(source) ? Promise.all(source.map(fileAt)) : source);
}

/** Loads the model, computes logits and disposes of it. */
async function computeLogits({ source, options, tokens }) {
  const { load } = await import("/pesi.js");
  const settings = { device: "cpu", precision: "exact", contextLength: 128, cache: false };
  const model = await load(await globalThis.pick(source), { ...settings, ...options });
  const logits = Array.from(await model.logits({ tokens }));
  await model.dispose();
  return { logits, fromStorage: model.info.fromStorage };
}

/** The tokens without which an answer goes on to its limit: what the model says depends on the day it is told. */
function endsOfTurns() {
  const settings = fs.readFileSync(path.join(GOLDEN, "a1-basic/generation_config.json"), "utf8");
  return JSON.parse(settings).eos_token_id;
}

async function chat({ source, ends, nAnswers }) {
  const { load } = await import("/pesi.js");
  const model = await load(source, { device: "cpu", contextLength: 2048, cache: false });
  const request = {
    messages: [{ role: "user", content: "What is 2 + 2?" }],
    reasoning_effort: "low",
    logit_bias: Object.fromEntries(ends.map((id) => [id, -100])),
    max_completion_tokens: 48,
  };
  const answers = [];
  for (let seed = 0; seed < nAnswers; seed += 1) {
    const chunks = [];
    const stream = await model.chat.completions.create({ ...request, seed, stream: true });
    for await (const chunk of stream) chunks.push(chunk);
    answers.push({ chunks, completion: await model.chat.completions.create({ ...request, seed }) });
  }
  await model.dispose();
  return { chatFormat: model.info.chatFormat, answers };
}

/** Answers of random tokens, and what the worker told of them. */
async function chatAtRandom({ source, nAnswers }) {
  const { load } = await import("/pesi.js");
  let tokens = [];
  const { Worker } = globalThis;
  globalThis.Worker = class extends Worker {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data: { type, event } }) => {
        if (type === "event") tokens = tokens.concat(event);
      });
    }
  };
  const model = await load(source, { device: "cpu", contextLength: 2048, cache: false });
  globalThis.Worker = Worker;
  const answers = [];
  for (let seed = 0; seed < nAnswers; seed += 1) {
    tokens = [];
    const messages = [{ role: "user", content: "Hi" }];
    const request = { messages, temperature: 2, seed, max_completion_tokens: 300 };
    const completion = await model.chat.completions.create(request);
    answers.push({ tokens, completion });
  }
  await model.dispose();
  return answers;
}

async function loadError(source) {
  const { load } = await import("/pesi.js");
  return load(await globalThis.pick(source), { device: "cpu", cache: false }).then(
    () => ({ kind: "none" }),
    ({ name, kind, details }) => ({ name, kind, details }),
  );
}

/** `text` as tokens, and as text again. */
async function decoded({ source, text }) {
  const { load } = await import("/pesi.js");
  const model = await load(await globalThis.pick(source), { device: "cpu", cache: false });
  const found = await model.decode(await model.encode(text));
  await model.dispose();
  return found;
}
