/** How many bytes a page downloads for Pesi, and the budget that must hold them. */
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

import { ToolError, dist, runAsProgram, say } from "./process.mjs";

const KB = 1000;

/**
 * Budgets in bytes, about 15% above what the package takes today. A subpath's files are loaded with it alone, the
 * WebAssembly modules for templates and grammars when an answer needs them.
 */
const BUDGETS = {
  "the engine": { folder: ".", suffix: "pesi_wasm_bg.wasm", raw: 2060 * KB, gzip: 845 * KB },
  templates: { folder: ".", suffix: "pesi_templates_bg.wasm", raw: 970 * KB, gzip: 395 * KB },
  grammars: { folder: ".", suffix: "pesi_grammars_bg.wasm", raw: 1680 * KB, gzip: 660 * KB },
  JavaScript: { folder: ".", suffix: ".js", raw: 310 * KB, gzip: 88 * KB },
  "pesi/ai-sdk": { folder: "ai-sdk", suffix: ".js", raw: 15 * KB, gzip: 6 * KB },
  "pesi/aws": { folder: "aws", suffix: ".js", raw: 42 * KB, gzip: 14 * KB },
  "pesi/service-worker": { folder: "service-worker", suffix: ".js", raw: 15 * KB, gzip: 6 * KB },
};

/** What a page may take that loads a model and has it continue texts: bytes after gzip. */
export const PAGE_BUDGET = 900 * KB;

/** What all that is shipped may take, whichever of it a page loads: bytes after gzip. */
export const SHIPPED_BUDGET = 2000 * KB;

/**
 * Prints the sizes of the built package, without its demo page.
 *
 * @throws {ToolError} when a part is over its budget.
 */
export function checkSizes() {
  const over = [];
  let shipped = 0;
  for (const [part, { folder, suffix, ...budgets }] of Object.entries(BUDGETS)) {
    const names = fs.readdirSync(path.join(dist, folder)).filter((name) => name.endsWith(suffix));
    const sizes = measure(names.map((name) => path.join(folder, name)));
    shipped += sizes.gzip;
    const shown = Object.entries(sizes).map(([how, bytes]) => {
      const budget = budgets[how];
      if (budget !== undefined && bytes > budget) over.push(`${part} ${how}`);
      return `${how} ${kilobytes(bytes)}${budget === undefined ? "" : ` of ${kilobytes(budget)}`}`;
    });
    say(`size: ${part.padEnd(19)} ${shown.join(", ")}`);
  }
  say(`size: ${"all of it".padEnd(19)} gzip ${kilobytes(shipped)} of ${kilobytes(SHIPPED_BUDGET)}`);
  if (shipped > SHIPPED_BUDGET) over.push("all of it");
  if (over.length > 0) throw new ToolError(`over the size budget: ${over.join(", ")}`);
}

/** Bytes, after gzip, of the package's scripts and WebAssembly modules among the paths that a page asked for. */
export function shippedBytes(paths) {
  const files = new Set(paths.filter((file) => /\.(js|wasm)$/.test(file)));
  return [...files].reduce((sum, file) => sum + gzipBytes(fs.readFileSync(path.join(dist, file))), 0);
}

function gzipBytes(content) {
  return zlib.gzipSync(content, { level: 9 }).length;
}

function measure(names) {
  const sizes = { raw: 0, gzip: 0, brotli: 0 };
  for (const name of names) {
    const content = fs.readFileSync(path.join(dist, name));
    sizes.raw += content.length;
    sizes.gzip += gzipBytes(content);
    sizes.brotli += zlib.brotliCompressSync(content, {
      params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 9 },
    }).length;
  }
  return sizes;
}

function kilobytes(bytes) {
  return `${(bytes / KB).toFixed(0)} kB`;
}

await runAsProgram(import.meta.url, checkSizes);
