/**
 * Fresh projects of web developers around the packed package: installed by npm from the file that `npm pack` writes,
 * with no network, and built as their tools do it by default.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { packageProgram, root, run, runNpm } from "../../tools/process.mjs";

const SOURCES = path.join(root, "tests", "projects");

/** What programs of the npm that runs these tests would take for their own settings. */
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_config_")));

/** Makes the folder of all projects, with the packed package in it. */
export async function packInto() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "pesi-projects-"));
  await runNpm(["pack", "--silent", "--offline", "--pack-destination", folder], { env: ENV });
  const [tarball, ...others] = fs.readdirSync(folder);
  if (!tarball?.endsWith(".tgz") || others.length > 0) throw new Error(`npm packed ${[tarball, ...others]}`);
  return { folder, tarball: path.join(folder, tarball) };
}

/**
 * Makes a project and installs the packed package in it.
 *
 * @param {{folder: string, tarball: string}} packed what {@link packInto} returned
 * @param {string} name the project's folder
 * @param {object} options
 * @param {string[]} options.sources files and folders of `tests/projects/`; of folders what is in them
 * @param {string[]} [options.others] further packages of the project: those that the repository has, as links
 * @returns {Promise<string>} the project's path
 */
export async function createProject({ folder, tarball }, name, { sources, others = [] }) {
  const project = path.join(folder, name);
  fs.mkdirSync(project);
  fs.writeFileSync(path.join(project, "package.json"), JSON.stringify({ name, private: true, type: "module" }));
  for (const source of sources) {
    const from = path.join(SOURCES, source);
    const isFolder = fs.statSync(from).isDirectory();
    fs.cpSync(from, isFolder ? project : path.join(project, source), { recursive: true });
  }
  const options = ["--silent", "--offline", "--no-audit", "--no-fund", "--no-package-lock"];
  await runNpm(["install", ...options, tarball], { cwd: project, env: ENV });
  for (const other of others) {
    const link = path.join(project, "node_modules", other);
    fs.mkdirSync(path.dirname(link), { recursive: true });
    fs.symlinkSync(path.join(root, "node_modules", other), link, "junction");
  }
  return project;
}

/** Runs TypeScript's compiler in a project, under `strict`; returns what it complains about. */
export function compile(project, ...args) {
  const strict = ["--strict", "--target", "ES2022", "--lib", "ES2022,DOM,DOM.Iterable", "--types", ""];
  const all = [packageProgram("typescript", "tsc"), ...strict, ...args];
  const { stdout, stderr, status } = spawnSync(process.execPath, all, { cwd: project, encoding: "utf8" });
  return status === 0 ? "" : stdout + stderr || `tsc ended with ${status}`;
}

/** Builds a project with Vite's defaults, but for a base that lets it be served in a folder. */
export async function buildWithVite(project) {
  const args = ["build", "--base", "./", "--logLevel", "error"];
  await run(process.execPath, [packageProgram("vite", "vite"), ...args], { cwd: project, env: ENV });
}

/** Serves a project with Vite's development server, whose `/models/` are those of `origin`; returns its address. */
export async function serveWithVite(project, origin) {
  const { createServer } = await import("vite");
  const options = { host: "127.0.0.1", proxy: { "/models": origin } };
  const server = await createServer({ root: project, logLevel: "error", server: options });
  await server.listen();
  return { url: server.resolvedUrls.local[0], close: () => server.close() };
}

/** Builds the compiled scripts of a project with webpack's defaults for production, but does not minify them. */
export async function buildWithWebpack(project, entry) {
  const { default: webpack } = await import("webpack");
  // Its defaults for folders are those of the process.
  const folders = { context: project, output: { path: path.join(project, "dist") } };
  // Minifying takes most of the time. The module is larger than the assets that webpack warns of.
  const quick = { optimization: { minimize: false }, performance: false };
  const compiler = webpack({ ...folders, ...quick, mode: "production", entry });
  const stats = await new Promise((resolve, reject) => {
    compiler.run((error, built) => compiler.close(() => (error ? reject(error) : resolve(built))));
  });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  const complaints = [...errors, ...warnings].map(({ message }) => message);
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
}
