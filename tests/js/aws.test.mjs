/** AWS's own clients, unmodified, with the handlers of `pesi/aws`. */
import assert from "node:assert/strict";
import test from "node:test";

import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import {
  InvokeEndpointCommand,
  InvokeEndpointWithResponseStreamCommand,
  SageMakerRuntimeClient,
} from "@aws-sdk/client-sagemaker-runtime";

import { bedrockHandler, sagemakerHandler } from "../../dist/aws/index.js";
import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker, call, say, think } from "./answering-worker.mjs";
import { HARMONY } from "./scripted-worker.mjs";

const modelId = "openai.gpt-oss-20b-1:0";
const messages = [{ role: "user", content: [{ text: "Hi" }] }];
const WEATHER = { name: "weather", description: "Tells it.", inputSchema: { json: { type: "object" } }, strict: true };
const toolConfig = { tools: [{ toolSpec: WEATHER }] };

function start(Client, handler, answers) {
  const worker = new AnsweringWorker(answers);
  const model = new Model(new Connection(worker), HARMONY);
  const credentials = { accessKeyId: "none", secretAccessKey: "none" };
  const requestHandler = handler({ [modelId]: model, "openai.gpt-oss-120b-1:0": model, oss: model });
  return { worker, model, client: new Client({ region: "us-west-2", credentials, requestHandler }) };
}

const bedrock = (...answers) => start(BedrockRuntimeClient, bedrockHandler, answers);
const sagemaker = (...answers) => start(SageMakerRuntimeClient, sagemakerHandler, answers);

async function collect(stream) {
  const all = [];
  for await (const each of stream) all.push(each);
  return all;
}

const utf8 = new TextDecoder();

test("Converse: what was thought and said, why it ended, what it took", async () => {
  const { client } = bedrock([think("Hm."), say("Hel", "lo")]);
  const answer = await client.send(new ConverseCommand({ modelId, messages }));
  assert.deepEqual(answer.output.message, {
    role: "assistant",
    content: [{ reasoningContent: { reasoningText: { text: "Hm." } } }, { text: "Hello" }],
  });
  assert.equal(answer.stopReason, "end_turn");
  assert.deepEqual(answer.usage, { inputTokens: 7, outputTokens: 3, totalTokens: 10, cacheReadInputTokens: 3 });
  assert.ok(answer.metrics.latencyMs >= 0);
});

test("Converse: settings reach the engine under its names", async () => {
  const { worker, client } = bedrock([say("{}")]);
  const schema = { type: "object", properties: {} };
  const jsonSchema = { schema: JSON.stringify(schema), name: "place" };
  await client.send(
    new ConverseCommand({
      modelId: "openai.gpt-oss-120b-1:0",
      system: [{ text: "Be brief." }, { cachePoint: { type: "default" } }],
      messages,
      inferenceConfig: { maxTokens: 9, temperature: 0, topP: 0.5, stopSequences: ["END"] },
      additionalModelRequestFields: { seed: 7 },
      toolConfig: { ...toolConfig, toolChoice: { tool: { name: "weather" } } },
      outputConfig: {
        effort: "low",
        textFormat: { type: "json_schema", structure: { jsonSchema } },
      },
      requestMetadata: { a: "b" },
    }),
  );
  const { input, options } = (await worker.request("generate")).params;
  assert.deepEqual(input.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
  ]);
  assert.equal(input.options.reasoningEffort, "low");
  assert.equal(input.options.responseFormat.name, "place");
  assert.deepEqual(options, {
    temperature: 0,
    topP: 0.5,
    seed: 7,
    maxTokens: 9,
    stop: ["END"],
    constraint: { kind: "json_schema", value: JSON.stringify(schema) },
    tools: [{ name: "weather", parameters: '{"type":"object"}', strict: true }],
    toolChoice: { name: "weather" },
  });
});

test("Converse: a tool is called, and its result sent back", async () => {
  const { worker, client } = bedrock([think("Rome?"), call("weather", '{"city":', '"Rome"}')], [say("Sunny.")]);
  const first = await client.send(new ConverseCommand({ modelId, messages, toolConfig }));
  assert.equal(first.stopReason, "tool_use");
  const { message } = first.output;
  const { toolUse } = message.content[1];
  assert.deepEqual([toolUse.name, toolUse.input], ["weather", { city: "Rome" }]);
  const { toolUseId } = toolUse;
  const results = [{ json: { sky: "clear" } }, { text: "!" }];
  const content = [{ toolResult: { toolUseId, content: results } }, { text: "So?" }];
  const conversation = [...messages, message, { role: "user", content }];
  const second = await client.send(new ConverseCommand({ modelId, messages: conversation, toolConfig }));
  assert.equal(second.output.message.content[0].text, "Sunny.");
  const { input } = (await worker.request("generate", 1)).params;
  const called = { name: "weather", arguments: '{"city":"Rome"}' };
  assert.deepEqual(input.messages.slice(1), [
    {
      role: "assistant",
      content: null,
      reasoning_content: "Rome?",
      tool_calls: [{ id: toolUseId, type: "function", function: called }],
    },
    { role: "tool", tool_call_id: toolUseId, content: '{"sky":"clear"}\n!' },
    { role: "user", content: "So?" },
  ]);
});

test("Converse: a result that is an error says so", async () => {
  const { worker, client } = bedrock([say("x")]);
  const toolUse = { toolUseId: "a", name: "weather", input: {} };
  const toolResult = { toolUseId: "a", content: [{ text: "no net" }], status: "error" };
  const conversation = [
    ...messages,
    { role: "assistant", content: [{ text: "Let me see." }, { toolUse }] },
    { role: "user", content: [{ toolResult }] },
  ];
  await client.send(new ConverseCommand({ modelId, messages: conversation, toolConfig }));
  const { input } = (await worker.request("generate")).params;
  assert.equal(input.messages[1].content, "Let me see.");
  assert.equal(input.messages[2].content, "Error: no net");
});

test("ConverseStream: events in their order, block by block", async () => {
  const { client } = bedrock([think("Hm", "."), say("Hel", "lo"), call("weather", '{"city":', '"Rome"}')]);
  const { stream } = await client.send(new ConverseStreamCommand({ modelId, messages, toolConfig }));
  const events = await collect(stream);
  const { toolUseId } = events.find(({ contentBlockStart }) => contentBlockStart).contentBlockStart.start.toolUse;
  const delta = (contentBlockIndex, delta) => ({ contentBlockDelta: { delta, contentBlockIndex } });
  const stop = (contentBlockIndex) => ({ contentBlockStop: { contentBlockIndex } });
  const { metadata } = events.pop();
  assert.deepEqual(events, [
    { messageStart: { role: "assistant" } },
    delta(0, { reasoningContent: { text: "Hm" } }),
    delta(0, { reasoningContent: { text: "." } }),
    stop(0),
    delta(1, { text: "Hel" }),
    delta(1, { text: "lo" }),
    stop(1),
    { contentBlockStart: { start: { toolUse: { toolUseId, name: "weather" } }, contentBlockIndex: 2 } },
    delta(2, { toolUse: { input: '{"city":' } }),
    delta(2, { toolUse: { input: '"Rome"}' } }),
    stop(2),
    { messageStop: { stopReason: "tool_use" } },
  ]);
  assert.equal(metadata.usage.totalTokens, 13);
});

test("an answer cut short says so, and a call that is no JSON", async () => {
  const { client } = bedrock({ pieces: [say("Hel")], finishReason: "length" }, [call("weather", "{")]);
  assert.equal((await client.send(new ConverseCommand({ modelId, messages }))).stopReason, "max_tokens");
  const broken = await client.send(new ConverseCommand({ modelId, messages, toolConfig }));
  assert.deepEqual([broken.stopReason, broken.output.message.content], ["malformed_tool_use", []]);
});

test("InvokeModel: the body is that of chat completions, whole and streamed", async () => {
  const { client } = bedrock([say("Hello")], [say("Hé", "llo")]);
  const body = JSON.stringify({ messages: [{ role: "user", content: "Hi" }], max_completion_tokens: 5 });
  const whole = await client.send(new InvokeModelCommand({ modelId, body, contentType: "application/json" }));
  assert.equal(whole.contentType, "application/json");
  assert.equal(JSON.parse(utf8.decode(whole.body)).choices[0].message.content, "Hello");
  const streamed = await client.send(new InvokeModelWithResponseStreamCommand({ modelId, body }));
  assert.equal(streamed.contentType, "application/json");
  const chunks = (await collect(streamed.body)).map(({ chunk }) => JSON.parse(utf8.decode(chunk.bytes)));
  assert.deepEqual(chunks.map(({ choices }) => choices[0].delta.content), ["", "Hé", "llo", undefined]);
});

test("Bedrock's errors are its own, and nothing is asked twice that would fail again", async () => {
  const failing = (kind) => ({ pieces: [], error: { kind, message: kind } });
  const { worker, client } = bedrock(failing("context_exceeded"), failing("gpu"));
  const converse = (params) => client.send(new ConverseCommand({ modelId, messages, ...params }));
  const named = (name, status) => (error) => error.name === name && error.$metadata.httpStatusCode === status;
  await assert.rejects(converse({ modelId: "other" }), named("ResourceNotFoundException", 404));
  await assert.rejects(converse(), named("ValidationException", 400));
  await assert.rejects(converse(), named("ModelErrorException", 424));
  assert.equal(worker.posted.filter(({ method }) => method === "generate").length, 2);
  const image = [{ role: "user", content: [{ image: { format: "png", source: { bytes: new Uint8Array(1) } } }] }];
  for (const [params, place] of [
    [{ guardrailConfig: { guardrailIdentifier: "a", guardrailVersion: "1" } }, "guardrailConfig"],
    [{ messages: image }, "messages[0].content[0].image"],
    [{ additionalModelRequestFields: { audio: {} } }, "audio"],
    [{ inferenceConfig: { temperature: 3 } }, "temperature"],
  ]) {
    await assert.rejects(converse(params), (error) => {
      return named("ValidationException", 400)(error) && error.message.includes(place);
    });
  }
});

test("a failure within a stream is thrown by it", async () => {
  const failing = { pieces: [say("Hel")], error: { kind: "device_lost", message: "The device was lost" } };
  const { client } = bedrock(failing);
  const { stream } = await client.send(new ConverseStreamCommand({ modelId, messages }));
  await assert.rejects(collect(stream), { name: "ServiceUnavailableException", message: "The device was lost" });
});

test("aborting reaches the model, before the answer and within it", async () => {
  const slow = { pieces: [say("a", "b", "c", "d")], wait: 20 };
  const whole = bedrock(slow);
  const command = new ConverseCommand({ modelId, messages });
  await assert.rejects(whole.client.send(command, { abortSignal: AbortSignal.timeout(30) }), { name: "AbortError" });

  const streamed = bedrock(slow);
  const controller = new AbortController();
  const { signal: abortSignal } = controller;
  const { stream } = await streamed.client.send(new ConverseStreamCommand({ modelId, messages }), { abortSignal });
  await assert.rejects(
    async () => {
      for await (const { contentBlockDelta } of stream) if (contentBlockDelta) controller.abort();
    },
    { name: "AbortError" },
  );
  for (const { worker } of [whole, streamed]) assert.ok(worker.posted.some(({ type }) => type === "cancel"));
});

test("SageMaker: endpoints take OpenAI's bodies, whole and streamed", async () => {
  const { client } = sagemaker([say("Hello")], [say("Hel", "lo")], [say("Hi")]);
  const invoke = (body) => {
    return client.send(new InvokeEndpointCommand({ EndpointName: "oss", Body: JSON.stringify(body) }));
  };
  const chat = { messages: [{ role: "user", content: "Hi" }] };
  const whole = await invoke(chat);
  assert.equal(whole.ContentType, "application/json");
  assert.equal(JSON.parse(utf8.decode(whole.Body)).choices[0].message.content, "Hello");
  const Body = JSON.stringify(chat);
  const streamed = await client.send(new InvokeEndpointWithResponseStreamCommand({ EndpointName: "oss", Body }));
  assert.match(streamed.ContentType, /^text\/event-stream/);
  const text = (await collect(streamed.Body)).map(({ PayloadPart }) => utf8.decode(PayloadPart.Bytes)).join("");
  const lines = text.trimEnd().split("\n\n");
  assert.equal(lines.pop(), "data: [DONE]");
  const deltas = lines.map((line) => JSON.parse(line.slice("data: ".length)).choices[0].delta.content);
  assert.deepEqual(deltas, ["", "Hel", "lo", undefined]);
  assert.equal(JSON.parse(utf8.decode((await invoke({ input: "Hi" })).Body)).output_text, "Hi");
});

test("SageMaker: errors are those of a container", async () => {
  const { client } = sagemaker();
  const invoke = (EndpointName, body) => {
    return client.send(new InvokeEndpointCommand({ EndpointName, Body: JSON.stringify(body) }));
  };
  await assert.rejects(invoke("oss", { messages: [], audio: {} }), (error) => {
    assert.deepEqual([error.name, error.OriginalStatusCode], ["ModelError", 400]);
    assert.equal(JSON.parse(error.OriginalMessage).error.param, "audio");
    return true;
  });
  await assert.rejects(invoke("none", { messages: [] }), { name: "ValidationError" });
  await assert.rejects(invoke("oss", {}), { name: "ValidationError" });
});
