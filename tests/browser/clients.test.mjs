/**
 * Clients of other makers in a page, unmodified, with the real model behind them: OpenAI's, AWS's and the Vercel AI
 * SDK. They are bundled as a page would have them; the package is loaded as its files are.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { build } from "esbuild";

import { unpackedGolden } from "../../tools/golden.mjs";
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

/** Opens a page with the clients and a model on the CPU. */
async function openClients(harness, source) {
  const page = await harness.openBlank();
  await page.route(`**${ADDRESS}`, (route) => route.fulfill({ contentType: "text/javascript", body: BUNDLE }));
  await page.evaluate(async ({ clients, source }) => {
    const { load } = await import("/pesi.js");
    globalThis.clients = await import(clients);
    globalThis.model = await load(source, { device: "cpu" });
  }, { clients: ADDRESS, source });
  harness.requests.length = 0;
  return page;
}

describe("clients in a page", () => {
  let harness;
  let page;

  before(async () => {
    harness = await openHarness();
    page = await openClients(harness, defaultModelPath);
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
      const aborted = await client.completions
        .create({ ...common, prompt: "Once upon a time", max_tokens: 1000 }, { signal: AbortSignal.timeout(50) })
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

  test("OpenAI's: an answer by a schema, biases and the likeliest tokens", async () => {
    const told = await page.evaluate(async () => {
      const { OpenAI } = globalThis.clients;
      const client = new OpenAI({ apiKey: "none", fetch: globalThis.model.fetch, dangerouslyAllowBrowser: true });
      const common = { model: "any", temperature: 0, messages: [{ role: "user", content: "Is Rome in Italy?" }] };
      const parameters = {
        type: "object",
        properties: { city: { enum: ["Rome", "Paris"] }, sure: { type: "boolean" } },
        required: ["city", "sure"],
        additionalProperties: false,
      };
      const response_format = { type: "json_schema", json_schema: { name: "place", schema: parameters, strict: true } };
      const structured = await client.chat.completions.parse({ ...common, response_format, max_tokens: 40 });
      const likely = { logprobs: true, top_logprobs: 3, max_tokens: 1 };
      const first = await client.chat.completions.create({ ...common, ...likely });
      const [token] = first.choices[0].logprobs.content;
      const [id] = await globalThis.model.encode(token.token);
      const logit_bias = { [id]: -100 };
      const biased = await client.chat.completions.create({ ...common, ...likely, logit_bias });
      return {
        parsed: structured.choices[0].message.parsed,
        top: token.top_logprobs.map((each) => each.token),
        token: token.token,
        instead: biased.choices[0].message.content,
      };
    });
    assert.match(told.parsed.city, /^(Rome|Paris)$/);
    assert.equal(typeof told.parsed.sure, "boolean");
    assert.equal(told.top.length, 3);
    assert.equal(told.top[0], told.token);
    assert.notEqual(told.instead, told.token);
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

/** What ends a message in harmony: a model with random weights would otherwise think until its context is full. */
const END = 200_007;

describe("clients with a gpt-oss model of random weights, which does what it is held to", () => {
  let harness;
  let page;

  before(async () => {
    harness = await openHarness({ models: [unpackedGolden] });
    page = await openClients(harness, "/models/a3-realvocab/");
  });

  after(() => harness?.close());

  test("it calls the tool that OpenAI's client demands, by its schema, and takes the result", async () => {
    const told = await page.evaluate(async (end) => {
      const { OpenAI } = globalThis.clients;
      const client = new OpenAI({ apiKey: "none", fetch: globalThis.model.fetch, dangerouslyAllowBrowser: true });
      const common = { model: "any", temperature: 0, logit_bias: { [end]: 100 }, max_tokens: 200 };
      const parameters = {
        type: "object",
        properties: { city: { enum: ["Rome", "Paris"] } },
        required: ["city"],
        additionalProperties: false,
      };
      const tools = [{ type: "function", function: { name: "weather", parameters, strict: true } }];
      const messages = [{ role: "user", content: "How is it in Rome?" }];
      const runner = client.chat.completions.stream({ ...common, messages, tools, tool_choice: "required" });
      const { choices } = await runner.finalChatCompletion();
      const [{ message, finish_reason }] = choices;
      const [{ id, function: called }] = message.tool_calls;
      const named = { type: "function", function: { name: "weather" } };
      const conversation = [...messages, message, { role: "tool", tool_call_id: id, content: "sun" }];
      const again = await client.chat.completions.create({
        ...common,
        messages: conversation,
        tools,
        tool_choice: named,
      });
      const response_format = { type: "json_schema", json_schema: { name: "place", schema: parameters, strict: true } };
      const structured = await client.chat.completions.parse({ ...common, messages, response_format });
      return {
        finish: [finish_reason, again.choices[0].finish_reason],
        calls: [called, again.choices[0].message.tool_calls[0].function],
        parsed: structured.choices[0].message.parsed,
      };
    }, END);
    assert.deepEqual(told.finish, ["tool_calls", "tool_calls"]);
    for (const { name, arguments: written } of told.calls) {
      assert.equal(name, "weather");
      assert.match(JSON.parse(written).city, /^(Rome|Paris)$/);
    }
    assert.match(told.parsed.city, /^(Rome|Paris)$/);
  });

  test("it does so for AWS's client", async () => {
    const told = await page.evaluate(async (end) => {
      const { bedrockHandler } = await import("/aws/index.js");
      const { BedrockRuntimeClient, ConverseCommand } = globalThis.clients;
      const client = new BedrockRuntimeClient({
        region: "us-west-2",
        credentials: { accessKeyId: "none", secretAccessKey: "none" },
        requestHandler: bedrockHandler(globalThis.model),
      });
      const properties = { ok: { type: "boolean" } };
      const json = { type: "object", properties, required: ["ok"], additionalProperties: false };
      const toolSpec = { name: "check", inputSchema: { json }, strict: true };
      const { stopReason, output } = await client.send(
        new ConverseCommand({
          modelId: "openai.gpt-oss-20b-1:0",
          messages: [{ role: "user", content: [{ text: "Is it?" }] }],
          inferenceConfig: { temperature: 0, maxTokens: 200 },
          additionalModelRequestFields: { logit_bias: { [end]: 100 } },
          toolConfig: { tools: [{ toolSpec }], toolChoice: { any: {} } },
        }),
      );
      return { stopReason, used: output.message.content.at(-1).toolUse };
    }, END);
    assert.equal(told.stopReason, "tool_use");
    assert.equal(told.used.name, "check");
    assert.equal(typeof told.used.input.ok, "boolean");
  });

  test("nothing went wrong in the console", () => assert.deepEqual(harness.problems, []));
});
