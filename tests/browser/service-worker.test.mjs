/**
 * `pesi/service-worker` in Chromium: OpenAI's paths as addresses of the page's origin, answered by the real model on the
 * CPU, for `fetch`, for other pages, and for OpenAI's client without a `fetch` of its own.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { build } from "esbuild";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { dist, root } from "../../tools/process.mjs";
import { openHarness } from "./support.mjs";

const SCRIPT = "/pesi-service-worker.js";
const CLIENT = "/openai.js";
const QUESTION = [{ role: "user", content: "What is the capital of France?" }];
/** How long the service worker waits for an answer's head. */
const HEAD_PATIENCE_MS = 500;
/** So long an answer that it ends by an abort alone. */
const ENDLESS = { prompt: "Once upon a time", max_tokens: 1500, temperature: 0 };

const { outputFiles } = await build({
  stdin: { contents: 'export { default as OpenAI } from "openai";', resolveDir: root },
  bundle: true,
  format: "esm",
  platform: "browser",
  write: false,
});

describe("the service worker", () => {
  let harness;
  let page;

  before(async () => {
    const script = fs.readFileSync(path.join(dist, "service-worker", "script.js"), "utf8");
    harness = await openHarness({ pages: { [SCRIPT]: script, [CLIENT]: outputFiles[0].text } });
    page = await harness.openBlank();
    await page.evaluate(async ({ source, script }) => {
      const { load } = await import("/pesi.js");
      const { serve } = await import("/service-worker/index.js");
      globalThis.model = await load(source, { device: "cpu" });
      globalThis.service = await serve(globalThis.model, { script });
    }, { source: defaultModelPath, script: SCRIPT });
  });

  after(() => harness?.close());

  /** What a request of a page is answered with, as text. */
  function ask(from, address, params) {
    return from.evaluate(async ({ address, params }) => {
      const init = params === undefined ? {} : { method: "POST", body: JSON.stringify(params) };
      const response = await fetch(address, init);
      return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
    }, { address, params });
  }

  /** Resolves with true once the model has room for another answer at once. */
  function isFree() {
    return page.evaluate(async () => {
      const start = performance.now();
      for await (const _ of globalThis.model.generate({ prompt: "One, two,", maxTokens: 1 }));
      return performance.now() - start < 5_000;
    });
  }

  test("answers fetch, whole and streamed, and leaves all other addresses alone", async () => {
    const whole = await ask(page, "/v1/chat/completions", { messages: QUESTION, temperature: 0, max_tokens: 12 });
    assert.equal(whole.status, 200);
    const { content } = JSON.parse(whole.text).choices[0].message;
    assert.match(content, /Paris/);

    const params = { messages: QUESTION, temperature: 0, max_tokens: 12, stream: true };
    const streamed = await ask(page, "/v1/chat/completions", params);
    assert.match(streamed.type, /^text\/event-stream/);
    const events = streamed.text.trimEnd().split("\n\n");
    assert.equal(events.pop(), "data: [DONE]");
    const chunks = events.map((event) => JSON.parse(event.replace(/^data: /, "")));
    assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), content);

    const models = JSON.parse((await ask(page, "/v1/models")).text);
    assert.deepEqual(models.data.map(({ id }) => id), [await page.evaluate(() => globalThis.model.info.id)]);
    const refused = await ask(page, "/v1/chat/completions", { messages: QUESTION, temperature: 3 });
    assert.equal(refused.status, 400);
    assert.equal(JSON.parse(refused.text).error.param, "temperature");

    const others = ["/v1/users", "/v2/models", "/x/v1/models", "/v1/chat/completions/x"];
    for (const address of others) assert.equal((await ask(page, address)).status, 404);
    const notFound = new RegExp(`^console: Failed to load resource: .* (404|400) `);
    assert.deepEqual(harness.problems.splice(0).filter((problem) => !notFound.test(problem)), []);
  });

  test("streams as the answer is made, and does not hold it back", async () => {
    const times = await page.evaluate(async (params) => {
      const body = JSON.stringify({ ...params, max_tokens: 30, stream: true });
      const response = await fetch("/v1/completions", { method: "POST", body });
      const reader = response.body.getReader();
      const times = [];
      for (let read = await reader.read(); !read.done; read = await reader.read()) times.push(performance.now());
      return times;
    }, ENDLESS);
    assert.ok(times.length > 20, `${times.length} pieces`);
    assert.ok(times.at(-1) - times[0] > 200, "they came over time");
  });

  test("serves OpenAI's client by its base URL alone", async () => {
    const told = await page.evaluate(async ({ client, messages }) => {
      const { OpenAI } = await import(client);
      const { baseURL } = globalThis.service;
      const openai = new OpenAI({ apiKey: "none", baseURL, dangerouslyAllowBrowser: true });
      const params = { model: "any", messages, temperature: 0, max_tokens: 12 };
      const answer = await openai.chat.completions.stream(params).finalContent();
      const refused = await openai.chat.completions.create({ ...params, top_p: 2 }).catch((error) => error);
      return { answer, refused: [refused.constructor.name, refused.param] };
    }, { client: CLIENT, messages: QUESTION });
    assert.match(told.answer, /Paris/);
    assert.deepEqual(told.refused, ["BadRequestError", "top_p"]);
    harness.problems.length = 0;
  });

  test("an abort frees the model, before anything has come and in the middle", async () => {
    const names = await page.evaluate(async (params) => {
      const post = (body, signal) => fetch("/v1/completions", { method: "POST", body: JSON.stringify(body), signal });
      // Not streamed: its head comes with the last token.
      const whole = await post(params, AbortSignal.timeout(1_500))
        .then((response) => response.text())
        .catch((error) => error.name);
      const controller = new AbortController();
      const response = await post({ ...params, stream: true }, controller.signal);
      const reader = response.body.getReader();
      await reader.read();
      controller.abort();
      const streamed = await reader.read().catch((error) => error.name);
      return [whole, streamed];
    }, ENDLESS);
    assert.deepEqual(names, ["TimeoutError", "AbortError"]);
    assert.ok(await isFree());
  });

  test("an error that comes late is one of the stream's events", async () => {
    const told = await page.evaluate(async ({ delay, messages }) => {
      const { model } = globalThis;
      const { fetch: answer } = model;
      model.fetch = async (...request) => {
        await new Promise((resolve) => setTimeout(resolve, delay));
        return answer(...request);
      };
      const long = [{ ...messages[0], content: "word ".repeat(5_000) }];
      const body = JSON.stringify({ messages: long, stream: true });
      const late = await fetch("/v1/chat/completions", { method: "POST", body });
      model.fetch = answer;
      return { status: late.status, text: await late.text() };
    }, { delay: 2 * HEAD_PATIENCE_MS, messages: QUESTION });
    assert.equal(told.status, 200);
    const { error } = JSON.parse(told.text.replace(/^data: /, ""));
    assert.equal(error.code, "context_length_exceeded");
  });

  test("answers other pages of the site, and pages at the addresses themselves", async () => {
    const other = await harness.openBlank();
    const { text } = await ask(other, "/v1/completions", { prompt: "One, two, three,", temperature: 0, max_tokens: 3 });
    assert.match(JSON.parse(text).choices[0].text, /four/);
    await other.goto(`${harness.url}/v1/models`);
    assert.equal(JSON.parse(await other.textContent("body")).object, "list");
    await other.close();
  });

  test("options that cannot be used are refused", async () => {
    const kinds = await page.evaluate(async (script) => {
      const { serve } = await import("/service-worker/index.js");
      const { model } = globalThis;
      const attempts = [
        [{}, { script }],
        [model, {}],
        [model, { script, base: "v1/" }],
        [model, { script: "https://elsewhere.example/x.js" }],
        [model, { script, scope: "/demo/" }],
        [model, { script: "/missing.js" }],
      ];
      const outcomes = attempts.map(async (attempt) => serve(...attempt).then(() => "served", ({ kind }) => kind));
      return Promise.all(outcomes);
    }, SCRIPT);
    assert.deepEqual(kinds, [...Array(5).fill("invalid_argument"), "network"]);
    harness.problems.length = 0;
  });

  test("says so where the page with the model is closed, or serves no more", async () => {
    const other = await harness.openBlank();
    const broken = other.evaluate(async (params) => {
      const response = await fetch("/v1/completions", { method: "POST", body: JSON.stringify(params) });
      const reader = response.body.getReader();
      globalThis.hasBegun = (await reader.read()).done === false;
      try {
        for (let read = await reader.read(); !read.done; read = await reader.read());
        return "ended";
      } catch (error) {
        return error.name;
      }
    }, { ...ENDLESS, stream: true });
    await other.waitForFunction(() => globalThis.hasBegun);
    await page.evaluate(() => globalThis.service.close());
    assert.equal(await broken, "TypeError");
    assert.ok(await isFree());

    const refused = await ask(other, "/v1/chat/completions", { messages: QUESTION });
    assert.equal(refused.status, 503);
    const { code, type, message } = JSON.parse(refused.text).error;
    assert.deepEqual([code, type], ["model_not_loaded", "server_error"]);
    assert.match(message, /No open page/);

    await page.evaluate(async (script) => {
      const { serve } = await import("/service-worker/index.js");
      await serve(globalThis.model, { script, base: "/ai/v1" });
    }, SCRIPT);
    assert.equal((await ask(other, "/ai/v1/models")).status, 200);
    await page.close();
    assert.equal((await ask(other, "/ai/v1/models")).status, 503);
  });
});
