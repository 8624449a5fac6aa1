/**
 * Loads under faults of the network, at places drawn by seeds: the right numbers or an error of a stated kind, then a
 * load without faults that succeeds; and what an interruption costs in bytes.
 *
 *     PESI_FAULT_RUNS=1000 node --test tests/browser/store-faults.test.mjs
 *     PESI_FAULT_SEED=17 node --test tests/browser/store-faults.test.mjs
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startFaultServer } from "./fault-server.mjs";
import { KINDS, drawPlan } from "./faults.mjs";
import { Random } from "./random.mjs";
import { golden, goldenFolder, goldenHalves } from "./store-models.mjs";
import { clearStorage, digestImage, tryLoad } from "./store-page.mjs";
import { openHarness } from "./support.mjs";

const N_RUNS = Number(process.env.PESI_FAULT_RUNS ?? 14 * Object.keys(KINDS).length);
const ONLY_SEED = process.env.PESI_FAULT_SEED;

/** Loads at a time, each from an origin of its own: most of their time is spent waiting for what comes no more. */
const N_LANES = 6;
/** More than any load takes that gets over its faults. */
const DEADLINE_MS = 60_000;
/** Bytes of both loads together after a single interruption, by those of the model. */
const MAX_RATIO = 1.1;
/** How much too early a timer may be, in milliseconds. */
const EARLY_MS = 50;

/** The forms that a model comes in: one file, two, a folder of them. */
const FORMS = [golden("a2-ratios.q8.gguf"), goldenHalves("a2-ratios.bf16.gguf"), goldenFolder("a2-ratios")];

describe("a load under faults", () => {
  let harness;
  let pages;
  const results = [];

  before(async () => {
    harness = await openHarness({ start: startFaultServer, lanes: N_LANES });
    pages = await Promise.all(harness.server.urls.map((url) => harness.openBlank(url)));
    for (const form of FORMS) form.expected = await measure(harness.server, pages[0], form);
  });

  after(() => harness?.close());

  test("ends, and the next one succeeds", async (t) => {
    const runs = drawRuns();
    const queue = [...runs];
    await Promise.all(
      pages.map(async (_, lane) => {
        for (let run = queue.shift(); run !== undefined; run = queue.shift()) {
          const renew = async () => {
            await pages[lane].close();
            pages[lane] = await harness.openBlank(harness.server.urls[lane]);
          };
          results.push(await carryOut(harness.server, pages[lane], run, renew));
        }
      }),
    );
    assert.equal(results.length, runs.length);
    t.diagnostic(`${results.length} runs`);
    const failures = results.flatMap(({ seed, kind, failures }) =>
      failures.map((failure) => `seed ${seed}, ${kind}: ${failure}`),
    );
    assert.deepEqual(failures, []);
  });

  for (const [kind, { isHarmless, isSingle }] of Object.entries(KINDS)) {
    test(kind, (t) => {
      const ofKind = results.filter((result) => result.kind === kind);
      if (ofKind.length === 0) return t.skip("no run of this kind");
      const outcomes = ofKind.map(({ first }) => first.error?.kind ?? "loaded");
      const names = [...new Set(outcomes)].sort();
      const counts = names.map((name) => `${outcomes.filter((outcome) => outcome === name).length} ${name}`);
      const nFired = ofKind.filter(({ nFired }) => nFired > 0).length;
      const ratio = Math.max(...ofKind.map(({ ratio }) => ratio));
      const slowest = Math.max(...ofKind.map(({ milliseconds }) => milliseconds));
      t.diagnostic(`of ${ofKind.length} runs ${nFired} with faults: ${counts.join(", ")}`);
      t.diagnostic(`at most ${ratio.toFixed(3)} times the model's bytes and ${(slowest / 1000).toFixed(1)} s`);
      if (isHarmless) assert.deepEqual(names, ["loaded"]);
      if (isSingle) {
        const costly = ofKind.filter(({ ratio }) => ratio > MAX_RATIO);
        assert.deepEqual(costly.map(({ seed, ratio }) => ({ seed, ratio })), []);
      }
      assert.ok(nFired > 0 || ONLY_SEED !== undefined, "no fault of this kind has fired");
    });
  }

  test("nothing went wrong in the console but what the server refused", () => {
    const others = harness.problems.filter((problem) => !/^console: Failed to load resource/.test(problem));
    assert.deepEqual(others, []);
  });
});

/** Runs by seed; those that wait longest come first, so that no lane is left with them. */
function drawRuns() {
  const kinds = Object.keys(KINDS);
  const runs = Array.from({ length: N_RUNS }, (_, seed) => {
    const random = new Random(seed);
    const kind = kinds[seed % kinds.length];
    const form = random.pick(FORMS);
    return { seed, kind, form, plan: drawPlan(kind, form.files, random) };
  });
  if (ONLY_SEED !== undefined) return runs.filter(({ seed }) => seed === Number(ONLY_SEED));
  const wait = ({ kind }) => (kind === "stall" ? 2 : kind === "429 with Retry-After" ? 1 : 0);
  return runs.sort((a, b) => wait(b) - wait(a));
}

/** What a load without faults computes, stores and fetches. */
async function measure(server, page, { entry, files }) {
  const publication = server.publish(files);
  const { logits, error } = await page.evaluate(tryLoad, { source: publication.path + entry });
  assert.equal(error, undefined);
  const image = await page.evaluate(digestImage);
  await page.evaluate(clearStorage);
  const bytes = [...publication.sent.keys()].reduce((sum, file) => sum + files.get(file).length, 0);
  assert.ok(publication.sentBytes <= bytes, `${publication.sentBytes} bytes were sent of ${bytes}`);
  return { logits, image, bytes };
}

/** Loads under the plan, then without faults. */
async function carryOut(server, page, { seed, kind, form, plan }, renew) {
  const publication = server.publish(form.files, plan);
  const source = publication.path + form.entry;
  const failures = [];
  const start = performance.now();
  const loadOnce = async () => {
    const { error, logits, info } = await withDeadline(page.evaluate(tryLoad, { source }));
    if (logits !== undefined && logits !== form.expected.logits) failures.push("the numbers are wrong");
    if (info?.storageError !== undefined) failures.push(`it was not stored: ${info.storageError}`);
    return { error };
  };
  let first = { error: { kind: "none" } };
  try {
    first = await loadOnce();
    const { error } = first;
    const isExpected = error?.name === "PesiError" && KINDS[kind].errors?.includes(error.kind);
    if (error !== undefined && !isExpected) failures.push(describeError(error));
    if (hasCutWaiting(publication)) failures.push("it did not wait as long as Retry-After says");
    publication.set();
    const second = await loadOnce();
    if (second.error !== undefined) failures.push(`the next load: ${describeError(second.error)}`);
    else if ((await page.evaluate(digestImage)) !== form.expected.image) failures.push("what is stored is wrong");
    await page.evaluate(clearStorage);
  } catch (error) {
    failures.push(String(error));
    await renew();
  }
  const milliseconds = performance.now() - start;
  const ratio = publication.sentBytes / form.expected.bytes;
  // Where the server behaves oddly all the time, there is no single fault to fire.
  const nFired = plan.faults === undefined ? 1 : publication.fired.length;
  return { seed, kind, first, failures, ratio, milliseconds, nFired };
}

/** Whether a place of the file was asked for again sooner than the server had said. */
function hasCutWaiting({ requests, fired }) {
  const fault = fired.find(({ retryAfter }) => retryAfter !== undefined);
  const refused = requests.find(({ status }) => status === fault?.status);
  if (refused === undefined) return false;
  const again = requests.find(
    ({ file, start, end, time }) =>
      file === refused.file && time > refused.time && start <= fault.at && end >= fault.at,
  );
  return again !== undefined && again.time - refused.time < fault.retryAfter * 1000 - EARLY_MS;
}

function describeError({ name, kind, message, details }) {
  return `${name} ${kind}: ${message} ${JSON.stringify(details)}`;
}

async function withDeadline(promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it has not ended")), DEADLINE_MS);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}
