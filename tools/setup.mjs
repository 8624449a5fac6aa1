/**
 * What the repository's commands need beyond Node and Rust, each fetched only where it is missing:
 * npm packages, a C linker, the WebAssembly target, a Chromium, a Vulkan device, the default model,
 * the golden model that is stored packed.
 */
import fs from "node:fs";
import path from "node:path";

import { aptInstall } from "./apt.mjs";
import { findChromium } from "./chromium.mjs";
import { ensureModel } from "./default-model.mjs";
import { ensureGolden } from "./golden.mjs";
import { ToolError, query, root, run, runAsProgram, runNpm, say, which } from "./process.mjs";

const WASM_TARGET = "wasm32-unknown-unknown";
const VULKAN_DRIVERS = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
const VULKAN_LOADER = "libvulkan.so.1";

/** What building the package takes. */
export async function setUpBuild() {
  await ensurePackages();
  await ensureRust();
}

/** What running the tests takes beyond building. */
export async function setUpTests() {
  await setUpBuild();
  await ensureChromium();
  await ensureVulkan();
  await ensureModel();
  await ensureGolden();
}

/** The npm packages of the lock file. */
export async function ensurePackages() {
  const modified = (file) => fs.statSync(path.join(root, file), { throwIfNoEntry: false })?.mtimeMs;
  const installed = modified("node_modules/.package-lock.json");
  if (installed !== undefined && installed >= modified("package-lock.json")) return;
  say("set-up: installing the npm packages of package-lock.json (npm ci)");
  await runNpm(["ci"]);
}

/** A Rust toolchain that can link for this machine and for WebAssembly. */
export async function ensureRust() {
  if (query("cargo", ["--version"]) === undefined) {
    throw new ToolError(
      "Rust is missing, or its `cargo` is not on PATH. Install it with rustup; the version the " +
        "repository wants stands in rust-toolchain.toml and is fetched by itself.",
    );
  }
  if (process.platform === "linux" && which("cc") === undefined) {
    await aptInstall("a C linker", ["gcc", "libc6-dev"], "Install gcc or clang, as `cc` on PATH.");
  }
  const library = query("rustc", ["--print", "target-libdir", "--target", WASM_TARGET]);
  if (library !== undefined && fs.existsSync(library)) return;
  if (which("rustup") === undefined) {
    throw new ToolError(`Rust's target ${WASM_TARGET} is missing, and so is rustup to add it.`);
  }
  say(`set-up: adding Rust's target ${WASM_TARGET} (rustup target add)`);
  await run("rustup", ["target", "add", WASM_TARGET]);
}

/**
 * A Chromium to run the page in.
 *
 * @returns {Promise<string>} the path of its program.
 */
export async function ensureChromium() {
  const found = findChromium();
  if (found !== undefined) return found;
  const otherwise =
    "Install Chromium or Google Chrome, or set CHROME_PATH to its program, or run " +
    "`npx playwright-core install --with-deps chromium`.";
  await aptInstall("Chromium", ["chromium", "fonts-liberation"], otherwise);
  const installed = findChromium();
  if (installed === undefined) throw new ToolError(`Chromium is missing. ${otherwise}`);
  return installed;
}

/** A Vulkan device for the native tests; other systems bring their own graphics interface. */
export async function ensureVulkan() {
  if (process.platform !== "linux") return;
  const named = process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES;
  const hasDriver = named !== undefined || VULKAN_DRIVERS.some(hasFiles);
  if (hasDriver && hasVulkanLoader()) return;
  await aptInstall(
    "a software Vulkan device",
    ["mesa-vulkan-drivers", "libvulkan1"],
    "Install a Vulkan driver and loader; Mesa's lavapipe is enough.",
  );
}

function hasFiles(folder) {
  return fs.existsSync(folder) && fs.readdirSync(folder).length > 0;
}

function hasVulkanLoader() {
  const bases = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].filter((it) => fs.existsSync(it));
  const folders = bases.flatMap((base) => [
    base,
    ...fs.readdirSync(base).filter((it) => it.includes("-linux-")).map((it) => path.join(base, it)),
  ]);
  const searched = [...folders, ...(process.env.LD_LIBRARY_PATH ?? "").split(":").filter(Boolean)];
  return searched.some((folder) => fs.existsSync(path.join(folder, VULKAN_LOADER)));
}

await runAsProgram(import.meta.url, setUpTests);
