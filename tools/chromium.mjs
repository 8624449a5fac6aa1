/**
 * A real Chromium without a window: where its program is, and how it is started so that WebGPU is
 * there on every machine and nothing but the page uses the network.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { which } from "./process.mjs";

const PROGRAMS = [
  "chromium",
  "chromium-browser",
  "google-chrome",
  "google-chrome-stable",
  "chrome",
];

const APPLICATIONS = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  ...["PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"]
    .filter((name) => process.env[name] !== undefined)
    .map((name) => path.join(process.env[name], "Google/Chrome/Application/chrome.exe")),
];

/**
 * `--enable-unsafe-webgpu` alone makes `navigator.gpu.requestAdapter()` answer in pages and workers
 * where there is no graphics card: with Chromium's own software device (SwiftShader), which has
 * subgroups of 4, timestamp queries and buffers of 1 GiB, and no shader-f16.
 */
const ARGUMENTS = [
  "--enable-unsafe-webgpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-domain-reliability",
  "--disable-sync",
  "--no-first-run",
];

/** Makes every name but this machine's unknown to the browser. */
const OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1";

/** The path of a Chromium or Chrome, or `undefined`. `CHROME_PATH` comes first. */
export function findChromium() {
  if (process.env.CHROME_PATH) return process.env.CHROME_PATH;
  return which(...PROGRAMS) ?? APPLICATIONS.find((file) => fs.existsSync(file));
}

/**
 * Starts Chromium, with a new, empty profile where none is given.
 *
 * A new profile lives until `close`, so that storage survives a reload and a new tab; a given one
 * stays, so that storage survives the browser as well.
 *
 * @param {object} options
 * @param {string} options.executable the program, as {@link findChromium} names it.
 * @param {boolean} [options.offline] keeps the browser from every host but this machine.
 * @param {string} [options.profile] the profile's folder.
 * @param {object} [options.context] Playwright's options of a context: viewport, colorScheme, …
 * @returns {Promise<{context: import("playwright-core").BrowserContext,
 *   close: () => Promise<void>}>}
 */
export async function openChromium({ executable, offline = false, profile: given, context: options = {} }) {
  const { chromium } = await import("playwright-core");
  const profile = given ?? fs.mkdtempSync(path.join(os.tmpdir(), "pesi-profile-"));
  const removeProfile = () => {
    if (given === undefined) fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: executable,
      chromiumSandbox: process.getuid?.() !== 0,
      handleSIGINT: false,
      handleSIGTERM: false,
      args: offline ? [...ARGUMENTS, OFFLINE] : ARGUMENTS,
      ...options,
    });
    const close = async () => {
      await context.close();
      removeProfile();
    };
    return { context, close };
  } catch (error) {
    removeProfile();
    throw error;
  }
}
