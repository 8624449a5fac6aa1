/**
 * Pages with other makers' clients, bundled as a page would have them, above the package as it is: with a real model,
 * or with answers that a test gives.
 */
import fs from "node:fs";

import { build } from "esbuild";

import { root } from "../../../tools/process.mjs";
import { tokensOf } from "../../js/answering-worker.mjs";
import { HARMONY, generationResult } from "../../js/scripted-worker.mjs";

/** Where pages have the clients. */
export const ADDRESS = "/clients.js";

// A page under a Content-Security-Policy without `unsafe-eval` tells zod so.
const ENTRY = `
  import * as z from "zod";
  z.config({ jitless: true });
  export { z };
  export { default as OpenAI } from "openai";
  export { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
  export { Output, generateText, stepCountIs, streamText, tool } from "ai";
  export {
    BedrockRuntimeClient,
    ConverseCommand,
    ConverseStreamCommand,
    InvokeModelCommand,
    InvokeModelWithResponseStreamCommand,
  } from "@aws-sdk/client-bedrock-runtime";
  export {
    InvokeEndpointCommand,
    InvokeEndpointWithResponseStreamCommand,
    SageMakerRuntimeClient,
  } from "@aws-sdk/client-sagemaker-runtime";
`;

const { outputFiles } = await build({
  stdin: { contents: ENTRY, resolveDir: root },
  bundle: true,
  format: "esm",
  platform: "browser",
  write: false,
  logLevel: "error",
  define: { "process.env.NODE_ENV": '"production"' },
});
const BUNDLE = outputFiles[0].text;

const PLAYED_WORKER = fs.readFileSync(new URL("../played-worker.mjs", import.meta.url), "utf8");

/** Opens a page with the clients and a model on the CPU. */
export async function openReal(harness, source) {
  const page = await openWithClients(harness);
  await page.evaluate(setUp, { clients: ADDRESS, source, device: "cpu" });
  return page;
}

/**
 * Opens a page with the clients and a model that answers in harmony what a test says.
 *
 * @returns {Promise<{page: object, answers: object[][], asked: object[]}>} `answers`: pieces of the answers to come,
 *   see tests/js/answering-worker.mjs; `asked`: the parameters of the generations so far. A test empties both at its
 *   start.
 */
export async function openPlayed(harness) {
  const page = await openWithClients(harness);
  const [answers, asked] = [[], []];
  await page.route("**/worker.js", (route) => route.fulfill({ contentType: "text/javascript", body: PLAYED_WORKER }));
  await page.route("**/played", (route) => {
    const { method, params } = route.request().postDataJSON();
    if (method === "load") return route.fulfill({ json: [{ result: HARMONY }] });
    asked.push(params);
    const tokens = tokensOf(answers.shift());
    const events = tokens.map((token) => ({ event: [token] }));
    return route.fulfill({ json: [...events, { result: generationResult(tokens.length) }] });
  });
  await page.evaluate(setUp, { clients: ADDRESS, source: "https://models.example/tiny.gguf", device: "cpu" });
  return { page, answers, asked };
}

async function openWithClients(harness) {
  const page = await harness.openBlank();
  await page.route(`**${ADDRESS}`, (route) => route.fulfill({ contentType: "text/javascript", body: BUNDLE }));
  return page;
}

/** Loads the model, and has the clients at hand under names of the page. Runs in the page. */
async function setUp({ clients, source, device }) {
  const { load } = await import("/pesi.js");
  const { bedrockHandler, sagemakerHandler } = await import("/aws/index.js");
  const { languageModel } = await import("/ai-sdk/index.js");
  const sdk = await import(clients);
  const model = await load(source, { device });
  const aws = { region: "us-west-2", credentials: { accessKeyId: "none", secretAccessKey: "none" } };
  const utf8 = new TextDecoder();
  Object.assign(globalThis, {
    sdk,
    model,
    languageModel: languageModel(model),
    openai: new sdk.OpenAI({ apiKey: "none", fetch: model.fetch, dangerouslyAllowBrowser: true }),
    bedrock: new sdk.BedrockRuntimeClient({ ...aws, requestHandler: bedrockHandler(model) }),
    sagemaker: new sdk.SageMakerRuntimeClient({ ...aws, requestHandler: sagemakerHandler(model) }),
    /** All of what a stream gives. */
    collect: async (stream) => {
      const all = [];
      for await (const each of stream) all.push(each);
      return all;
    },
    /** The JSON that bytes are. */
    parsed: (bytes) => JSON.parse(utf8.decode(bytes)),
    utf8,
    /** Biases of tokens by their texts, which take a model of random weights through harmony. */
    biases: async (byName) => {
      const entries = Object.entries(byName).map(async ([name, bias]) => [(await model.encode(name))[0], bias]);
      return Object.fromEntries(await Promise.all(entries));
    },
  });
}
