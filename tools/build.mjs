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

/** The WebAssembly modules, and the crates that they are made of. */
const MODULES = { pesi_wasm: "pesi", pesi_grammars: "pesi-grammars", pesi_templates: "pesi-templates" };

const SERVICE_WORKER = "service-worker/script.js";

const WASM_OPT_OPTIONS = [
  "-O3",
  // Below address 1024 is only the far end of the stack, so that a constant added to an address can be part of a load:
  // LLVM leaves many of them to instructions of their own.
  "--low-memory-unused",
  // What rustc emits for the target, and the vectors that .cargo/config.toml adds.
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

/** What every script is bundled for. */
const BROWSER = { bundle: true, platform: "browser", target: "es2022", logLevel: "warning" };

/** Builds everything that is not up to date. */
export async function build() {
  await buildWasm();
  await buildScripts();
  buildDemo();
  await buildExamples();
}

async function buildWasm() {
  const { target_directory: target, packages } = JSON.parse(query("cargo", ["metadata", "--format-version", "1"]));
  // Flags for the native machine, which replace those of .cargo/config.toml, mean nothing to wasm.
  const { RUSTFLAGS, CARGO_ENCODED_RUSTFLAGS, ...env } = process.env;
  // Built once and run by itself: cargo, which may be at work for others beside this, would have it wait for them.
  await run("cargo", ["build", "--quiet", "-p", "wasm-build"]);
  const bind = path.join(target, "debug", "wasm-build");
  // What the root crate is made into is said here alone: as a part of the others it would be made into a module, too. (As
  // an rlib beside that, for no other reason, the modules come out a little smaller.)
  const options = ["--lib", "--crate-type", "cdylib,rlib", "--profile", "wasm", "--target", WASM_TARGET];
  const remaps = withoutPaths(packages);
  const bindings = path.join(target, "wasm-bindgen");
  fs.mkdirSync(dist, { recursive: true });
  // wasm-opt takes one core, while cargo goes on with the next module.
  let optimised = Promise.resolve();
  for (const [name, crate] of Object.entries(MODULES)) {
    await Promise.all([run("cargo", ["rustc", "-p", crate, ...options, ...remaps], { env }), optimised]);
    const input = path.join(target, WASM_TARGET, "wasm", `${crate.replace("-", "_")}.wasm`);
    await run(bind, [input, bindings, name]);
    for (const file of [`${name}.js`, `${name}.d.ts`]) fs.copyFileSync(path.join(bindings, file), path.join(dist, file));
    const module = `${name}_bg.wasm`;
    optimised = optimise(path.join(bindings, module), path.join(dist, module));
  }
  await optimised;
}

/** Has messages of panics name files by package, and not by where they are on this machine. */
function withoutPaths(packages) {
  const crates = packages.filter(({ source }) => source !== null);
  const folders = new Set(crates.map(({ manifest_path: manifest }) => path.dirname(path.dirname(manifest))));
  const flags = [...folders, root].map((folder) => `--remap-path-prefix=${folder}${path.sep}=`);
  return ["--config", `target.${WASM_TARGET}.rustflags=${JSON.stringify(flags)}`];
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
  const stale = fs.readdirSync(dist).filter((name) => !Object.keys(MODULES).some((module) => name.startsWith(module)));
  for (const name of stale) fs.rmSync(path.join(dist, name), { recursive: true });
  const tsc = packageProgram("typescript", "tsc");
  for (const project of ["tsconfig.json", "www/demo/tsconfig.json"]) {
    await run(process.execPath, [tsc, "-p", project]);
  }
  const bundle = await bundler();
  for (const { entry, output, ...options } of BUNDLED) {
    const files = { entryPoints: [path.join(root, "www", "src", entry)], outfile: path.join(dist, output) };
    await bundle({ ...BROWSER, ...files, minify: true, ...options });
  }
}

/** On a fresh machine it is installed after this module is read. */
async function bundler() {
  const { build } = await import("esbuild");
  return build;
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

/** The examples, with the clients that they use; the package is imported from where it is built. */
async function buildExamples() {
  const source = path.join(root, "www", "examples");
  const folder = path.join(dist, "examples");
  const files = fs.readdirSync(source);
  const own = {
    name: "own package",
    setup: ({ onResolve }) => {
      const { exports } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
      onResolve({ filter: /^pesi(\/|$)/ }, ({ path: name }) => {
        const file = path.join(root, exports[name.replace(/^pesi/, ".")].default);
        return { path: path.relative(folder, file).replaceAll(path.sep, "/"), external: true };
      });
    },
  };
  const bundle = await bundler();
  await bundle({
    ...BROWSER,
    entryPoints: files.filter((name) => name.endsWith(".js")).map((name) => path.join(source, name)),
    outdir: folder,
    format: "esm",
    define: { "process.env.NODE_ENV": '"production"' },
    plugins: [own],
  });
  for (const name of files.filter((name) => /\.(html|css)$/.test(name))) {
    fs.copyFileSync(path.join(source, name), path.join(folder, name));
  }
  // It acts for pages in its own folder.
  fs.copyFileSync(path.join(dist, SERVICE_WORKER), path.join(folder, "pesi-service-worker.js"));
}

await runAsProgram(import.meta.url, async () => {
  await setUpBuild();
  await build();
  checkSizes();
});
