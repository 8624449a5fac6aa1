/**
 * Models in browser storage: damage found and repaired by the piece, a full disk, several tabs, loads that were cut
 * off, what `models` tells and does, published digests, and files that are not what they were.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";

import { startFaultServer } from "./fault-server.mjs";
import { Random } from "./random.mjs";
import { bytesInFlight, golden, goldenFolder, pieceBytes, smollm2 } from "./store-models.mjs";
import * as inPage from "./store-page.mjs";
import { openHarness } from "./support.mjs";

const N_DAMAGES = 50;
/** What is read of a file to find its header, at least. */
const FIRST_BYTES = 256 << 10;
/** Of them, those in bytes that nothing is read from, such as gaps between tensors. */
const MAX_UNNOTICED = 2;
/** What is counted then does not depend on the browser's own cache. */
const UNCACHED = { isCacheable: false };
/** Slow enough for a load of the small model to be met on its way: it then takes two seconds. */
const SLOW = { ...UNCACHED, bytesPerSecond: 700_000 };
const MANIFESTS = ["manifest-a.json", "manifest-b.json"];
const MIB = 1 << 20;

const SMALL = golden("a2-ratios.q8.gguf");
const OTHER = golden("a1-basic.q8.gguf");
const FOLDER = goldenFolder("a2-ratios");
/** As many bytes as SMALL, and not all the same. */
const VARIANT = variantOf(SMALL);

describe("a model in storage", () => {
  let harness;
  let page;

  before(async () => {
    harness = await openHarness({ start: startFaultServer });
    page = await harness.openBlank();
    for (const model of [SMALL, OTHER, FOLDER, VARIANT]) await measure(model);
    assert.notEqual(VARIANT.logits, SMALL.logits);
  });

  beforeEach(() => page.evaluate(inPage.clearStorage));

  after(() => harness?.close());

  const publish = ({ entry, files }, plan) => {
    const publication = harness.server.publish(files, plan);
    const source = publication.path + entry;
    return { publication, source, id: harness.url + source };
  };

  /** What a load without faults computes, stores and fetches. */
  async function measure(model) {
    const { publication, source } = publish(model);
    const { logits } = await load(source);
    model.logits = logits;
    model.image = await page.evaluate(inPage.digestImage);
    model.bytes = publication.sentBytes;
    await page.evaluate(inPage.clearStorage);
  }

  /** Loads, and expects it to succeed. */
  async function load(source, { tab = page, ...request } = {}) {
    const result = await tab.evaluate(inPage.tryLoad, { source, ...request });
    assert.equal(result.error, undefined);
    assert.equal(result.info.storageError, undefined);
    return result;
  }

  /** Loads, and expects the error. */
  async function failToLoad(source, kind, { tab = page, ...request } = {}) {
    const { error } = await tab.evaluate(inPage.tryLoad, { source, ...request });
    assert.equal(error?.name, "PesiError", JSON.stringify(error));
    assert.equal(error.kind, kind, error.message);
    return error;
  }

  /** Calls a function of `models`. */
  async function call(method, ...args) {
    const { value, error } = await page.evaluate(inPage.callModels, [method, ...args]);
    assert.equal(error, undefined);
    return value;
  }

  const isUnderWay = (tab, share) =>
    tab.waitForFunction((share) => {
      const { phase, loadedBytes, totalBytes } = globalThis.progress ?? {};
      return phase === "download" && loadedBytes > share * totalBytes;
    }, share);

  async function withTab(run) {
    const tab = await harness.openBlank();
    return run(tab).finally(() => tab.close());
  }

  test("needs no network", async () => {
    const { publication, source } = publish(SMALL);
    assert.equal((await load(source)).info.fromStorage, false);
    publication.reset();
    const { info, logits } = await load(source);
    assert.equal(info.fromStorage, true);
    assert.equal(logits, SMALL.logits);
    assert.deepEqual(publication.requests, []);
  });

  test(`is repaired by the piece after one bit has flipped, at ${N_DAMAGES} places`, async (t) => {
    const { publication, source, id } = publish(SMALL);
    await load(source);
    const header = (await page.evaluate(inPage.storedFiles)).find(({ name }) => name === "heads.bin");
    const limit = pieceBytes(SMALL.bytes) + header.bytes;
    const random = new Random(1);
    const counts = { byLoad: 0, byVerify: 0, unnoticed: 0, mostBytes: 0 };
    for (let index = 0; index < N_DAMAGES; index++) {
      const place = drawPlace(await page.evaluate(inPage.storedFiles), random);
      const what = `bit ${place.bit} of byte ${place.at} of ${place.name}`;
      await page.evaluate(inPage.damage, place);
      publication.reset();
      if (index % 2 === 0) {
        assert.equal((await load(source)).logits, SMALL.logits, what);
        if (publication.sentBytes > 0) counts.byLoad += 1;
      }
      const { damagedPieces, repairedPieces } = await call("verify", id);
      assert.equal(repairedPieces, damagedPieces, what);
      if (damagedPieces > 0) counts.byVerify += 1;
      // A header is looked for in the file's first bytes, which are more than it.
      const most = place.name === "heads.bin" ? FIRST_BYTES : limit;
      assert.ok(publication.sentBytes <= most, `${what}: ${publication.sentBytes} bytes were fetched of ${most}`);
      counts.mostBytes = Math.max(counts.mostBytes, publication.sentBytes);

      if ((await page.evaluate(inPage.digestImage)) !== SMALL.image) {
        counts.unnoticed += 1;
        await page.evaluate(inPage.damage, place);
        assert.equal(await page.evaluate(inPage.digestImage), SMALL.image, what);
      }
      publication.reset();
      const again = await load(source);
      assert.equal(again.logits, SMALL.logits, what);
      assert.equal(again.info.fromStorage, true, what);
      assert.equal(publication.sentBytes, 0, what);
    }
    t.diagnostic(JSON.stringify(counts));
    assert.ok(counts.unnoticed <= MAX_UNNOTICED, `${counts.unnoticed} flipped bits of weights went unnoticed`);
    const { ok, damagedPieces } = await call("verify", id);
    assert.deepEqual({ ok, damagedPieces }, { ok: true, damagedPieces: 0 });
  });

  test("is not repaired where that is not asked for", async () => {
    const { publication, source, id } = publish(SMALL);
    await load(source);
    const shard = (await page.evaluate(inPage.storedFiles)).find(({ name }) => name.startsWith("shard-"));
    await page.evaluate(inPage.damage, { ...shard, at: shard.bytes >> 1, bit: 4 });
    publication.reset();
    const damaged = await call("verify", id, { repair: false });
    assert.deepEqual([damaged.ok, damaged.damagedPieces, damaged.repairedPieces], [false, 1, 0]);
    assert.deepEqual(publication.requests, []);
    const repaired = await call("verify", id);
    assert.deepEqual([repaired.damagedPieces, repaired.repairedPieces], [1, 1]);
    const whole = await call("verify", id, { repair: false });
    assert.deepEqual([whole.id, whole.ok, whole.damagedPieces], [id, true, 0]);
    assert.ok(whole.checkedBytes >= SMALL.bytes / 2, `${whole.checkedBytes} bytes were checked`);
  });

  test("is loaded anew where a file of it is missing or cut off", async () => {
    const { source } = publish(SMALL);
    await load(source);
    for (const file of await page.evaluate(inPage.storedFiles)) {
      await page.evaluate(inPage.removeStored, file);
      assert.equal((await load(source)).logits, SMALL.logits, `without ${file.name}`);
      await page.evaluate(inPage.writeStored, { ...file, noise: file.bytes >> 1 });
      assert.equal((await load(source)).logits, SMALL.logits, `with noise for ${file.name}`);
    }
  });

  test("is not there after an abort, and the next load continues", async (t) => {
    const { publication, source, id } = publish(SMALL, SLOW);
    await failToLoad(source, "aborted", { abortAt: 0.5 });
    await assertContinues(t, { publication, source, id });
  });

  test("continues after the page was loaded anew", async (t) => {
    const { publication, source, id } = publish(SMALL, SLOW);
    await withTab(async (tab) => {
      const cutOff = tab.evaluate(inPage.tryLoad, { source }).catch(() => {});
      await isUnderWay(tab, 0.5);
      await tab.reload();
      await cutOff;
    });
    await assertContinues(t, { publication, source, id });
  });

  /** The load of SMALL was cut off at about the half: it is listed as that, and the next one fetches the rest. */
  async function assertContinues(t, { publication, source, id }) {
    assert.deepEqual(await call("list"), []);
    const [entry, ...others] = await call("list", { incomplete: true });
    assert.deepEqual(others, []);
    assert.deepEqual([entry.id, entry.precision, entry.complete], [id, "exact", false]);
    assert.ok(entry.downloadedBytes > 0 && entry.downloadedBytes < entry.downloadBytes, JSON.stringify(entry));
    assert.ok(entry.storedBytes > 0 && entry.storedBytes < entry.totalBytes, JSON.stringify(entry));
    const missing = SMALL.bytes - publication.coveredBytes;
    publication.set(UNCACHED);
    publication.reset();
    assert.equal((await load(source)).logits, SMALL.logits);
    t.diagnostic(`${publication.sentBytes} bytes were fetched, ${missing} of ${SMALL.bytes} were missing`);
    assert.ok(publication.sentBytes <= missing + bytesInFlight(SMALL.bytes));
    assert.equal(await page.evaluate(inPage.digestImage), SMALL.image);
    assert.equal((await call("list")).length, 1);
  }

  test("is listed and removed, by its precision too", async () => {
    const { source, id } = publish(SMALL);
    const other = publish(OTHER);
    assert.deepEqual(await call("list", { incomplete: true }), []);
    await load(source);
    await load(source, { options: { precision: "compact" } });
    await load(other.source);
    const listed = async () =>
      (await call("list")).map(({ id, precision }) => `${id} ${precision}`).sort();
    const all = [`${id} compact`, `${id} exact`, `${other.id} exact`].sort();
    assert.deepEqual(await listed(), all);
    for (const entry of await call("list", { incomplete: true })) {
      assert.equal(entry.complete, true);
      assert.equal(entry.storedBytes, entry.totalBytes);
      assert.equal(entry.downloadedBytes, entry.downloadBytes);
      assert.ok(entry.storedBytes > 0 && entry.downloadBytes > 0, JSON.stringify(entry));
    }
    const { removedBytes } = await call("remove", id, { precision: "compact" });
    assert.ok(removedBytes > SMALL.bytes / 2, `${removedBytes} bytes were removed`);
    assert.deepEqual(await listed(), all.filter((name) => name !== `${id} compact`));
    await call("remove", id);
    assert.deepEqual(await listed(), [`${other.id} exact`]);
    await call("remove", other.id);
    assert.deepEqual(await call("list", { incomplete: true }), []);
    assert.deepEqual(await page.evaluate(inPage.storedFiles), []);
    assert.equal((await load(source)).info.fromStorage, false);
  });

  test("is not removed while a tab loads it", async () => {
    const { source, id } = publish(SMALL, SLOW);
    await withTab(async (tab) => {
      const loading = load(source, { tab });
      await isUnderWay(tab, 0.2);
      const { error } = await page.evaluate(inPage.callModels, ["remove", id]);
      assert.equal((await loading).logits, SMALL.logits);
      assert.deepEqual([error?.name, error?.kind], ["PesiError", "storage"]);
    });
    assert.ok((await call("remove", id)).removedBytes > 0);
  });

  test("is downloaded once by two tabs at the same time, and is there for a third while one answers", async (t) => {
    const { publication, source } = publish(SMALL, SLOW);
    await withTab(async (second) => {
      const options = { precision: "exact", contextLength: 2048 };
      const loads = await Promise.all([
        load(source, { options, keep: true }),
        load(source, { options, tab: second }),
      ]);
      for (const { logits, downloads } of loads) {
        assert.equal(logits, SMALL.logits);
        assert.ok(downloads > 3, `${downloads} reports of a download`);
      }
      t.diagnostic(`${publication.sentBytes} bytes were fetched of ${SMALL.bytes}`);
      assert.ok(publication.sentBytes <= SMALL.bytes, `${publication.sentBytes} bytes were fetched`);
    });
    await withTab(async (third) => {
      await page.evaluate(() => {
        const options = { tokens: [1, 20, 300], maxTokens: 2000, temperature: 0, ignoreEos: true };
        globalThis.isAnswering = true;
        globalThis.answer = (async () => {
          let count = 0;
          for await (const _ of globalThis.model.generate(options)) count += 1;
          globalThis.isAnswering = false;
          return count;
        })();
      });
      publication.reset();
      const { info, logits } = await load(source, { tab: third });
      assert.ok(await page.evaluate(() => globalThis.isAnswering), "the answer was over too soon to tell");
      assert.equal(info.fromStorage, true);
      assert.equal(logits, SMALL.logits);
      assert.deepEqual(publication.requests, []);
      assert.equal(await page.evaluate(() => globalThis.answer), 2000);
      await page.evaluate(() => globalThis.model.dispose());
    });
  });

  test("is taken over by the tab that waits when the one that loads is closed", async (t) => {
    const { publication, source } = publish(SMALL, SLOW);
    const first = await harness.openBlank();
    const cutOff = first.evaluate(inPage.tryLoad, { source }).catch(() => {});
    await isUnderWay(first, 0.1);
    const waiting = load(source);
    await isUnderWay(first, 0.5);
    await first.close();
    await cutOff;
    assert.equal((await waiting).logits, SMALL.logits);
    t.diagnostic(`${publication.sentBytes} bytes were fetched of ${SMALL.bytes}`);
    assert.ok(publication.sentBytes <= SMALL.bytes + bytesInFlight(SMALL.bytes));
    assert.equal(await page.evaluate(inPage.digestImage), SMALL.image);
  });

  test("continues once there is room again", async (t) => {
    const model = smollm2();
    const [{ length: modelBytes }] = model.files.values();
    const { publication, source } = publish(model, UNCACHED);
    const session = await harness.context.newCDPSession(page);
    const setQuota = (quotaSize) => session.send("Storage.overrideQuotaForOrigin", { origin: harness.url, quotaSize });
    await setQuota(48 * MIB);
    try {
      const { message, details } = await failToLoad(source, "quota_exceeded", { options: { precision: "compact" } });
      t.diagnostic(message);
      assert.ok(details.needed > 0, JSON.stringify(details));
      assert.ok(details.stored > 0 && details.stored <= 48 * MIB, JSON.stringify(details));
      const missing = modelBytes - publication.coveredBytes;
      await setQuota(undefined);
      publication.reset();
      const { logits } = await load(source, { options: { precision: "compact" } });
      t.diagnostic(`${publication.sentBytes} bytes were fetched, ${missing} of ${modelBytes} were missing`);
      assert.ok(publication.sentBytes <= missing + bytesInFlight(modelBytes));
      publication.reset();
      const warm = await load(source, { options: { precision: "compact" } });
      assert.deepEqual([warm.info.fromStorage, warm.logits], [true, logits]);
      assert.equal(publication.sentBytes, 0);
    } finally {
      await setQuota(undefined);
    }
  });

  for (const model of [SMALL, FOLDER]) {
    test(`comes from a server that ignores ranges: ${model.entry || "a folder"}`, async (t) => {
      const { publication, source } = publish(model, { ignoresRanges: true });
      assert.equal((await load(source)).logits, model.logits);
      t.diagnostic(`${publication.sentBytes} bytes were fetched of ${model.bytes}`);
      assert.equal(await page.evaluate(inPage.digestImage), model.image);
      publication.reset();
      assert.equal((await load(source)).info.fromStorage, true);
      assert.equal(publication.sentBytes, 0);
    });
  }

  test("is held against the published digest, where there is one", async (t) => {
    for (const [sums, hasDigest] of [
      ["right", true],
      ["absent", false],
    ]) {
      const { source } = publish(SMALL, { sums });
      assert.equal((await load(source)).logits, SMALL.logits);
      const [entry] = await call("list");
      t.diagnostic(`digests ${sums}: verified ${JSON.stringify(entry.verified)}`);
      assert.equal(Boolean(entry.verified), hasDigest);
      await page.evaluate(inPage.clearStorage);
    }
  });

  test("is refused where the published digest is another, and nothing of it stays", async () => {
    const [file] = SMALL.files.keys();
    const { publication, source } = publish(SMALL, { sums: { wrong: file } });
    const { message } = await failToLoad(source, "invalid_model");
    assert.match(message, /SHA-?256|digest|checksum/i);
    const entries = await call("list", { incomplete: true });
    assert.ok(entries.every(({ downloadedBytes }) => downloadedBytes === 0), JSON.stringify(entries));
    publication.set({ sums: "right" });
    publication.reset();
    assert.equal((await load(source)).logits, SMALL.logits);
    assert.ok(publication.sentBytes >= SMALL.bytes, `${publication.sentBytes} bytes were fetched`);
  });

  test("keeps the other files where the digest of one is another", async (t) => {
    const [kept, wrong] = [...FOLDER.files.keys()].filter((name) => name.endsWith(".safetensors"));
    const { publication, source } = publish(FOLDER, { sums: { wrong } });
    await failToLoad(source, "invalid_model");
    publication.set({ sums: "right" });
    publication.reset();
    assert.equal((await load(source)).logits, FOLDER.logits);
    t.diagnostic(JSON.stringify(Object.fromEntries(publication.sent)));
    assert.ok(publication.sent.get(wrong) >= FOLDER.files.get(wrong).length);
    assert.ok((publication.sent.get(kept) ?? 0) < FOLDER.files.get(kept).length / 2, "the right file is kept");
  });

  for (const [what, changed] of [
    ["another size", OTHER],
    ["the same size", VARIANT],
  ]) {
    test(`is fetched afresh where the file has changed since: to ${what}`, async () => {
      // The browser's cache may have some of the file as it was.
      const { publication, source } = publish(SMALL, { ...SLOW, isCacheable: true });
      await failToLoad(source, "aborted", { abortAt: 0.5 });
      publication.replace(new Map([[SMALL.entry, [...changed.files.values()][0]]]));
      publication.set();
      publication.reset();
      assert.equal((await load(source)).logits, changed.logits);
      assert.equal(await page.evaluate(inPage.digestImage), changed.image);
      assert.ok(publication.sentBytes >= changed.bytes, `${publication.sentBytes} bytes were fetched`);
    });
  }

  test("is not mixed of two where the file changes in the middle", async () => {
    const { publication, source } = publish(SMALL, { ...SLOW, isCacheable: true });
    const loading = page.evaluate(inPage.tryLoad, { source });
    await isUnderWay(page, 0.3);
    publication.replace(new Map([[SMALL.entry, VARIANT.files.get(VARIANT.entry)]]));
    const { error, logits } = await loading;
    publication.set();
    if (error === undefined) {
      assert.ok([SMALL.logits, VARIANT.logits].includes(logits));
      assert.equal((await load(source)).logits, logits);
    } else {
      assert.deepEqual([error.name, error.kind], ["PesiError", "network"]);
      assert.equal((await load(source)).logits, VARIANT.logits);
      assert.equal(await page.evaluate(inPage.digestImage), VARIANT.image);
    }
  });

  test("of another version of the packing is not read", async (t) => {
    const { source, id } = publish(SMALL);
    await load(source);
    const [{ folder, name }] = await manifests();
    // A line with a hash follows the manifest; what is written here has none that fits.
    const read = async (file) => JSON.parse((await page.evaluate(inPage.readStored, file)).split("\n")[0]);
    const leaves = numbersIn(await read({ folder, name }));
    t.diagnostic(`numbers of the manifest: ${leaves.map((keys) => keys.join(".")).join(", ")}`);
    assert.ok(leaves.length > 0);
    for (const keys of leaves) {
      for (const file of await manifests()) {
        const text = JSON.stringify(withNumber(await read(file), keys, (value) => value + 1));
        await page.evaluate(inPage.writeStored, { ...file, text });
      }
      assert.equal((await load(source)).logits, SMALL.logits, keys.join("."));
      assert.equal(await page.evaluate(inPage.digestImage), SMALL.image, keys.join("."));
    }

    for (const file of await page.evaluate(inPage.storedFiles)) await page.evaluate(inPage.removeStored, file);
    const manifest = { packing: 2, id, imageBytes: SMALL.bytes, ropeDivisors: null };
    await page.evaluate(inPage.writeStored, { folder, name: "manifest.json", text: JSON.stringify(manifest) });
    await page.evaluate(inPage.writeStored, { folder, name: "heads.bin", noise: 20_000 });
    await page.evaluate(inPage.writeStored, { folder, name: "shard-0000.bin", noise: SMALL.bytes });
    const { info, logits } = await load(source);
    assert.deepEqual([info.fromStorage, logits], [false, SMALL.logits]);
    assert.equal(await page.evaluate(inPage.digestImage), SMALL.image);
  });

  test("of another name is not read", async () => {
    const [small, other] = [publish(SMALL), publish(OTHER)];
    await load(small.source);
    const [{ folder: to }] = await page.evaluate(inPage.storedFiles);
    await load(other.source);
    const { folder: from } = (await page.evaluate(inPage.storedFiles)).find(({ folder }) => folder !== to);
    await page.evaluate(inPage.copyFolder, { from, to });
    assert.equal((await load(small.source)).logits, SMALL.logits);
    assert.equal((await load(other.source)).logits, OTHER.logits);
  });

  test("nothing went wrong in the console but what the server refused", () => {
    const others = harness.problems.filter((problem) => !/^console: Failed to load resource/.test(problem));
    assert.deepEqual(others, []);
  });

  async function manifests() {
    const files = await page.evaluate(inPage.storedFiles);
    const found = files.filter(({ name }) => MANIFESTS.includes(name));
    assert.ok(found.length > 0, `no manifest among ${files.map(({ name }) => name).join(", ")}`);
    return found;
  }
});

/** A bit of a stored file: every other one of the weights, the rest of the other files alike. */
function drawPlace(files, random) {
  const isShard = ({ name }) => name.startsWith("shard-");
  const isOfWeights = random.below(2) === 0;
  const file = random.pick(files.filter((file) => isShard(file) === isOfWeights && file.bytes > 0));
  return { ...file, at: random.below(file.bytes), bit: random.below(8) };
}

/** The same model with other weights, a few at each of many places. */
function variantOf({ entry, files }) {
  const [whole] = files.values();
  const bytes = Buffer.from(whole);
  // Behind the header, in blocks of 8-bit codes and a 16-bit scale, whose lowest bits alone are touched.
  for (let at = bytes.length >> 1; at < bytes.length; at += 4001) bytes[at] ^= 1;
  return { entry, files: new Map([[entry, bytes]]) };
}

/** The paths of the numbers in a value; of those in lists only the first one's. */
function numbersIn(value, keys = []) {
  if (typeof value === "number") return [keys];
  if (Array.isArray(value)) return value.slice(0, 1).flatMap((item) => numbersIn(item, [...keys, 0]));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => numbersIn(item, [...keys, key]));
}

/** The value with one number replaced; as it is where it has none there. */
function withNumber(value, [key, ...keys], replace) {
  if (key === undefined) return typeof value === "number" ? replace(value) : value;
  if (typeof value !== "object" || value === null || !(key in value)) return value;
  value[key] = withNumber(value[key], keys, replace);
  return value;
}
