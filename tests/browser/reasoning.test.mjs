/**
 * How the demo page shows what a model thinks: with the package as it is, and a worker that plays a model which
 * answers in harmony.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import { after, before, describe, test } from "node:test";

import { openHarness } from "./support.mjs";

const WORKER = fs.readFileSync(new URL("harmony-worker.mjs", import.meta.url), "utf8");
const LAST = "#messages article.assistant:last-child";

describe("the panel of what a model thinks", () => {
  let harness;
  let page;
  let panel;

  before(async () => {
    harness = await openHarness();
    page = await harness.context.newPage();
    await page.route("**/worker.js", (route) => route.fulfill({ contentType: "text/javascript", body: WORKER }));
    await page.goto(`${harness.url}/demo/`);
    await page.locator("#load").click();
    await page.waitForSelector("body[data-view=chat]");
    panel = page.locator(`${LAST} .reasoning`);
  });

  after(() => harness?.close());

  const ask = async (question) => {
    await page.locator("#prompt").fill(question);
    await page.locator("#send").click();
  };
  const reach = (state) => page.locator(`${LAST}[data-state=${state}]`).waitFor();
  const isOpen = () => panel.evaluate(({ open }) => open);
  const thought = () => panel.locator(".reasoning-text").textContent();

  test("grows while the model thinks, and closes as the answer begins", async () => {
    await ask("What is the capital of France?");
    await reach("thinking");
    assert.equal(await isOpen(), true);
    assert.equal(await page.locator(`${LAST} .answer`).textContent(), "");
    await reach("done");
    assert.equal(await isOpen(), false);
    assert.equal((await page.locator(`${LAST} .answer`).textContent()).trim(), "It is Paris.");
    assert.equal(await thought(), "Effort: medium. The user asks for the capital. That is Paris.");
    assert.match(await panel.locator(".reasoning-title").textContent(), /^Thought for /);
    assert.equal(await page.locator(`${LAST} .remark`).isVisible(), false);
  });

  test("opens by the keyboard, and stays as it was left", async () => {
    await panel.locator("summary").focus();
    await page.keyboard.press("Enter");
    assert.equal(await isOpen(), true);
    await ask("And of Spain?");
    await reach("thinking");
    await panel.locator("summary").click();
    await panel.locator("summary").click();
    await reach("done");
    assert.equal(await isOpen(), true);
  });

  test("takes the effort from the settings", async () => {
    await page.locator("#open-settings").click();
    await page.locator("#effort").selectOption("high");
    await page.keyboard.press("Escape");
    await ask("And of Italy?");
    await reach("done");
    assert.match(await thought(), /^Effort: high\. /);
  });

  test("says under the answer where the model broke its format", async () => {
    await ask("Please break the format.");
    await reach("done");
    assert.match(await page.locator(`${LAST} .remark`).textContent(), /: a message ends within its header\.$/);
  });

  test("shows nothing that the model writes in the name of others, and says that it did", async () => {
    await ask("Please invent my next question.");
    await reach("done");
    assert.equal((await page.locator(`${LAST} .answer`).textContent()).trim(), "It is Paris.");
    assert.match(await page.locator(`${LAST} .remark`).textContent(), /: a message is not from the assistant\.$/);
  });

  test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
});
