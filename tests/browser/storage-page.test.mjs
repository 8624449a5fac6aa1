/**
 * How the demo page deals with stored models, interrupted downloads, forecasts and a full disk: with the package as it
 * is, and a worker whose answers each test gives.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { openHarness } from "./support.mjs";

const WORKER = fs.readFileSync(new URL("played-worker.mjs", import.meta.url), "utf8");
const GPT_OSS = "openai/gpt-oss-20b";

const DESKTOP = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
const LOOKS = [
  ["desktop-light", { ...DESKTOP, colorScheme: "light" }],
  ["desktop-dark", { ...DESKTOP, colorScheme: "dark" }],
  ["phone-light", { ...PHONE, colorScheme: "light" }],
  ["phone-dark", { ...PHONE, colorScheme: "dark" }],
];

const PARTIAL = {
  id: GPT_OSS,
  precision: "compact",
  name: "gpt-oss-20b",
  architecture: "gpt-oss",
  parameters: 20_914_757_184,
  complete: false,
  storedBytes: 5_900_000_000,
  totalBytes: 13_200_000_000,
  downloadedBytes: 6_205_140_000,
  downloadBytes: 13_789_200_000,
  verified: false,
  fromFiles: false,
  createdAt: Date.UTC(2026, 10, 23, 12),
};

const WHOLE = {
  id: "https://models.example/tiny/",
  precision: "compact",
  architecture: "llama",
  parameters: 134_515_008,
  complete: true,
  storedBytes: 98_400_000,
  totalBytes: 98_400_000,
  downloadedBytes: 98_362_432,
  downloadBytes: 98_362_432,
  verified: true,
  fromFiles: false,
  createdAt: Date.UTC(2026, 10, 24, 12),
};

const OF_FILES = {
  ...WHOLE,
  id: "my-model.gguf@1000-5",
  name: "My model",
  precision: "exact",
  verified: false,
  fromFiles: true,
  createdAt: Date.UTC(2026, 10, 22, 12),
};

const FORECAST = {
  id: GPT_OSS,
  architecture: "gpt-oss",
  name: "gpt-oss-20b",
  parameters: PARTIAL.parameters,
  fits: true,
  totalBytes: 13_789_200_000,
  storedBytes: 6_205_140_000,
  downloadBytes: 7_584_060_000,
  memory: { weightsBytes: 13_100_000_000, cacheBytes: 201_000_000, scratchBytes: 99_000_000, totalBytes: 13_400_000_000 },
  contextLength: 4096,
  largestContextLength: 131_072,
  tokensPerSecond: 42.4,
  device: "webgpu",
  deviceName: "apple metal-3",
  deviceReason: "This device has a GPU that WebGPU can use.",
};

const MISFIT = {
  ...FORECAST,
  fits: false,
  reason: "The model needs 13.4 GB, and this GPU lets a page have about 13.2 GB.",
  largestContextLength: 2048,
};

const INFO = {
  id: GPT_OSS,
  architecture: "gpt-oss",
  parameters: 1,
  contextLength: 4096,
  vocabularySize: 100,
  device: "cpu",
  deviceName: "CPU",
  deviceReason: "Because.",
  memory: { weightsBytes: 1000, cacheBytes: 1, scratchBytes: 1, totalBytes: 1002, heapBytes: 1 },
  fromStorage: false,
  chatTemplate: true,
  chatFormat: "harmony",
  layers: 2,
  hiddenSize: 8,
};

const result = (value) => [{ result: value }];
const failure = (kind, message = kind, details = {}) => [{ error: { kind, message, details } }];
const progress = (phase, loadedBytes, totalBytes) => ({
  event: { phase, file: "model.safetensors", loadedBytes, totalBytes, bytesPerSecond: 5e7, etaSeconds: 90 },
});
const HANGING = [];

/** A page whose workers are played: `answers` by method, each a list of steps or a function of the parameters. */
async function openPlayed(context) {
  const harness = await openHarness({ context });
  const played = { answers: {}, asked: [] };
  const page = await harness.context.newPage();
  await page.route("**/worker.js", (route) => route.fulfill({ contentType: "text/javascript", body: WORKER }));
  await page.route("**/played", (route) => {
    const { method, params } = route.request().postDataJSON();
    played.asked.push({ method, params });
    const answer = played.answers[method];
    return route.fulfill({ json: typeof answer === "function" ? answer(params) : answer });
  });
  const askedOf = (method) => played.asked.filter((request) => request.method === method).map(({ params }) => params);
  /** The parameters of the nth request for a method, counted from 0, once it is made. */
  const request = async (method, nth = 0) => {
    while (askedOf(method)[nth] === undefined) await page.waitForTimeout(10);
    return askedOf(method)[nth];
  };
  const open = async (answers, query = "") => {
    played.answers = { listModels: result([]), forecast: result(FORECAST), ...answers };
    played.asked.length = 0;
    await page.goto(`${harness.url}/demo/${query}`);
    await page.locator("#choice-0").waitFor();
  };
  const forecastIs = (state) => page.locator(`#forecast[data-state=${state}]`).waitFor();
  return { harness, page, played, askedOf, request, open, forecastIs };
}

/** The words of what matches, as a person reads them: with what is hidden left out. */
const wordsOf = async (page, selector) => (await page.locator(selector).innerText()).replace(/\s+/g, " ").trim();

describe("the page with stored models", () => {
  let harness, page, played, askedOf, request, open, forecastIs;

  before(async () => {
    ({ harness, page, played, askedOf, request, open, forecastIs } = await openPlayed(DESKTOP));
  });

  after(() => harness?.close());
  beforeEach(() => (harness.problems.length = 0));
  afterEach(() => assert.deepEqual(harness.problems, []));

  const chooseGptOss = () => page.getByRole("radio", { name: /gpt-oss-20b/ }).check();
  const labelOf = () => page.locator("#load").innerText();
  const words = (selector) => wordsOf(page, selector);
  const row = (id) => page.locator(`#stored-models > [data-id="${id}"]`);
  const press = (id, action) => row(id).locator(`[data-action=${action}]`).click();
  const openStorage = () => page.locator("#open-storage").click();
  const isFocused = (locator) => locator.evaluate((element) => element === document.activeElement);

  test("says at once what this server's model takes, and of another's only when asked", async () => {
    await open({ forecast: ({ source }) => result({ ...FORECAST, id: source.id, storedBytes: 0, downloadBytes: 98e6 }) });
    await forecastIs("known");
    assert.match(await words("#forecast"), /^Download 98\.0 MB Runs on GPU \(apple metal-3\) Memory 13\.4 GB Speed about 42 tokens\/s$/);
    assert.equal(askedOf("forecast").length, 1);

    await chooseGptOss();
    await forecastIs("offered");
    assert.match(await words("#forecast"), /huggingface\.co.*Check this device$/);
    await page.waitForTimeout(300);
    assert.equal(askedOf("forecast").length, 1);

    await page.locator("#check-device").click();
    await forecastIs("known");
    assert.deepEqual(askedOf("forecast").map(({ source }) => source.id).slice(1), [GPT_OSS]);
    assert.ok(await page.locator(".choice", { has: page.locator(":checked") }).locator("#forecast").isVisible());
    assert.match(await page.locator("#status").textContent(), /^gpt-oss-20b: Download 98\.0 MB, 13\.4 GB of memory on the GPU/);
  });

  test("asks for the device that the address names", async () => {
    await open({}, "?device=cpu");
    await forecastIs("known");
    assert.deepEqual(askedOf("forecast").map(({ device }) => device), ["cpu"]);
  });

  test("a forecast is cancelled by another choice, and never holds up a load", async () => {
    await open({ forecast: HANGING, load: HANGING });
    await forecastIs("checking");
    await page.locator("#choice-files").check();
    assert.equal(await page.locator("#forecast").isVisible(), false);
    await page.locator("#choice-0").check();
    await forecastIs("checking");
    await page.locator("#load").click();
    await page.waitForSelector("body[data-view=loading]");
    await page.locator("#cancel-load").click();
    await page.waitForSelector("body[data-view=picker]");
    await forecastIs("checking");
  });

  test("a forecast that fails is said quietly", async () => {
    await open({ forecast: failure("network", "The server said 503") });
    await forecastIs("failed");
    assert.equal(await words("#forecast"), "What it takes could not be checked: The server said 503");
    assert.equal(await page.locator("#load-error").isVisible(), false);
    assert.equal(await page.locator("#load").isEnabled(), true);
  });

  test("a model that does not fit says why, and loads with the context that would", async () => {
    await open({ forecast: result(MISFIT), load: HANGING });
    await forecastIs("known");
    assert.equal(await page.locator("#forecast").getAttribute("data-fits"), "false");
    assert.match(await words("#forecast-misfit"), /lets a page have about 13\.2 GB\. It would fit with 2,048 tokens .* 4,096\./);
    await page.locator("#load-shorter").click();
    await page.waitForSelector("body[data-view=loading]");
    assert.equal((await request("load")).options.contextLength, 2048);
    await page.locator("#cancel-load").click();

    await open({ forecast: result({ ...MISFIT, largestContextLength: 0, memory: undefined, tokensPerSecond: undefined }) });
    await forecastIs("known");
    assert.equal(await page.locator("#load-shorter").isVisible(), false);
    assert.doesNotMatch(await words("#forecast"), /Memory|Speed|It would/);
  });

  test("an address is asked about once it is written, on this server", async () => {
    await open({ forecast: ({ source }) => result({ ...FORECAST, id: source.id }) });
    await forecastIs("known");
    await page.locator("#choice-url").check();
    await page.locator("#url").click();
    await page.keyboard.type("/models/other/");
    await page.waitForTimeout(300);
    assert.equal(askedOf("forecast").length, 1);
    await page.keyboard.press("Tab");
    await forecastIs("known");
    assert.equal(askedOf("forecast")[1].source.id, `${harness.url}/models/other/`);
    await page.locator("#url").fill("owner/repo");
    await forecastIs("offered");
  });

  test("pressing the button is a click, whatever comes while it is down", async () => {
    await open({ forecast: HANGING, load: HANGING });
    await page.setViewportSize({ width: 1280, height: 2000 });
    await page.locator("#choice-url").check();
    await page.locator("#url").fill("/models/other/");
    const { x, y } = await page.locator("#load").boundingBox();
    await page.mouse.move(x + 20, y + 5);
    // The field loses the focus with this, which settles the address.
    await page.mouse.down();
    await page.waitForTimeout(300);
    await page.mouse.up();
    await page.waitForSelector("body[data-view=loading]");
    await page.locator("#cancel-load").click();
    await forecastIs("checking");
    await page.setViewportSize(DESKTOP.viewport);
  });

  test("an interrupted download is offered to be resumed, with how far it is", async () => {
    await open({ listModels: result([PARTIAL]) });
    const entry = page.locator(".choice", { hasText: "gpt-oss-20b" });
    await entry.locator(".choice-state").filter({ hasText: "Resume: 45% here" }).waitFor();
    assert.equal(await labelOf(), "Load model · 98.4 MB");
    await chooseGptOss();
    assert.equal(await labelOf(), "Resume · 45% here");
    await forecastIs("known");
    assert.match(await words("#forecast"), /^Download 7\.6 GB to go, 6\.2 GB is here/);
    assert.equal(await words("#storage-summary"), "In this browser: 1 interrupted download, 5.9 GB.");
  });

  test("after a load that fails half-way the button says so", async () => {
    await open({ load: [progress("download", 6e9, 13.7e9), { wait: 50 }, ...failure("network", "The connection broke")] });
    await chooseGptOss();
    assert.equal(await labelOf(), "Load model · 13.8 GB");
    played.answers.listModels = result([PARTIAL]);
    await page.locator("#load").click();
    await page.locator("#load-error").filter({ hasText: "The connection broke" }).waitFor();
    await page.locator("#load").filter({ hasText: "Resume · 45% here" }).waitFor();
    assert.ok(await isFocused(page.locator("#load")));
    played.answers.load = [progress("download", 6.3e9, 13.7e9), { wait: 100 }, ...result(INFO)];
    await page.locator("#load").click();
    await page.waitForFunction(() => document.getElementById("progress").position > 0.4);
    await page.waitForSelector("body[data-view=chat]");
  });

  test("picked files that are stored in part are known once they were read", async () => {
    await open({
      listModels: result([{ ...OF_FILES, precision: "compact", complete: false, downloadedBytes: 50e6 }]),
      forecast: result({ ...FORECAST, id: OF_FILES.id }),
    });
    await page.locator("#files").setInputFiles({ name: "my-model.gguf", mimeType: "", buffer: Buffer.alloc(9) });
    await page.locator("#load").filter({ hasText: "Resume · 50% here" }).waitFor();
    await forecastIs("known");
    assert.match(await words("#forecast"), /^Size 13\.8 GB/);
  });

  test("a full disk says how much is needed, and loads without storing", async () => {
    const details = { needed: 13_200_000_000, stored: 5_900_000_000 };
    await open({ load: failure("quota_exceeded", "Storage is full", details) });
    await page.locator("#load").click();
    const error = page.locator("#load-error");
    await error.waitFor();
    assert.match(await error.textContent(), /It takes 13\.2 GB, of which 5\.9 GB is stored\. The browser gives this site /);
    const before = await page.locator("#load-unstored").boundingBox();
    assert.ok(before.y > 0, "the way out is in view");
    played.answers.load = result(INFO);
    await page.locator("#load-unstored").click();
    await page.waitForSelector("body[data-view=chat]");
    assert.deepEqual(askedOf("load").map(({ options }) => options.cache), [true, false]);
    assert.match(await page.locator("#device [data-field=storage]").textContent(), /not in this browser’s storage/);

    await page.locator("#device-button").click();
    played.answers.dispose = result({ freedBytes: 1 });
    await page.locator("#change-model").click();
    await page.waitForSelector("body[data-view=picker]");
    await page.locator("#load").click();
    await page.waitForSelector("body[data-view=chat]");
    assert.equal(askedOf("load").at(-1).options.cache, true);
  });

  test("the sheet lists what is stored, in which state", async () => {
    await open({ listModels: result([PARTIAL, OF_FILES, WHOLE]) });
    await page.locator("#storage-summary").filter({ hasText: "2 models and 1 interrupted download, 6.1 GB" }).waitFor();
    assert.deepEqual(askedOf("listModels"), [{ incomplete: true }]);
    await openStorage();
    const ids = await page.locator("#stored-models > li").evaluateAll((rows) => rows.map(({ dataset }) => dataset.id));
    assert.deepEqual(ids, [WHOLE.id, PARTIAL.id, OF_FILES.id]);
    const actions = async (id) => (await row(id).locator("button:visible").allInnerTexts()).join(" ");
    assert.equal(await actions(WHOLE.id), "Load Verify Remove");
    assert.equal(await actions(PARTIAL.id), "Resume Remove");
    assert.equal(await actions(OF_FILES.id), "Verify Remove");
    assert.match(await row(WHOLE.id).innerText(), /^tiny\s+98\.4 MB\s+https:[^]*llama\s· 135 million weights\s· matches its published SHA-256/);
    assert.match(await row(PARTIAL.id).innerText(), /45% here[^]*6\.2 GB of 13\.8 GB/);
    assert.match(await row(OF_FILES.id).innerText(), /My model[^]*exact\s· from files of yours/);
    assert.match(await words("#storage-space"), /^This site uses .* of the .* that the browser gives it\./);
    await page.keyboard.press("Escape");
    assert.ok(await isFocused(page.locator("#open-storage")));
  });

  test("an interrupted download is resumed from the sheet, in the precision it has", async () => {
    await open({ listModels: result([{ ...PARTIAL, precision: "exact" }, WHOLE]), load: HANGING });
    await openStorage();
    await press(PARTIAL.id, "load");
    await page.waitForSelector("body[data-view=loading]");
    const { source, options } = await request("load");
    assert.deepEqual([source.id, options.precision], [GPT_OSS, "exact"]);
    await page.locator("#cancel-load").click();
    await page.waitForSelector("body[data-view=picker]");
    assert.ok(await page.getByRole("radio", { name: /gpt-oss-20b/ }).isChecked());

    await openStorage();
    await press(WHOLE.id, "load");
    await page.waitForSelector("body[data-view=loading]");
    assert.equal((await request("load", 1)).source.id, WHOLE.id);
    assert.equal(await page.locator("#url").inputValue(), WHOLE.id);
  });

  test("verifying shows how far it is, can be cancelled, and says what it found", async () => {
    const verification = { id: WHOLE.id, ok: true, checkedBytes: 98_400_000, damagedPieces: 0, repairedPieces: 0 };
    await open({ listModels: result([WHOLE]), verifyModel: [progress("verify", 49_200_000, 98_400_000)] });
    await openStorage();
    await press(WHOLE.id, "verify");
    const note = row(WHOLE.id).locator(".stored-note");
    await note.filter({ hasText: "Checking: 49.2 MB of 98.4 MB" }).waitFor();
    assert.equal(await row(WHOLE.id).locator("progress").evaluate(({ position }) => position), 0.5);
    assert.ok(await isFocused(row(WHOLE.id).locator("[data-action=cancel]")));
    await page.keyboard.press("Enter");
    await note.filter({ hasText: "Checking was cancelled." }).waitFor();
    assert.ok(await isFocused(row(WHOLE.id).locator("[data-action=verify]")));

    for (const [answer, said] of [
      [result(verification), "Nothing is damaged: 98.4 MB checked."],
      [result({ ...verification, damagedPieces: 1, repairedPieces: 1 }), "Sound again: 1 damaged piece fetched anew."],
      [result({ ...verification, ok: false, damagedPieces: 3, repairedPieces: 1 }), "There are 3 damaged pieces, 1 of them"],
      [failure("storage", "Another tab is loading it"), "Another tab is loading it"],
    ]) {
      played.answers.verifyModel = answer;
      await press(WHOLE.id, "verify");
      await note.filter({ hasText: said }).waitFor();
      assert.match(await page.locator("#storage-status").textContent(), new RegExp(`^${said}`));
    }
    assert.deepEqual(askedOf("verifyModel")[0], { id: WHOLE.id, precision: "compact", repair: true });
  });

  test("closing the sheet ends checking", async () => {
    await open({ listModels: result([WHOLE]), verifyModel: HANGING });
    await openStorage();
    await press(WHOLE.id, "verify");
    await page.keyboard.press("Escape");
    await page.locator(`#stored-models > [data-mode=idle]`).waitFor({ state: "attached" });
  });

  test("removing asks first, keeps the focus, and tells what it freed", async () => {
    await open({ listModels: result([WHOLE, PARTIAL]), removeModel: failure("storage", "Another tab is loading it") });
    await openStorage();
    await press(WHOLE.id, "remove");
    assert.match(await row(WHOLE.id).innerText(), /Remove 98\.4 MB\? It has to be downloaded again/);
    assert.ok(await isFocused(row(WHOLE.id).locator("[data-action=keep]")));
    await page.keyboard.press("Enter");
    assert.ok(await isFocused(row(WHOLE.id).locator("[data-action=remove]")));
    assert.deepEqual(askedOf("removeModel"), []);

    await press(WHOLE.id, "remove");
    await press(WHOLE.id, "confirm");
    await row(WHOLE.id).locator(".stored-note").filter({ hasText: "Another tab is loading it" }).waitFor();
    played.answers.removeModel = result({ removedBytes: 98_400_000 });
    played.answers.listModels = result([PARTIAL]);
    await press(WHOLE.id, "remove");
    await press(WHOLE.id, "confirm");
    await row(WHOLE.id).waitFor({ state: "detached" });
    assert.deepEqual(askedOf("removeModel")[1], { id: WHOLE.id, precision: "compact" });
    assert.match(await page.locator("#storage-status").textContent(), /was removed: 98\.4 MB/);
    assert.ok(await isFocused(row(PARTIAL.id).locator("[data-action=load]")));

    played.answers.listModels = result([]);
    await press(PARTIAL.id, "remove");
    await press(PARTIAL.id, "confirm");
    await page.locator("#storage-empty").waitFor();
    assert.ok(await isFocused(page.locator("#storage .sheet-head button")));
    await page.keyboard.press("Escape");
    assert.equal(await words("#storage-summary"), "");
  });

  test("without browser storage the page works, and the sheet says why it is empty", async () => {
    await open({ listModels: failure("storage", "This browser has no storage for files"), load: result(INFO) });
    await forecastIs("known");
    await openStorage();
    assert.equal(await words("#storage-empty"), "This browser has no storage for files");
    await page.keyboard.press("Escape");
    await page.locator("#load").click();
    await page.waitForSelector("body[data-view=chat]");
  });
});

describe("the looks of what the page says about storage", () => {
  for (const [name, context] of LOOKS) {
    test(name, async () => {
      const { harness, page, played, open, forecastIs } = await openPlayed(context);
      try {
        const shoot = async (what) => {
          await harness.screenshot(page, `storage-${name}-${what}`);
          const [content, screen] = await page.evaluate(() => [
            document.documentElement.scrollWidth,
            document.documentElement.clientWidth,
          ]);
          assert.ok(content <= screen, `${what}: ${content} px of content on ${screen} px`);
        };
        const forecast = (found) => ({ source }) => result({ ...found, id: source.id });
        await open({ listModels: result([PARTIAL, OF_FILES, WHOLE]), forecast: forecast(FORECAST) });
        await forecastIs("known");
        await page.getByRole("radio", { name: /gpt-oss-20b/ }).check();
        await forecastIs("known");
        await shoot("resume");
        await page.getByRole("radio", { name: /gpt-oss-120b/ }).check();
        await forecastIs("offered");
        await shoot("offered");
        played.answers.forecast = forecast({ ...MISFIT, storedBytes: 0, downloadBytes: MISFIT.totalBytes });
        await page.locator("#check-device").click();
        await forecastIs("known");
        await shoot("misfit");
        await page.locator("#open-storage").click();
        await shoot("sheet");
        played.answers.verifyModel = [progress("verify", 49_200_000, 98_400_000)];
        await page.locator("[data-action=verify]:visible").first().click();
        await page.locator(".stored-note:visible").waitFor();
        await page.locator(`[data-precision=exact] [data-action=remove]`).click();
        await shoot("sheet-at-work");
        await page.keyboard.press("Escape");
        played.answers.load = failure("quota_exceeded", "full", { needed: 13_200_000_000, stored: 5_900_000_000 });
        await page.locator("#load").click();
        await page.locator("#load-unstored").waitFor();
        await forecastIs("offered");
        await shoot("full");
        assert.deepEqual(harness.problems, []);
      } finally {
        await harness.close();
      }
    });
  }
});
