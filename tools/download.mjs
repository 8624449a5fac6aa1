/** Files from the network to disk, with progress on standard error, and their digests. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

import { ToolError, say } from "./process.mjs";

const ATTEMPTS = 3;
const PAUSE_MS = 2000;
const MIB = 1024 * 1024;

/**
 * Fetches a URL, trying again when the network or the server fails for the moment.
 *
 * A user name and password in the URL, which `fetch` refuses, are sent as basic authentication.
 *
 * @throws {ToolError} naming the URL without its password.
 */
export async function request(url, headers = {}) {
  const target = new URL(url);
  const allHeaders = { ...headers };
  if (target.username !== "") {
    const login = [target.username, target.password].map(decodeURIComponent).join(":");
    allHeaders.authorization = `Basic ${Buffer.from(login).toString("base64")}`;
    target.username = target.password = "";
  }
  for (let attempt = 1; ; attempt++) {
    const outcome = await fetch(target, { headers: allHeaders }).catch((error) => error);
    if (outcome.ok) return outcome;
    const { status } = outcome;
    const failure = status === undefined ? outcome.cause ?? outcome : `status ${status}`;
    const passing = status === undefined || status >= 500 || status === 429;
    if (!passing || attempt === ATTEMPTS) throw new ToolError(`${target}: ${failure}`);
    say(`${target}: ${failure}; trying again`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * attempt));
  }
}

/** Writes the body of a response to a new file, telling how far it is. */
export async function save(response, file, label) {
  const total = Number(response.headers.get("content-length") ?? 0);
  await pipeline(
    Readable.fromWeb(response.body),
    progress(label, total),
    createWriteStream(file, { flags: "wx" }),
  );
}

/** Passes bytes on and reports them: in place on a terminal, each tenth elsewhere. */
export function progress(label, totalBytes) {
  let bytes = 0;
  let shown = 0;
  const terminal = process.stderr.isTTY;
  const step = terminal ? MIB : Math.max(totalBytes / 10, 16 * MIB);
  const show = (end) => {
    const of = totalBytes > 0 ? ` of ${(totalBytes / MIB).toFixed(1)}` : "";
    const line = `${label}: ${(bytes / MIB).toFixed(1)}${of} MiB`;
    process.stderr.write(terminal ? `\r${line}${end}` : `${line}\n`);
  };
  return new Transform({
    transform(piece, _encoding, done) {
      bytes += piece.length;
      if (bytes - shown >= step) {
        shown = bytes;
        show("");
      }
      done(null, piece);
    },
    flush(done) {
      show("\n");
      done();
    },
  });
}

/** The SHA-256 of a file, in hexadecimal. */
export async function sha256(file) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}
