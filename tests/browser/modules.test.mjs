/**
 * The WebAssembly modules beside the engine's own: which of them a page fetches, how often, what becomes of a request
 * while one cannot be had, and that errors come out of them as they are.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { defaultModel, modelsFolder } from "../../tools/default-model.mjs";
import { defaultModelPath } from "../../tools/local-page.mjs";
import { PAGE_BUDGET, shippedBytes } from "../../tools/sizes.mjs";
import { openHarness } from "./support.mjs";

const GRAMMARS = "pesi_grammars_bg.wasm";
const TEMPLATES = "pesi_templates_bg.wasm";

const TEXT = { prompt: "Once upon a time", maxTokens: 2, temperature: 0 };
const CHAT = { messages: [{ role: "user", content: "Say hello." }], max_tokens: 2, temperature: 0 };

/** A text that one of three words is, and a conversation whose answer is one. */
const WORD = { type: "string", enum: ["red", "green", "blue"] };
const HELD = {
  ...CHAT,
  max_tokens: 16,
  response_format: { type: "json_schema", json_schema: { name: "colour", schema: WORD } },
};

/** The default model's template with other text of the same length in it. */
const DAMAGED = {
  "malformed.gguf": ["{% for message in", "{% fxr message in"],
  "raising.gguf": ["messages[0]['role'] != 'system'", "raise_exception('no such role')"],
};

describe("the modules of a page", () => {
  let harness;
  let page;
  let folder;

  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "pesi-modules-"));
    for (const [name, [text, other]] of Object.entries(DAMAGED)) {
      const model = fs.readFileSync(path.join(modelsFolder, defaultModel));
      assert.equal(text.length, other.length);
      model.write(other, model.indexOf(text), "latin1");
      fs.writeFileSync(path.join(folder, name), model);
    }
    harness = await openHarness({ models: [folder] });
    page = await harness.openBlank();
  });

  after(async () => {
    await harness?.close();
    if (folder !== undefined) fs.rmSync(folder, { recursive: true });
  });

  const requests = (file) => harness.requests.filter((url) => url.endsWith(`/${file}`)).length;
  const complete = (params) => page.evaluate(answerOf, params);

  /** Has the next request for `file` fail. */
  const failOnce = (file, fail) => page.route(`**/${file}`, fail, { times: 1 });

  test("a text is continued with the engine's own alone, within its size", async (t) => {
    await page.evaluate(loadModel, defaultModelPath);
    assert.equal((await page.evaluate(textOf, TEXT)).length > 0, true);
    const files = [...new Set(harness.requests.map((url) => new URL(url).pathname))];
    const code = files.filter((file) => /\.(js|wasm)$/.test(file));
    assert.deepEqual(code.filter((file) => file.endsWith(".wasm")), ["/pesi_wasm_bg.wasm"]);
    const bytes = shippedBytes(code);
    t.diagnostic(`JavaScript and WebAssembly fetched: ${bytes} bytes with gzip, of ${PAGE_BUDGET}`);
    assert.ok(bytes <= PAGE_BUDGET);
  });

  test("templates that cannot be had fail a conversation by their name, and the next one tries again", async () => {
    await failOnce(TEMPLATES, (route) => route.abort());
    const failed = await complete(CHAT);
    assert.deepEqual([failed.kind, failed.details], ["network", { file: TEMPLATES }]);
    assert.equal((await page.evaluate(textOf, TEXT)).length > 0, true, "the model goes on");
    await failOnce(TEMPLATES, (route) => route.fulfill({ status: 404, body: "" }));
    assert.equal((await complete(CHAT)).kind, "network");
    assert.equal(typeof (await complete(CHAT)).content, "string");
    assert.equal(requests(TEMPLATES), 3);
    assert.equal(typeof (await complete(CHAT)).content, "string");
    assert.equal(requests(TEMPLATES), 3, "they are fetched once");
    assert.equal(requests(GRAMMARS), 0);
  });

  test("a request that waits for grammars is cancelled at once, and others do not wait for it", async () => {
    let proceed;
    const held = new Promise((resolve) => (proceed = resolve));
    const asked = page.waitForRequest((request) => request.url().endsWith(GRAMMARS));
    await failOnce(GRAMMARS, async (route) => {
      await held;
      await route.abort();
    });
    const cancelled = page.evaluate(cancelAfterText, { held: HELD, text: TEXT });
    await asked;
    const { kind, text } = await cancelled;
    proceed();
    assert.equal(kind, "aborted");
    assert.ok(text.length > 0);
  });

  test("grammars are fetched once for all that need them, and hold answers", async () => {
    const before = requests(GRAMMARS);
    const answers = await Promise.all([HELD, HELD].map(complete));
    for (const { content } of answers) assert.ok(WORD.enum.includes(JSON.parse(content)), content);
    assert.equal(requests(GRAMMARS), before + 1);
    assert.ok(WORD.enum.includes(JSON.parse((await complete(HELD)).content)));
    assert.equal(requests(GRAMMARS), before + 1);
  });

  test("an error of theirs keeps its kind and what is behind it", async () => {
    const schema = (schema) => ({ type: "json_schema", json_schema: { name: "list", schema } });
    const refused = await complete({ ...CHAT, response_format: schema({ type: "array", uniqueItems: true }) });
    assert.equal(refused.kind, "unsupported");
    assert.equal(refused.details.keyword, "uniqueItems");
    assert.match(refused.details.reason, /uniqueItems/);
    const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
    const without = await complete({ ...CHAT, tools });
    assert.deepEqual([without.kind, without.details], ["unsupported", { parameter: "tools" }]);
    assert.equal(typeof (await complete(CHAT)).content, "string");
  });

  test("memory in use counts theirs", async () => {
    const { heapBytes, ofEngine } = await page.evaluate(heap);
    assert.ok(heapBytes > ofEngine, `${heapBytes} bytes, of which the engine took ${ofEngine} when it was loaded`);
  });

  test("a template that is malformed or raises an exception fails conversations, and nothing else", async () => {
    for (const [name, [, other]] of Object.entries(DAMAGED)) {
      await page.evaluate(loadModel, `/models/${name}`);
      for (let round = 0; round < 2; round++) {
        const { kind, message, details } = await complete(CHAT);
        assert.equal(kind, "template");
        if (other.startsWith("raise")) assert.equal(message, "no such role");
        else assert.equal(details.line, 1, message);
      }
      assert.equal((await page.evaluate(textOf, TEXT)).length > 0, true);
    }
  });
});

// The functions below run in the page.

async function loadModel(address) {
  const { load } = await import("/pesi.js");
  await globalThis.model?.dispose();
  globalThis.model = await load(address, { device: "cpu", cache: false });
}

async function textOf(options) {
  let text = "";
  for await (const token of globalThis.model.generate(options)) text += token.text;
  return text;
}

async function answerOf(params) {
  try {
    const { choices } = await globalThis.model.chat.completions.create(params);
    return { content: choices[0].message.content };
  } catch ({ kind, message, details }) {
    return { kind, message, details };
  }
}

/** Asks for an answer that is held, then for a text; once that has come, cancels the first. */
async function cancelAfterText({ held, text: options }) {
  const controller = new AbortController();
  const cancelled = globalThis.model.chat.completions.create(held, { signal: controller.signal });
  const kind = cancelled.then(() => "none", (error) => error.kind);
  let text = "";
  for await (const token of globalThis.model.generate(options)) text += token.text;
  controller.abort();
  return { kind: await kind, text };
}

async function heap() {
  const { heapBytes } = await globalThis.model.memory();
  return { heapBytes, ofEngine: globalThis.model.info.memory.heapBytes };
}
