/**
 * A page of the local server in a real Chromium, for programs that use the package from outside it:
 * the tests, the measurements, and a question asked from the terminal.
 */
import { openChromium, findChromium } from "./chromium.mjs";
import { defaultModel } from "./default-model.mjs";
import { ToolError } from "./process.mjs";
import { startServer } from "./serve.mjs";

const BLANK = "/blank.html";
const BLANK_PAGE =
  '<!doctype html><html lang="en"><title>Pesi</title><link rel="icon" href="data:,"></html>';

/** Where the local server has the default model. */
export const defaultModelPath = `/models/${defaultModel}`;

/**
 * Starts a server and a Chromium whose profile is empty.
 *
 * @param {object} [options] also the options of {@link startServer}.
 * @param {boolean} [options.offline] keeps the browser from every host but this machine.
 * @param {object} [options.context] Playwright's options of a context: viewport, colorScheme, …
 * @returns {Promise<{url: string, context: import("playwright-core").BrowserContext,
 *   openBlank: () => Promise<import("playwright-core").Page>, close: () => Promise<void>}>}
 *   `openBlank` opens an empty page of the server, under its Content-Security-Policy.
 */
export async function openLocalPage({ offline = false, context: options, ...serverOptions } = {}) {
  const executable = findChromium();
  if (executable === undefined) {
    throw new ToolError("Chromium is missing: run `node tools/setup.mjs`");
  }
  const server = await startServer({ pages: { [BLANK]: BLANK_PAGE }, ...serverOptions });
  try {
    const browser = await openChromium({ executable, offline, context: options });
    const { context } = browser;
    const openBlank = async () => {
      const page = await context.newPage();
      await page.goto(`${server.url}${BLANK}`);
      return page;
    };
    let closed;
    const close = () => (closed ??= browser.close().finally(() => server.close()));
    return { url: server.url, context, openBlank, close };
  } catch (error) {
    await server.close();
    throw error;
  }
}
