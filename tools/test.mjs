/**
 * Runs every check of the repository and ends with one line, `N passed, N failed`.
 *
 *     npm test [-- --only lint|native|build|js|size|browser]...
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { build } from "./build.mjs";
import { ToolError, root, runAsProgram, runShown } from "./process.mjs";
import { setUpTests } from "./setup.mjs";
import { checkSizes } from "./sizes.mjs";

const WASM = ["--target", "wasm32-unknown-unknown"];
const DENY_WARNINGS = ["--", "-D", "warnings"];
const CARGO_TEST = ["test", "--workspace", "--no-fail-fast"];

/**
 * The parts, in order. `run` gives how many checks passed and failed; a part that throws counts as
 * one that failed. The build, which takes one core most of the time, goes on beside the parts after it, up to one that
 * runs alone or needs the build. The latter is not run after a failed one.
 */
const PARTS = [
  { group: "build", name: "build", isBeside: true, run: () => step(build) },
  { group: "lint", name: "rustfmt", run: () => check("cargo", ["fmt", "--all", "--check"]) },
  {
    group: "lint",
    name: "clippy, native",
    run: () => check("cargo", ["clippy", "--workspace", "--all-targets", ...DENY_WARNINGS]),
  },
  {
    group: "lint",
    name: "clippy, wasm32",
    run: () => check("cargo", ["clippy", "--lib", ...WASM, ...DENY_WARNINGS]),
  },
  ...["grammars", "templates"].map((module) => ({
    group: "lint",
    name: `clippy, ${module}`,
    run: () => check("cargo", ["clippy", "-p", `pesi-${module}`, ...WASM, ...DENY_WARNINGS]),
  })),
  { group: "native", name: "build of tests", run: () => check("cargo", [...CARGO_TEST, "--no-run"]) },
  { group: "native", name: "Rust tests", isAlone: true, run: runCargoTests },
  { group: "size", name: "size budget", needsBuild: true, run: () => step(checkSizes) },
  { group: "js", name: "JavaScript tests", needsBuild: true, run: () => runNodeTests("js") },
  {
    group: "browser",
    name: "browser tests",
    needsBuild: true,
    run: () => runNodeTests("browser", "--test-concurrency=1"),
  },
];

async function runTests() {
  const groups = [...new Set(PARTS.map(({ group }) => group))];
  const { values } = parseArgs({ options: { only: { type: "string", multiple: true } } });
  const wanted = new Set(values.only ?? groups);
  for (const group of wanted) {
    if (!groups.includes(group)) throw new ToolError(`--only takes ${groups.join(", ")}`);
  }
  const builds = PARTS.some(({ group, needsBuild }) => needsBuild && wanted.has(group));
  if (builds) wanted.add("build");

  const rows = [];
  const setUp = await timed("set-up", () => step(setUpTests));
  if (setUp.failed > 0) rows.push(setUp);
  else await runParts(wanted, rows);
  report(rows);
}

async function runParts(wanted, rows) {
  let building;
  for (const { group, name, isBeside, isAlone, needsBuild, run } of PARTS) {
    if (!wanted.has(group)) continue;
    console.log(`\n== ${name}`);
    if (isBeside) {
      building = timed(name, run);
      continue;
    }
    const built = isAlone || needsBuild ? await building : undefined;
    rows.push(await timed(name, needsBuild && built.failed > 0 ? notBuilt : run));
  }
  if (building) rows.unshift(await building);
}

function report(rows) {
  console.log("");
  for (const { name, passed, failed, seconds } of rows) {
    const counts = `${String(passed).padStart(5)} passed ${String(failed).padStart(4)} failed`;
    console.log(`${name.padEnd(18)}${counts} ${seconds.toFixed(1).padStart(8)} s`);
  }
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  console.log(`${sum("passed")} passed, ${sum("failed")} failed`);
  process.exitCode = sum("failed") === 0 ? 0 : 1;
}

async function timed(name, run) {
  const start = performance.now();
  const counts = await run().catch((error) => {
    console.log(error instanceof ToolError ? `error: ${error.message}` : error);
    return { passed: 0, failed: 1 };
  });
  return { name, ...counts, seconds: (performance.now() - start) / 1000 };
}

async function notBuilt() {
  throw new ToolError("not run, because the build failed");
}

/** A step of the tools as one check. */
async function step(run) {
  await run();
  return { passed: 1, failed: 0 };
}

/** A program's exit code as one check. */
async function check(command, args) {
  const { code } = await runShown(command, args);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1 };
}

async function runCargoTests() {
  // Without one, Mesa's driver complains for every device.
  process.env.XDG_RUNTIME_DIR ??= os.tmpdir();
  const { code, output } = await runShown("cargo", CARGO_TEST);
  const results = [...output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed/gm)];
  return judged(code, sumOf(results, 1), sumOf(results, 2));
}

async function runNodeTests(folder, ...options) {
  const files = testFiles(path.join(root, "tests", folder));
  const reporter = ["--test-reporter", "spec"];
  const args = ["--test", ...reporter, ...options, ...files];
  const { code, output } = await runShown(process.execPath, args);
  const count = (what) => sumOf([...output.matchAll(new RegExp(`^ℹ ${what} (\\d+)$`, "gm"))], 1);
  return judged(code, count("pass"), count("fail") + count("cancelled"));
}

/** A run that ended badly without naming a failed test, or ran no test, failed all the same. */
function judged(code, passed, failed) {
  const isSilentFailure = failed === 0 && (code !== 0 || passed === 0);
  return { passed, failed: isSilentFailure ? 1 : failed };
}

function sumOf(matches, group) {
  return matches.reduce((total, match) => total + Number(match[group]), 0);
}

function testFiles(folder) {
  return fs
    .readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(".test.mjs"))
    .map((name) => path.join(folder, name))
    .sort();
}

await runAsProgram(import.meta.url, runTests);
