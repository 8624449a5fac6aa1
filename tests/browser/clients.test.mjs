/**
 * Clients of other makers in a page, unmodified, with the real model behind them: OpenAI's, AWS's and the Vercel AI
 * SDK. They are bundled as a page would have them; the package is loaded as its files are.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { build } from "esbuild";

import { defaultModelPath } from "../../tools/local-page.mjs";
import { root } from "../../tools/process.mjs";
import { openHarness } from "./support.mjs";

const ADDRESS = "/clients.js";

const ENTRY = `
  export { default as OpenAI } from "openai";
  export { generateText, streamText } from "ai";
  export { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from "@aws-sdk/client-bedrock-runtime";
  export { SageMakerRuntimeClient, InvokeEndpointCommand } from "@aws-sdk/client-sagemaker-runtime";
`;

describe("clients in a page", () => {
  let harness;
  let page;

  before(async () => {
    const { outputFiles } = await build({
      stdin: { contents: ENTRY, resolveDir: root },
      bundle: true,
      format: "esm",
      platform: "browser",
      write: false,
      logLevel: "error",
      define: { "process.env.NODE_ENV": '"production"' },
    });
    harness = await openHarness();
    page = await harness.openBlank();
    const body = outputFiles[0].text;
    await page.route(`**${ADDRESS}`, (route) => route.fulfill({ contentType: "text/javascript", body }));
    await page.evaluate(async ({ clients, model }) => {
      const { load } = await import("/pesi.js");
      globalThis.clients = await import(clients);
      globalThis.model = await load(model, { device: "cpu" });
    }, { clients: ADDRESS, model: defaultModelPath });
    harness.requests.length = 0;
  });

  after(() => harness?.close());

  test("OpenAI's: chat completions, responses and completions, whole and streamed", async () => {
    const told = await page.evaluate(async () => {
      const { OpenAI } = globalThis.clients;
      const client = new OpenAI({ apiKey: "none", fetch: globalThis.model.fetch, dangerouslyAllowBrowser: true });
      const common = { model: "any", temperature: 0 };
      const messages = [{ role: "user", content: "What is the capital of France?" }];
      const whole = await client.chat.completions.create({ ...common, messages, max_tokens: 12 });
      let streamed = "";
      let usage;
      const stream_options = { include_usage: true };
      const params = { ...common, messages, max_tokens: 12, stream: true, stream_options };
      for await (const chunk of await client.chat.completions.create(params)) {
        streamed += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
      const input = messages[0].content;
      const responses = client.responses.stream({ ...common, input, max_output_tokens: 12 });
      const response = await responses.finalResponse();
      const continued = await client.completions.create({ ...common, prompt: "One, two, three,", max_tokens: 3 });
      const aborted = await client.chat.completions
        .create({ ...common, messages }, { signal: AbortSignal.timeout(100) })
        .catch((error) => error.constructor.name);
      return {
        whole: whole.choices[0].message.content,
        usages: [whole.usage.completion_tokens, usage.completion_tokens, response.usage.output_tokens],
        others: [streamed, response.output_text],
        continued: continued.choices[0].text,
        aborted,
      };
    });
    assert.match(told.whole, /Paris/);
    assert.deepEqual(told.others, [told.whole, told.whole]);
    assert.equal(new Set(told.usages).size, 1);
    assert.match(told.continued, /four/);
    assert.equal(told.aborted, "APIUserAbortError");
  });

  test("AWS's: Converse, ConverseStream and InvokeEndpoint", async () => {
    const told = await page.evaluate(async () => {
      const { bedrockHandler, sagemakerHandler } = await import("/aws/index.js");
      const sdk = globalThis.clients;
      const config = { region: "us-west-2", credentials: { accessKeyId: "none", secretAccessKey: "none" } };
      const bedrock = new sdk.BedrockRuntimeClient({ ...config, requestHandler: bedrockHandler(globalThis.model) });
      const question = "What is the capital of France?";
      const command = {
        modelId: "openai.gpt-oss-20b-1:0",
        messages: [{ role: "user", content: [{ text: question }] }],
        inferenceConfig: { temperature: 0, maxTokens: 12 },
      };
      const whole = await bedrock.send(new sdk.ConverseCommand(command));
      let streamed = "";
      const { stream } = await bedrock.send(new sdk.ConverseStreamCommand(command));
      for await (const event of stream) streamed += event.contentBlockDelta?.delta.text ?? "";
      const requestHandler = sagemakerHandler(globalThis.model);
      const sagemaker = new sdk.SageMakerRuntimeClient({ ...config, requestHandler });
      const messages = [{ role: "user", content: question }];
      const Body = JSON.stringify({ messages, temperature: 0, max_tokens: 12 });
      const invoked = await sagemaker.send(new sdk.InvokeEndpointCommand({ EndpointName: "oss", Body }));
      const answer = JSON.parse(new TextDecoder().decode(invoked.Body));
      return [whole.output.message.content[0].text, streamed, answer.choices[0].message.content];
    });
    assert.match(told[0], /Paris/);
    assert.deepEqual(told, [told[0], told[0], told[0]]);
  });

  test("the Vercel AI SDK: text, whole and streamed", async () => {
    const told = await page.evaluate(async () => {
      const { languageModel } = await import("/ai-sdk/index.js");
      const { generateText, streamText } = globalThis.clients;
      const model = languageModel(globalThis.model);
      const prompt = "What is the capital of France?";
      const params = { model, prompt, temperature: 0, maxOutputTokens: 12 };
      const { text, usage } = await generateText(params);
      let streamed = "";
      for await (const piece of streamText(params).textStream) streamed += piece;
      return { text, streamed, used: usage.outputTokens };
    });
    assert.match(told.text, /Paris/);
    assert.equal(told.streamed, told.text);
    assert.equal(told.used > 0, true);
  });

  test("nothing was sent anywhere, and nothing went wrong in the console", () => {
    const own = [ADDRESS, "/aws/", "/ai-sdk/"];
    const others = harness.requests.filter((url) => !own.some((part) => url.includes(part)));
    assert.deepEqual(others, []);
    assert.deepEqual(harness.problems, []);
  });
});
