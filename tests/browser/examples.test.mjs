/** The examples as their pages are, each asked what stands in its form, with the real model on the CPU. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { unpackedGolden } from "../../tools/golden.mjs";
import { root } from "../../tools/process.mjs";
import { openHarness } from "./support.mjs";

/** What ends a message in harmony: a model with random weights would otherwise think until its context is full. */
const END = 200_007;

const LONG_QUESTION = "What is the capital of France? ".repeat(60);

describe("the examples", () => {
  let harness;
  const tried = new Set();

  before(async () => {
    harness = await openHarness({ models: [unpackedGolden] });
  });

  after(() => harness?.close());

  /** Opens an example once its model is loaded. */
  async function open(name, parameters = {}) {
    tried.add(`${name}.html`);
    const page = await harness.context.newPage();
    await page.goto(`${harness.url}/examples/${name}.html?${new URLSearchParams(parameters)}`);
    await status(page, "Ready.");
    return page;
  }

  function status(page, text) {
    return page.getByRole("status").and(page.getByText(text, { exact: true })).waitFor({ timeout: 60_000 });
  }

  /** Sends the form and waits for the end of the answer; returns what the page shows. */
  async function ask(page) {
    await page.getByRole("button", { name: "Ask" }).click();
    await status(page, "Done.");
    return page.locator("output").textContent();
  }

  for (const [name, rest] of [
    ["chat", ""],
    ["openai", "\n\n\\(\\d+ tokens read, \\d+ written\\)"],
    ["ai-sdk", ""],
    ["bedrock", "\n\n\\(end_turn\\)"],
    ["router", "\n\n\\(answered by .*SmolLM2.*\\)"],
  ]) {
    test(`${name} answers`, async () => {
      const page = await open(name);
      assert.match(await ask(page), new RegExp(`^[^\n]*Paris[^\n]*${rest}$`));
      await page.close();
    });
  }

  test("chat goes on with the conversation, and is stopped", async () => {
    const page = await open("chat");
    assert.match(await ask(page), /Paris/);
    await page.getByLabel("Question").fill("And what is the capital of Italy?");
    assert.match(await ask(page), /Rome/);
    await page.getByLabel("Question").fill("Tell me a long story about a lighthouse.");
    await page.getByRole("button", { name: "Ask" }).click();
    await page.waitForFunction(() => document.querySelector("output").textContent !== "");
    await page.getByRole("button", { name: "Stop" }).click();
    await status(page, "Stopped.");
    await page.close();
  });

  test("structured shows what the schema has", async () => {
    const page = await open("structured");
    const shown = await ask(page);
    assert.match(shown, /^customer: .{1,30}\nitem: (lamp|chair|table)\nquantity: \d{1,2}\n$/);
    await page.close();
  });

  test("tools calls the page's function, and goes on with what it returns", async () => {
    const parameters = JSON.stringify({ temperature: 0, logit_bias: { [END]: 100 }, max_completion_tokens: 100 });
    const page = await open("tools", { model: "/models/a3-realvocab/", parameters });
    const shown = await ask(page);
    const call = /^weather\((\{[^]*?\})\) returned (\{.*\})\n/.exec(shown);
    assert.ok(call, shown);
    const { city } = JSON.parse(call[1]);
    assert.match(city, /^(Rome|Paris|Berlin)$/);
    assert.deepEqual(JSON.parse(call[2]), { city, sky: "clear", celsius: 21 });
    await page.close();
  });

  test("router asks before a question leaves the page, and heeds the answer", async () => {
    const page = await open("router");
    const sent = [];
    await page.route("**/remote/v1/chat/completions", async (route) => {
      sent.push(route.request().postDataJSON());
      const message = { role: "assistant", content: "From afar.", refusal: null };
      const choices = [{ index: 0, finish_reason: "stop", message }];
      await route.fulfill({ json: { id: "1", object: "chat.completion", model: "gpt-oss-120b", choices } });
    });
    await page.getByLabel("Question").fill(LONG_QUESTION);
    const asked = [];
    page.once("dialog", (dialog) => {
      asked.push(dialog.message());
      return dialog.dismiss();
    });
    await page.getByRole("button", { name: "Ask" }).click();
    await page.getByRole("status").and(page.getByText(/context/)).waitFor();
    assert.deepEqual(sent, []);
    page.once("dialog", (dialog) => dialog.accept());
    assert.equal(await ask(page), "From afar.\n\n(answered by gpt-oss-120b)");
    assert.deepEqual(asked, ["The model cannot answer (too_long). Send the question to the server?"]);
    assert.deepEqual(sent.map(({ model, messages }) => [model, messages[0].content.trim()]), [
      ["gpt-oss-120b", LONG_QUESTION.trim()],
    ]);
    await page.close();
  });

  // After those whose requests are answered here: what a service worker lets pass may not come by.
  test("service-worker answers", async () => {
    const page = await open("service-worker");
    assert.match(await ask(page), /^[^\n]*Paris[^\n]*$/);
    await page.close();
  });

  test("all of them are tried, are listed, and ask nothing of other hosts", async () => {
    const pages = fs.readdirSync(path.join(root, "www", "examples")).filter((name) => name.endsWith(".html"));
    const page = await harness.context.newPage();
    await page.goto(`${harness.url}/examples/`);
    const links = await page.locator("li a").evaluateAll((found) => found.map((link) => link.getAttribute("href")));
    assert.deepEqual([...links, "index.html"].sort(), pages.sort());
    assert.deepEqual([...tried].sort(), links.sort());
    const elsewhere = harness.requests.filter((url) => !url.startsWith(harness.url) && !url.startsWith("data:"));
    assert.deepEqual(elsewhere, []);
    assert.deepEqual(harness.problems, []);
  });
});
