/**
 * A page of the local server in a real Chromium, for programs that use the package from outside it:
 * the tests, the measurements, and a question asked from the terminal.
 */
import { openChromium, findChromium } from "./chromium.mjs";
import { defaultModel } from "./default-model.mjs";
import { ToolError } from "./process.mjs";
import { startServer } from "./serve.mjs";

const BLANK = "/blank.html";

/** An empty page, as `pages` of a server. */
export const blankPage = {
  [BLANK]: '<!doctype html><html lang="en"><title>Pesi</title><link rel="icon" href="data:,"></html>',
};

/** Where the local server has the default model. */
export const defaultModelPath = `/models/${defaultModel}`;

/**
 * Starts a server and a Chromium whose profile is empty.
 *
 * @param {object} [options] also the options of the server.
 * @param {(options: object) => Promise<{url: string, close: () => Promise<void>}>} [options.start]
 *   starts the server and is given `pages`; by default {@link startServer}.
 * @param {boolean} [options.offline] keeps the browser from every host but this machine.
 * @param {object} [options.context] Playwright's options of a context: viewport, colorScheme, …
 * @returns {Promise<{url: string, server: object, context: import("playwright-core").BrowserContext,
 *   openBlank: (url?: string) => Promise<import("playwright-core").Page>,
 *   close: () => Promise<void>}>}
 *   `openBlank` opens an empty page of the server, under its Content-Security-Policy, at `url` or
 *   another address that the server listens at.
 */
export async function openLocalPage(options = {}) {
  const { start = startServer, offline = false, context: contextOptions, ...serverOptions } = options;
  const executable = findChromium();
  if (executable === undefined) {
    throw new ToolError("Chromium is missing: run `node tools/setup.mjs`");
  }
  const server = await start({ ...serverOptions, pages: { ...blankPage, ...serverOptions.pages } });
  try {
    const browser = await openChromium({ executable, offline, context: contextOptions });
    const { context } = browser;
    const openBlank = (url = server.url) => openBlankPage(context, url);
    let closed;
    const close = () => (closed ??= browser.close().finally(() => server.close()));
    return { url: server.url, server, context, openBlank, close };
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Opens the empty page of the server at `url`. */
export async function openBlankPage(context, url) {
  const page = await context.newPage();
  await page.goto(`${url}${BLANK}`);
  return page;
}
