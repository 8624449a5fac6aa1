/** The README's snippet runs as it stands there, under the Content-Security-Policy of the server. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { root } from "../../tools/process.mjs";
import { openHarness } from "./support.mjs";

const README = fs.readFileSync(path.join(root, "README.md"), "utf8");
const SNIPPET_ADDRESS = "/readme-snippet.js";

describe("the README", () => {
  let harness;

  before(async () => {
    harness = await openHarness();
  });

  after(() => harness?.close());

  test("its snippet answers", async (t) => {
    const [, snippet] = /^## In a page\n+```js\n(.*?)^```$/ms.exec(README) ?? [];
    assert.ok(snippet, "there is a js block under the heading");
    assert.ok(snippet.includes(`"${defaultModelPath}"`), "it loads the model that the server has");
    const body = snippet.replace('from "pesi"', 'from "/pesi.js"');
    assert.notEqual(body, snippet, "it imports the package");

    const page = await harness.openBlank();
    await page.route(`**${SNIPPET_ADDRESS}`, (route) =>
      route.fulfill({ contentType: "text/javascript", body }),
    );
    // A module's import settles when its top level has run to the end.
    await page.evaluate((address) => import(address).then(() => {}), SNIPPET_ADDRESS);
    const answer = await page.evaluate(() => document.body.textContent);
    t.diagnostic(answer);
    assert.match(answer, /Paris/);
    assert.deepEqual(harness.problems, []);
  });
});
