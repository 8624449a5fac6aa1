/**
 * Builds the npm package and the demo page into `dist/`: the crate as WebAssembly, its bindings,
 * the TypeScript above them, the page with the libraries it shows Markdown with.
 *
 * Cargo rebuilds what changed; `wasm-opt`, which takes longest, is skipped while its input and its
 * options are the same.
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { dist, packageProgram, query, root, run, runAsProgram, say } from "./process.mjs";
import { setUpBuild } from "./setup.mjs";
import { checkSizes } from "./sizes.mjs";

const WASM_TARGET = "wasm32-unknown-unknown";
const BINDINGS = ["pesi_wasm.js", "pesi_wasm.d.ts"];
const MODULE = "pesi_wasm_bg.wasm";
const SERVICE_WORKER = "service-worker/script.js";

/** The features that rustc emits for the target, and the vectors that .cargo/config.toml adds. */
const WASM_OPT_OPTIONS = [
  "-O3",
  ...[
    "bulk-memory",
    "multivalue",
    "mutable-globals",
    "nontrapping-float-to-int",
    "reference-types",
    "sign-ext",
    "simd",
  ].map((feature) => `--enable-${feature}`),
];

/** Libraries of the demo page, copied beside it so that it loads nothing from elsewhere. */
const VENDORED = {
  "marked.js": "marked/lib/marked.esm.js",
  "dompurify.js": "dompurify/dist/purify.es.mjs",
};

/**
 * Files of the package that take in what they import: the library behind AWS's streams, for pages without a bundler,
 * and the service worker, which is one classic script.
 */
const BUNDLED = [
  {
    entry: "aws/codec.js",
    output: "aws/codec.js",
    format: "esm",
    banner: { js: "// Contains @smithy/core by Amazon.com, Inc., licensed under Apache-2.0." },
  },
  { entry: "service-worker/script.ts", output: SERVICE_WORKER, format: "iife" },
];

/** Builds everything that is not up to date. */
export async function build() {
  await buildWasm();
  await buildScripts();
  buildDemo();
}

async function buildWasm() {
  const { target_directory: target } = JSON.parse(
    query("cargo", ["metadata", "--no-deps", "--format-version", "1"]),
  );
  // Flags for the native machine, which replace those of .cargo/config.toml, mean nothing to wasm.
  const { RUSTFLAGS, CARGO_ENCODED_RUSTFLAGS, ...env } = process.env;
  await run("cargo", ["build", "--lib", "--profile", "wasm", "--target", WASM_TARGET], { env });

  const bindings = path.join(target, "wasm-bindgen");
  const compiled = path.join(target, WASM_TARGET, "wasm", "pesi.wasm");
  await run("cargo", ["run", "--quiet", "-p", "wasm-build", "--", compiled, bindings]);

  fs.mkdirSync(dist, { recursive: true });
  for (const file of BINDINGS) fs.copyFileSync(path.join(bindings, file), path.join(dist, file));
  await optimise(path.join(bindings, MODULE), path.join(dist, MODULE));
}

async function optimise(input, output) {
  const program = packageProgram("binaryen", "wasm-opt");
  const stamp = `${input}.optimised`;
  const digest = (...parts) => {
    const hash = createHash("sha256");
    for (const part of parts) hash.update(part).update("\0");
    return hash.digest("hex");
  };
  const state = () =>
    fs.existsSync(output)
      ? digest(fs.readFileSync(input), fs.readFileSync(output), program, ...WASM_OPT_OPTIONS)
      : "";
  if (fs.existsSync(stamp) && fs.readFileSync(stamp, "utf8") === state()) return;

  say("build: wasm-opt");
  const unfinished = `${output}.part`;
  await run(process.execPath, [program, input, "-o", unfinished, ...WASM_OPT_OPTIONS]);
  fs.renameSync(unfinished, output);
  fs.writeFileSync(stamp, state());
}

/** TypeScript, and the library that a subpath needs. */
async function buildScripts() {
  const stale = fs.readdirSync(dist).filter((name) => !name.startsWith("pesi_wasm"));
  for (const name of stale) fs.rmSync(path.join(dist, name), { recursive: true });
  const tsc = packageProgram("typescript", "tsc");
  for (const project of ["tsconfig.json", "www/demo/tsconfig.json"]) {
    await run(process.execPath, [tsc, "-p", project]);
  }
  // Only here: on a fresh machine it is installed after this module is read.
  const { build: bundle } = await import("esbuild");
  for (const { entry, output, ...options } of BUNDLED) {
    await bundle({
      entryPoints: [path.join(root, "www", "src", entry)],
      outfile: path.join(dist, output),
      bundle: true,
      minify: true,
      platform: "browser",
      target: "es2022",
      logLevel: "warning",
      ...options,
    });
  }
}

function buildDemo() {
  const source = path.join(root, "www", "demo");
  const page = path.join(dist, "demo");
  const isStatic = (file) => !/\.ts$|tsconfig\.json$/.test(file);
  fs.cpSync(source, page, { recursive: true, filter: isStatic });
  const vendor = path.join(page, "vendor");
  fs.mkdirSync(vendor, { recursive: true });
  for (const [name, file] of Object.entries(VENDORED)) {
    fs.copyFileSync(path.join(root, "node_modules", file), path.join(vendor, name));
  }
}

await runAsProgram(import.meta.url, async () => {
  await setUpBuild();
  await build();
  checkSizes();
});
