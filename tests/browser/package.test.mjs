/**
 * The package as npm packs it, in fresh projects: with Vite, with webpack, and in a page without either. Its types
 * hold, it answers in Chromium under the server's Content-Security-Policy, and a page loads no more of it than it uses.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import zlib from "node:zlib";

import { SHIPPED_BUDGET } from "../../tools/sizes.mjs";
import {
  buildWithVite,
  buildWithWebpack,
  compile,
  createProject,
  packInto,
  serveWithVite,
} from "./projects.mjs";
import { openHarness } from "./support.mjs";

const CLIENTS = ["@aws-sdk/client-bedrock-runtime", "ai", "@ai-sdk/provider"];

/** What the code of the subpaths has in it, and no other code of the package. */
const OF_SUBPATHS = ["application/vnd.amazon.eventstream", "providerOptions.pesi"];

const MODES = [
  ["--module", "preserve", "--moduleResolution", "bundler"],
  ["--module", "node16", "--moduleResolution", "node16"],
  ["--module", "nodenext", "--moduleResolution", "nodenext"],
];

describe("the packed package", () => {
  let packed;
  let harness;
  let viteProject;

  before(async () => {
    packed = await packInto();
    const sources = ["bundled", "types-of-subpaths.ts"];
    viteProject = await createProject(packed, "vite", { sources, others: CLIENTS });
    harness = await openHarness({ folder: packed.folder });
  });

  after(async () => {
    await harness?.close();
    if (packed !== undefined) fs.rmSync(packed.folder, { recursive: true });
  });

  /** What a page of a project shows once it has asked, and the scripts that it loaded for that. */
  async function visit(address) {
    harness.requests.length = 0;
    const page = await harness.context.newPage();
    await page.goto(new URL(address, harness.url).href);
    await page.waitForFunction(() => document.title === "answered", undefined, { timeout: 60_000 });
    const answers = JSON.parse(await page.evaluate(() => document.body.textContent));
    const urls = [...new Set(harness.requests)].filter((url) => url.endsWith(".js"));
    const scripts = await page.evaluate(async (urls) => {
      return Promise.all(urls.map(async (url) => (await fetch(url)).text()));
    }, urls);
    await page.close();
    return { answers, urls, code: scripts.join("\n") };
  }

  /** A built project answers, and loads the subpaths' code where it uses them, and there alone. */
  async function checkBuilt(address) {
    const plain = await visit(address);
    assert.equal(plain.answers.length, 1);
    assert.match(plain.answers[0], /Paris/);
    for (const mark of OF_SUBPATHS) assert.ok(!plain.code.includes(mark), `a page without clients has no ${mark}`);
    const withClients = await visit(`${address}#clients`);
    assert.deepEqual(withClients.answers, Array(3).fill(plain.answers[0]));
    for (const mark of OF_SUBPATHS) assert.ok(withClients.code.includes(mark), `a page with clients has ${mark}`);
    assert.deepEqual(harness.problems, []);
  }

  test("it is installed whole, within its size, and answers in a page without a bundler", async (t) => {
    const project = await createProject(packed, "plain", { sources: ["plain"] });
    const installed = path.join(project, "node_modules", "pesi");
    const files = fs.readdirSync(installed, { recursive: true }).filter((name) => /\.\w+$/.test(name));
    const unexpected = files.filter((name) => !/^(README\.md|package\.json|dist[/\\].*\.(js|d\.ts|wasm))$/.test(name));
    assert.deepEqual(unexpected, []);
    assert.ok(fs.existsSync(path.join(installed, "LICENSE")));
    assert.deepEqual(files.filter((name) => /demo|examples/.test(name)), []);

    const shipped = files.filter((name) => /\.(js|wasm)$/.test(name));
    const packedSize = (name) => zlib.gzipSync(fs.readFileSync(path.join(installed, name)), { level: 9 }).length;
    const gzip = shipped.reduce((sum, name) => sum + packedSize(name), 0);
    t.diagnostic(`JavaScript and WebAssembly shipped: ${gzip} bytes with gzip, of ${SHIPPED_BUDGET}`);
    assert.ok(gzip <= SHIPPED_BUDGET);

    const { answers, urls } = await visit("/plain/");
    assert.match(answers[0], /Paris/);
    const unused = urls.filter((url) => /\/dist\/\w[\w-]*\//.test(url));
    assert.deepEqual(unused, []);
    assert.ok(urls.some((url) => url.endsWith("/dist/worker.js")));
    assert.deepEqual(harness.problems, []);
  });

  test("its types hold under strict, however modules are resolved, without skipLibCheck", async () => {
    const alone = await createProject(packed, "types", { sources: ["types.ts"] });
    for (const mode of MODES) {
      const checked = ["--noEmit", "--skipLibCheck", "false", ...mode];
      assert.equal(compile(alone, ...checked, "types.ts"), "", mode.join(" "));
      assert.equal(compile(viteProject, ...checked, "types-of-subpaths.ts"), "", mode.join(" "));
    }
  });

  test("Vite builds it, and serves it while a page is developed", async () => {
    const bundler = ["--noEmit", "--skipLibCheck", "--module", "preserve", "--moduleResolution", "bundler"];
    assert.equal(compile(viteProject, ...bundler, "main.ts"), "");
    await buildWithVite(viteProject);
    await checkBuilt("/vite/dist/");

    const server = await serveWithVite(viteProject, harness.url);
    try {
      assert.match((await visit(server.url)).answers[0], /Paris/);
    } finally {
      await server.close();
    }
  });

  test("webpack builds it", async () => {
    const project = await createProject(packed, "webpack", { sources: ["bundled"], others: CLIENTS });
    const emitted = ["--skipLibCheck", "--module", "nodenext", "--outDir", "compiled"];
    assert.equal(compile(project, ...emitted, "main.ts"), "");
    const html = fs.readFileSync(path.join(project, "index.html"), "utf8");
    const script = '<script type="module" src="main.ts">';
    assert.ok(html.includes(script));
    await buildWithWebpack(project, "./compiled/main.js");
    const page = html.replace(script, '<script defer src="main.js">');
    fs.writeFileSync(path.join(project, "dist", "index.html"), page);
    await checkBuilt("/webpack/dist/");
  });
});
