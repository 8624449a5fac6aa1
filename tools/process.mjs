/**
 * Running other programs: one place for where the repository is, how children are started, and how
 * a tool of the repository reports to the person at the terminal.
 *
 * Reports and the output of children go to standard error, so that standard output carries only
 * what a command was asked for.
 */
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/** The folder that the package is built into. */
export const dist = path.join(root, "dist");

/** A failure whose message is all the person needs: printed without a stack. */
export class ToolError extends Error {
  name = "ToolError";
}

/** Tells the person one thing. */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/**
 * Runs a program to its end, its output on standard error.
 *
 * @throws {ToolError} when it cannot be started or does not exit with 0.
 */
export async function run(command, args, { cwd = root, env = process.env } = {}) {
  const child = spawn(command, args, { cwd, env, stdio: ["ignore", 2, 2] });
  const { code, signal } = await ended(child, command);
  if (code !== 0) {
    throw new ToolError(`${describe(command, args)} ended with ${signal ?? `exit code ${code}`}`);
  }
}

/** Runs npm as {@link run} runs a program: the one that runs this program, where one does. */
export async function runNpm(args, options) {
  const npm = process.env.npm_execpath;
  if (npm?.endsWith(".js")) await run(process.execPath, [npm, ...args], options);
  else await run("npm", args, options);
}

/**
 * Runs a program to its end, its output shown on standard output as it comes and returned as text
 * without colours.
 *
 * @returns {Promise<{code: number, output: string}>} `code` is non-zero when a signal ended it.
 */
export async function runShown(command, args, { cwd = root, env = process.env } = {}) {
  const colours = process.stdout.isTTY ? { CARGO_TERM_COLOR: "always", FORCE_COLOR: "1" } : {};
  const child = spawn(command, args, {
    cwd,
    env: { ...env, ...colours },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const pieces = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (piece) => {
      pieces.push(piece);
      process.stdout.write(piece);
    });
  }
  const { code } = await ended(child, command);
  return { code: code ?? 1, output: pieces.join("").replace(/\x1b\[[0-9;]*m/g, "") };
}

/** The standard output of a short program, or `undefined` where it is missing or fails. */
export function query(command, args) {
  const options = { cwd: root, encoding: "utf8", maxBuffer: Infinity };
  const { status, stdout } = spawnSync(command, args, options);
  return status === 0 ? stdout.trim() : undefined;
}

/** The path of the first of these programs that PATH holds, or `undefined`. */
export function which(...names) {
  const suffixes = process.platform === "win32" ? [".exe", ".cmd"] : [""];
  for (const name of names) {
    for (const folder of (process.env.PATH ?? "").split(path.delimiter)) {
      for (const suffix of suffixes) {
        const file = path.join(folder, name + suffix);
        if (folder !== "" && fs.existsSync(file)) return file;
      }
    }
  }
  return undefined;
}

/** The script behind a program that an npm package installs; run it with `process.execPath`. */
export function packageProgram(name, program) {
  const folder = path.join(root, "node_modules", name);
  const { bin } = JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8"));
  return path.join(folder, typeof bin === "string" ? bin : bin[program]);
}

/** Runs `main` where the module is the program itself; a failure makes the exit code 1. */
export async function runAsProgram(moduleUrl, main) {
  if (process.argv[1] === undefined) return;
  if (fs.realpathSync(process.argv[1]) !== fs.realpathSync(fileURLToPath(moduleUrl))) return;
  try {
    await main();
  } catch (error) {
    say(error instanceof ToolError ? `error: ${error.message}` : String(error?.stack ?? error));
    process.exitCode = 1;
  }
}

function ended(child, command) {
  return new Promise((resolve, reject) => {
    child.once("error", (error) => {
      reject(new ToolError(`${command} could not be started: ${error.message}`));
    });
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

function describe(command, args) {
  return [path.basename(command), ...args].join(" ");
}
