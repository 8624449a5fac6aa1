/**
 * What tests of storage do in a page. Each function stands alone, for it is sent there by its text; errors are given
 * back as plain objects.
 */

/**
 * Loads a model, computes logits, and disposes of it unless it is to stay as `globalThis.model`.
 *
 * @param {object} request
 * @param {object} [request.options] of `load`.
 * @param {number[]} [request.tokens] to compute logits of.
 * @param {number} [request.abortAt] share of the download after which the load is cancelled.
 * @param {boolean} [request.keep]
 * @returns {Promise<object>} `info`; `logits`, a digest of them; `downloads`, how often a download was reported; or
 *   `error`. While it goes on, `globalThis.progress` is the last report.
 */
export async function tryLoad({ source, options, tokens = [1, 20, 300, 4], abortAt, keep = false }) {
  const { load } = await import("/pesi.js");
  const controller = new AbortController();
  let downloads = 0;
  globalThis.progress = undefined;
  const onProgress = (progress) => {
    globalThis.progress = progress;
    const { phase, loadedBytes, totalBytes } = progress;
    if (phase === "download") downloads += 1;
    if (phase === "download" && loadedBytes >= abortAt * totalBytes) controller.abort();
  };
  const settings = { device: "cpu", precision: "exact", contextLength: 128 };
  try {
    const model = await load(source, { ...settings, ...options, onProgress, signal: controller.signal });
    const digest = await crypto.subtle.digest("SHA-256", await model.logits({ tokens }));
    if (keep) globalThis.model = model;
    else await model.dispose();
    return { info: model.info, logits: new Uint8Array(digest).toHex(), downloads };
  } catch (error) {
    const { name, kind, message, details } = error;
    return { error: { name, kind, message, details }, downloads };
  }
}

/** Calls `models[method](...args)`: `{value}` or `{error}`. */
export async function callModels([method, ...args]) {
  const { models } = await import("/pesi.js");
  try {
    return { value: await models[method](...args) };
  } catch (error) {
    const { name, kind, message, details } = error;
    return { error: { name, kind, message, details } };
  }
}

/** The files of all stored models, as `{folder, name, bytes}`. */
export async function storedFiles() {
  const files = [];
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("pesi-models", { create: true });
  for await (const [folder, directory] of models) {
    if (directory.kind !== "directory") continue;
    for await (const [name, file] of directory) {
      if (file.kind === "file") files.push({ folder, name, bytes: (await file.getFile()).size });
    }
  }
  return files.sort((a, b) => (a.folder + a.name < b.folder + b.name ? -1 : 1));
}

/** A digest of the shards of the one model that is stored: of every byte that weights are read from. */
export async function digestImage() {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("pesi-models");
  const shards = [];
  for await (const directory of models.values()) {
    for await (const [name, file] of directory) if (name.startsWith("shard-")) shards.push({ name, file });
  }
  if (new Set(shards.map(({ name }) => name)).size < shards.length) throw new Error("several models are stored");
  shards.sort((a, b) => (a.name < b.name ? -1 : 1));
  const image = new Blob(await Promise.all(shards.map(({ file }) => file.getFile())));
  const digest = await crypto.subtle.digest("SHA-256", await image.arrayBuffer());
  return new Uint8Array(digest).toHex();
}

/** Flips one bit of a stored file. */
export async function damage({ folder, name, at, bit }) {
  const root = await navigator.storage.getDirectory();
  const directory = await (await root.getDirectoryHandle("pesi-models")).getDirectoryHandle(folder);
  const handle = await directory.getFileHandle(name);
  const bytes = new Uint8Array(await (await handle.getFile()).slice(at, at + 1).arrayBuffer());
  const writable = await handle.createWritable({ keepExistingData: true });
  await writable.write({ type: "write", position: at, data: bytes.map((byte) => byte ^ (1 << bit)) });
  await writable.close();
}

/** The text of a stored file. */
export async function readStored({ folder, name }) {
  const root = await navigator.storage.getDirectory();
  const directory = await (await root.getDirectoryHandle("pesi-models")).getDirectoryHandle(folder);
  return (await (await directory.getFileHandle(name)).getFile()).text();
}

/** Writes a stored file anew: text, or so many bytes of noise. */
export async function writeStored({ folder, name, text, noise }) {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("pesi-models", { create: true });
  const directory = await models.getDirectoryHandle(folder, { create: true });
  const writable = await (await directory.getFileHandle(name, { create: true })).createWritable();
  await writable.write(text ?? Uint8Array.from({ length: noise }, (_, at) => (at * 193 + (at >> 8)) & 255));
  await writable.close();
}

/** Removes one stored file. */
export async function removeStored({ folder, name }) {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("pesi-models");
  await (await models.getDirectoryHandle(folder)).removeEntry(name);
}

/** Empties the storage of models. */
export async function clearStorage() {
  const root = await navigator.storage.getDirectory();
  await root.removeEntry("pesi-models", { recursive: true }).catch((error) => {
    if (error.name !== "NotFoundError") throw error;
  });
}

/** Puts the files of one stored model in the place of another's. */
export async function copyFolder({ from, to }) {
  const root = await navigator.storage.getDirectory();
  const models = await root.getDirectoryHandle("pesi-models");
  const [source, target] = await Promise.all([from, to].map((folder) => models.getDirectoryHandle(folder)));
  for await (const name of target.keys()) await target.removeEntry(name);
  for await (const [name, file] of source) {
    const writable = await (await target.getFileHandle(name, { create: true })).createWritable();
    await writable.write(await file.getFile());
    await writable.close();
  }
}
