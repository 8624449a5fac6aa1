/** The Vercel AI SDK, unmodified, with models of `pesi/ai-sdk`. */
import assert from "node:assert/strict";
import test from "node:test";

import { Output, createProviderRegistry, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { createPesi, languageModel } from "../../dist/ai-sdk/index.js";
import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker, call, say, think } from "./answering-worker.mjs";
import { HARMONY, pesiError } from "./scripted-worker.mjs";

const prompt = "Hi";

function start(...answers) {
  const worker = new AnsweringWorker(answers);
  return { worker, model: languageModel(new Model(new Connection(worker), HARMONY)) };
}

function weather() {
  const asked = [];
  const execute = async ({ city }) => {
    asked.push(city);
    return { sky: "clear" };
  };
  const inputSchema = z.object({ city: z.string() });
  return { asked, tools: { weather: tool({ description: "Tells the weather.", inputSchema, execute }) } };
}

async function collect(stream) {
  const all = [];
  for await (const each of stream) all.push(each);
  return all;
}

test("text, with what was thought, how it ended and what it took", async () => {
  const { model } = start([think("Hm."), say("Hel", "lo")]);
  const { text, reasoningText, finishReason, usage, warnings } = await generateText({ model, prompt });
  assert.deepEqual([text, reasoningText, finishReason], ["Hello", "Hm.", "stop"]);
  assert.deepEqual([usage.inputTokens, usage.outputTokens, usage.totalTokens], [7, 3, 10]);
  assert.equal(usage.outputTokenDetails.reasoningTokens, 1);
  assert.equal(usage.inputTokenDetails.cacheReadTokens, 3);
  assert.deepEqual(warnings, []);
});

test("streamed text comes in blocks, in their order", async () => {
  const { model } = start([think("Hm", "."), say("Hel", "lo")]);
  const result = streamText({ model, prompt });
  const parts = await collect(result.fullStream);
  assert.deepEqual(parts.map(({ type, text }) => text ?? type), [
    "start",
    "start-step",
    "reasoning-start",
    "Hm",
    ".",
    "reasoning-end",
    "text-start",
    "Hel",
    "lo",
    "text-end",
    "finish-step",
    "finish",
  ]);
  assert.equal(await result.finishReason, "stop");
  assert.equal((await result.usage).totalTokens, 11);
});

for (const [how, ask] of [
  ["whole", generateText],
  ["streamed", streamText],
]) {
  test(`tools are called until the model has answered, ${how}`, async () => {
    const { worker, model } = start([think("Rome?"), call("weather", '{"city":', '"Rome"}')], [say("Sunny.")]);
    const { asked, tools } = weather();
    const result = await ask({ model, prompt, tools, stopWhen: stepCountIs(3) });
    assert.equal(await result.text, "Sunny.");
    assert.deepEqual(asked, ["Rome"]);
    assert.deepEqual((await result.steps).map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
    const { messages } = (await worker.request("generate", 1)).params.input;
    assert.equal(messages[1].reasoning_content, "Rome?");
    assert.equal(messages[1].tool_calls[0].function.arguments, '{"city":"Rome"}');
    assert.deepEqual(messages[2], {
      role: "tool",
      tool_call_id: messages[1].tool_calls[0].id,
      content: '{"sky":"clear"}',
    });
  });

  test(`structured output follows its schema, ${how}`, async () => {
    const { worker, model } = start([think("Hm."), say('{"city":', '"Rome"}')]);
    const output = Output.object({ schema: z.object({ city: z.string() }) });
    assert.deepEqual(await (await ask({ model, prompt, output })).output, { city: "Rome" });
    const { constraint } = (await worker.request("generate")).params.options;
    assert.deepEqual([constraint.kind, JSON.parse(constraint.value).required], ["json_schema", ["city"]]);
  });
}

test("settings reach the engine under its names", async () => {
  const { worker, model } = start([call("weather", '{"city":"Rome"}')]);
  await generateText({
    model,
    system: "Be brief.",
    prompt,
    tools: weather().tools,
    toolChoice: { type: "tool", toolName: "weather" },
    maxOutputTokens: 9,
    temperature: 0,
    topP: 0.5,
    topK: 4,
    presencePenalty: 0.1,
    frequencyPenalty: 0.2,
    stopSequences: ["END"],
    seed: 7,
    providerOptions: { pesi: { reasoningEffort: "low", minP: 0.1 } },
  });
  const { input, options } = (await worker.request("generate")).params;
  assert.deepEqual(input.messages.map(({ role, content }) => [role, content]), [
    ["system", "Be brief."],
    ["user", "Hi"],
  ]);
  assert.equal(input.options.reasoningEffort, "low");
  const { tools, ...others } = options;
  assert.equal(tools[0].name, "weather");
  assert.deepEqual(others, {
    temperature: 0,
    topP: 0.5,
    topK: 4,
    minP: 0.1,
    frequencyPenalty: 0.2,
    presencePenalty: 0.1,
    seed: 7,
    maxTokens: 9,
    stop: ["END"],
    toolChoice: { name: "weather" },
  });
});

test("aborting cancels the model, whole and streamed", async () => {
  const slow = { pieces: [say("a", "b", "c", "d")], wait: 20 };
  const whole = start(slow);
  const abortSignal = AbortSignal.timeout(30);
  await assert.rejects(generateText({ model: whole.model, prompt, abortSignal }), { name: "TimeoutError" });

  const streamed = start(slow);
  const controller = new AbortController();
  const { fullStream } = streamText({ model: streamed.model, prompt, abortSignal: controller.signal });
  const types = [];
  for await (const { type } of fullStream) {
    types.push(type);
    if (type === "text-delta") controller.abort();
  }
  assert.equal(types.at(-1), "abort");
  for (const { worker } of [whole, streamed]) assert.ok(worker.posted.some(({ type }) => type === "cancel"));
});

test("failures come through, before the answer and within it", async () => {
  const error = { kind: "device_lost", message: "The device was lost" };
  const before = start({ pieces: [], error });
  await assert.rejects(generateText({ model: before.model, prompt }), pesiError("device_lost"));
  const { model } = start({ pieces: [say("a")], error });
  const errors = [];
  const onError = ({ error }) => errors.push(error.kind);
  const parts = await collect(streamText({ model, prompt, onError }).fullStream);
  assert.deepEqual(errors, ["device_lost"]);
  assert.equal(parts.at(-1).finishReason, "error");
});

test("what cannot be honoured is refused by name", async () => {
  const { model, worker } = start();
  const image = { type: "file", data: new Uint8Array([1]), mediaType: "image/png" };
  const messages = [{ role: "user", content: [image] }];
  await assert.rejects(generateText({ model, messages }), pesiError("unsupported", { parameter: "prompt part file" }));
  const providerOptions = { pesi: { echo: true } };
  const refused = pesiError("unsupported", { parameter: "providerOptions.pesi.echo" });
  await assert.rejects(generateText({ model, prompt, providerOptions }), refused);
  assert.deepEqual(worker.posted, []);
});

test("a provider has models by name, for registries as well", async () => {
  const worker = new AnsweringWorker([[say("a")], [say("b")]]);
  const pesi = createPesi({ oss: new Model(new Connection(worker), HARMONY) });
  assert.equal((await generateText({ model: pesi("oss"), prompt })).text, "a");
  const registry = createProviderRegistry({ pesi });
  assert.equal((await generateText({ model: registry.languageModel("pesi:oss"), prompt })).text, "b");
  assert.throws(() => pesi("toString"), pesiError("invalid_argument", { found: "toString" }));
  assert.throws(() => pesi.imageModel("oss"), pesiError("unsupported"));
});
