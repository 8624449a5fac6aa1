/**
 * The browser killed at random moments of a load, and started again on the same profile: the load goes on where it
 * was, and ends with the right tokens.
 *
 *     PESI_KILLS=30 node --test tests/browser/store-kill.test.mjs
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { findChromium, openChromium } from "../../tools/chromium.mjs";
import { blankPage, openBlankPage } from "../../tools/local-page.mjs";
import { root } from "../../tools/process.mjs";
import { startFaultServer } from "./fault-server.mjs";
import { decisive, generateGreedily } from "./golden.mjs";
import { Random } from "./random.mjs";
import { readSafetensors } from "./safetensors.mjs";
import { bytesInFlight, smollm2 } from "./store-models.mjs";
import * as inPage from "./store-page.mjs";

const N_KILLS = Number(process.env.PESI_KILLS ?? 4);
const SEED = Number(process.env.PESI_KILL_SEED ?? 1);

/** A whole load takes three seconds at this pace. What goes on does so from storage, not from the browser's cache. */
const PACED = { bytesPerSecond: 32e6, isCacheable: false };
/** The latest moment of a kill after its load has begun, in milliseconds. */
const LATEST_MS = 1500;
/** Bytes that the server has sent and the browser has not read, in all connections together. */
const UNREAD_BYTES = 1 << 20;
const MAX_TOKENS = 4;

const isWindows = process.platform === "win32";

describe("a load whose browser is killed", { skip: isWindows && "there are no process groups" }, () => {
  const model = smollm2();
  const [{ length: modelBytes }] = model.files.values();
  let profile;
  let server;
  let publication;
  let source;

  before(async () => {
    profile = fs.mkdtempSync(path.join(os.tmpdir(), "pesi-kill-"));
    server = await startFaultServer({ pages: blankPage });
    publication = server.publish(model.files, PACED);
    source = publication.path + model.entry;
  });

  after(async () => {
    await server?.close();
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });

  test(`goes on, after each of ${N_KILLS} kills`, async (t) => {
    const random = new Random(SEED);
    const counts = { duringLoads: 0, afterLoads: 0 };
    let mostLost = 0;
    for (let kill = 0; kill < N_KILLS; kill++) {
      await withBrowser(async (page) => {
        mostLost = Math.max(mostLost, await lostBytes(page));
        const load = page.evaluate(inPage.tryLoad, { source, options: { precision: "compact" } });
        const moment = sleep(random.unit() * LATEST_MS, "killed");
        const outcome = await Promise.race([moment, load.catch(() => "killed")]);
        counts[outcome === "killed" ? "duringLoads" : "afterLoads"] += 1;
        assert.equal(outcome.error, undefined);
        await killBrowser();
        await load.catch(() => {});
        // The next one begins anew.
        if (outcome !== "killed") await checkAndRemove();
      });
    }
    const missing = modelBytes - publication.coveredBytes;
    await checkAndRemove();
    t.diagnostic(`${counts.duringLoads} kills during a load, ${counts.afterLoads} right after`);
    t.diagnostic(`at most ${(mostLost / 1e6).toFixed(1)} MB of ${modelBytes / 1e6} were lost by a kill`);
    t.diagnostic(`${(missing / 1e6).toFixed(1)} MB were missing at the last load`);
  });

  /** Bytes that were sent and are not stored. Checks that they are no more than were in flight. */
  async function lostBytes(page) {
    const { value: entries, error } = await page.evaluate(inPage.callModels, ["list", { incomplete: true }]);
    assert.equal(error, undefined);
    assert.ok(entries.length <= 1, JSON.stringify(entries));
    const [{ downloadBytes, downloadedBytes } = { downloadBytes: modelBytes, downloadedBytes: 0 }] = entries;
    const lost = publication.coveredBytes - (modelBytes - (downloadBytes - downloadedBytes));
    const limit = bytesInFlight(modelBytes) + UNREAD_BYTES;
    assert.ok(lost <= limit, `${lost} bytes were lost; ${limit} were in flight`);
    return Math.max(lost, 0);
  }

  /** Loads to the end, at full speed: the bytes that were missing, and the right tokens. Then all is removed. */
  async function checkAndRemove() {
    const missing = modelBytes - publication.coveredBytes;
    publication.set({ isCacheable: false });
    await withBrowser(async (page) => {
      const before = publication.sentBytes;
      const options = { precision: "compact" };
      const { error, info } = await page.evaluate(inPage.tryLoad, { source, options, keep: true });
      assert.equal(error, undefined);
      assert.equal(info.storageError, undefined);
      const fetched = publication.sentBytes - before;
      const limit = missing + bytesInFlight(modelBytes) + UNREAD_BYTES;
      assert.ok(fetched <= limit, `${fetched} bytes were fetched; ${missing} were missing`);
      await assertRightTokens(page);

      const warm = await page.evaluate(inPage.tryLoad, { source, options });
      assert.equal(warm.info?.fromStorage, true);
      assert.equal(publication.sentBytes - before, fetched);
      await page.evaluate(inPage.clearStorage);
    });
    publication.reset();
    publication.set(PACED);
  }

  /** Runs with a page of a browser on the profile, and closes it in order if it still is there. */
  async function withBrowser(run) {
    const browser = await openChromium({ executable: findChromium(), offline: true, profile });
    try {
      await run(await openBlankPage(browser.context, server.url));
    } finally {
      await browser.close();
    }
  }

  /**
   * Kills the browser on the profile and its children at once. A running browser marks its profile by a link to
   * `HOST-PROCESS`; it was started as the leader of a process group.
   */
  async function killBrowser() {
    const mark = fs.readlinkSync(path.join(profile, "SingletonLock"));
    const group = -Number(/-(\d+)$/.exec(mark)[1]);
    process.kill(group, "SIGKILL");
    while (isAlive(group)) await sleep(5);
  }
});

function isAlive(group) {
  try {
    return process.kill(group, 0);
  } catch (error) {
    if (error.code === "ESRCH") return false;
    throw error;
  }
}

async function assertRightTokens(page) {
  const tensors = readSafetensors(path.join(root, "tests/golden/smollm2/golden_compact.safetensors"));
  const list = (name) => Array.from(tensors.get(`english.${name}`).data);
  const maxTokens = Math.min(decisive(list("greedy_gap")), MAX_TOKENS);
  assert.ok(maxTokens > 0);
  const found = await page.evaluate(generateGreedily, { tokens: list("ids"), maxTokens });
  assert.deepEqual(found, list("greedy").slice(0, maxTokens));
}
