/**
 * Clients of other makers in a page, unmodified: OpenAI's, AWS's and the Vercel AI SDK. Behind them is a real model that
 * talks; a gpt-oss model of random weights, which does what it is held to; and a worker that plays answers, for what no
 * model says to order.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { unpackedGolden } from "../../tools/golden.mjs";
import { defaultModelPath } from "../../tools/local-page.mjs";
import * as aiSdk from "./clients/ai-sdk.mjs";
import * as aws from "./clients/aws.mjs";
import * as openai from "./clients/openai.mjs";
import { ADDRESS, openPlayed, openReal } from "./clients/pages.mjs";
import { openHarness } from "./support.mjs";

describe("clients in a page", () => {
  let harness;
  const pages = {};

  before(async () => {
    harness = await openHarness({ models: [unpackedGolden] });
    pages.talk = await openReal(harness, defaultModelPath);
    pages.demands = await openReal(harness, "/models/a3-realvocab/");
    pages.played = await openPlayed(harness);
    harness.requests.length = 0;
  });

  after(() => harness?.close());

  for (const { testTalk, testDemands, testPlayed } of [openai, aws, aiSdk]) {
    testTalk(pages);
    testDemands(pages);
    testPlayed(pages);
  }

  test("nothing was sent anywhere, and nothing went wrong in the console", () => {
    const own = [ADDRESS, "/aws/", "/ai-sdk/", "/played", "/pesi_templates_bg.wasm", "/pesi_grammars_bg.wasm"];
    const others = harness.requests.filter((url) => !own.some((part) => url.includes(part)));
    assert.deepEqual(others, []);
    assert.deepEqual(harness.problems, []);
  });
});
