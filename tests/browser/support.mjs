/**
 * The browser tests' harness: the local server, a Chromium that reaches nothing else, and a record
 * of what went wrong and what was requested.
 */
import fs from "node:fs";
import path from "node:path";

import { openLocalPage } from "../../tools/local-page.mjs";
import { root } from "../../tools/process.mjs";

const SCREENSHOTS = path.join(root, "test-output");

/**
 * Opens a browser for one group of tests.
 *
 * @param {object} [options]
 * @param {object} [options.context] Playwright's options of the context.
 * @param {(path: string) => Promise<void>} [options.pace] holds downloads, see `startServer`.
 * @param {string[]} [options.models] further folders of models, see `startServer`.
 * @param {Function} [options.start] starts another server, see `openLocalPage`; `served` stays empty.
 * @returns {Promise<object>} `url`; `server`; `context`; `openBlank(url)`;
 *   `problems`: console errors (violations of the Content-Security-Policy among them) and uncaught
 *   exceptions, of pages and workers, as text;
 *   `requests`: URLs that any page or worker asked for;
 *   `served`: what the server answered, see `startServer`;
 *   `screenshot(page, name)`; `close()`.
 */
export async function openHarness(options = {}) {
  const [problems, requests, served] = [[], [], []];
  const local = await openLocalPage({ offline: true, log: served, ...options });
  local.context.on("request", (request) => requests.push(request.url()));
  local.context.on("console", (message) => {
    if (message.type() === "error") problems.push(`console: ${message.text()}`);
  });
  local.context.on("weberror", (error) => problems.push(`uncaught: ${error.error()}`));

  const screenshot = async (page, name) => {
    fs.mkdirSync(SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
  };
  return { ...local, problems, requests, served, screenshot };
}
