/** AWS's own packages in a page: all operations of Bedrock's and SageMaker's runtimes that models answer. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { call, say, think } from "../../js/answering-worker.mjs";

const MODEL = "openai.gpt-oss-20b-1:0";

/** A real model that talks. */
export function testTalk(pages) {
  const evaluate = (work) => pages.talk.evaluate(work, MODEL);

  test("Bedrock's Converse and ConverseStream: one answer, in blocks", async () => {
    const { whole, events, cut } = await evaluate(async (modelId) => {
      const { bedrock, sdk, collect } = globalThis;
      const command = {
        modelId,
        system: [{ text: "You answer questions." }],
        messages: [{ role: "user", content: [{ text: "What is the capital of France?" }] }],
        inferenceConfig: { temperature: 0, maxTokens: 12 },
      };
      const whole = await bedrock.send(new sdk.ConverseCommand(command));
      const { stream } = await bedrock.send(new sdk.ConverseStreamCommand(command));
      const events = await collect(stream);
      const inferenceConfig = { temperature: 0, maxTokens: 2 };
      const cut = await bedrock.send(new sdk.ConverseCommand({ ...command, inferenceConfig }));
      return { whole, events, cut };
    });
    const [{ text }] = whole.output.message.content;
    assert.match(text, /Paris/);
    assert.deepEqual([whole.output.message.role, whole.stopReason], ["assistant", "end_turn"]);
    const { inputTokens, outputTokens, totalTokens } = whole.usage;
    assert.equal(totalTokens, inputTokens + outputTokens);
    assert.ok(outputTokens > 5 && outputTokens <= 12 && whole.metrics.latencyMs > 0);

    assert.deepEqual(ordered(events.map((event) => Object.keys(event)[0])), [
      "messageStart",
      "contentBlockDelta",
      "contentBlockStop",
      "messageStop",
      "metadata",
    ]);
    const deltas = events.flatMap(({ contentBlockDelta }) => contentBlockDelta ?? []);
    assert.equal(deltas.map(({ delta }) => delta.text).join(""), text);
    assert.deepEqual([...new Set(deltas.map(({ contentBlockIndex }) => contentBlockIndex))], [0]);
    assert.equal(events.at(-2).messageStop.stopReason, "end_turn");
    const { metadata } = events.at(-1);
    assert.deepEqual([metadata.usage.inputTokens, metadata.usage.outputTokens], [inputTokens, outputTokens]);
    assert.deepEqual([cut.stopReason, cut.usage.outputTokens], ["max_tokens", 2]);
  });

  test("Bedrock's InvokeModel and SageMaker's InvokeEndpoint, whole and streamed: one answer", async () => {
    const told = await evaluate(async (modelId) => {
      const { bedrock, sagemaker, sdk, collect, parsed, utf8 } = globalThis;
      const messages = [{ role: "user", content: "What is the capital of France?" }];
      const chat = { messages, temperature: 0, max_tokens: 12 };
      const body = JSON.stringify(chat);
      const streaming = JSON.stringify({ ...chat, stream: true, stream_options: { include_usage: true } });
      const asked = { contentType: "application/json", accept: "application/json", modelId };
      const invoked = await bedrock.send(new sdk.InvokeModelCommand({ ...asked, body }));
      const streamed = await bedrock.send(new sdk.InvokeModelWithResponseStreamCommand({ ...asked, body }));
      const endpoint = { EndpointName: "oss", ContentType: "application/json" };
      const answered = await sagemaker.send(new sdk.InvokeEndpointCommand({ ...endpoint, Body: body }));
      const parts = await sagemaker.send(
        new sdk.InvokeEndpointWithResponseStreamCommand({ ...endpoint, Body: streaming }),
      );
      return {
        types: [invoked.contentType, streamed.contentType, answered.ContentType, parts.ContentType],
        invoked: parsed(invoked.body),
        chunks: (await collect(streamed.body)).map(({ chunk }) => parsed(chunk.bytes)),
        answered: parsed(answered.Body),
        text: (await collect(parts.Body)).map(({ PayloadPart }) => utf8.decode(PayloadPart.Bytes)).join(""),
      };
    });
    const { invoked, chunks, answered } = told;
    const json = "application/json";
    assert.deepEqual(told.types.slice(0, 3), [json, json, json]);
    assert.match(told.types[3], /^text\/event-stream/);
    const [{ message, finish_reason }] = invoked.choices;
    assert.match(message.content, /Paris/);
    assert.equal(finish_reason, "stop");
    assert.deepEqual(answered.choices, invoked.choices);
    const { completion_tokens } = invoked.usage;
    assert.equal(answered.usage.completion_tokens, completion_tokens);

    const lines = told.text.trimEnd().split("\n\n");
    assert.equal(lines.pop(), "data: [DONE]");
    const events = lines.map((line) => JSON.parse(line.slice("data: ".length)));
    assert.equal(events.pop().usage.completion_tokens, completion_tokens);
    for (const streamed of [chunks.filter(({ choices }) => choices.length > 0), events]) {
      const [first, ...others] = streamed.map(({ choices }) => choices[0]);
      const last = others.pop();
      assert.deepEqual([first.delta.role, first.delta.content], ["assistant", ""]);
      assert.equal(others.map(({ delta }) => delta.content).join(""), message.content);
      assert.deepEqual(others.map((choice) => choice.finish_reason), others.map(() => null));
      assert.equal(last.finish_reason, "stop");
    }
  });

  test("AWS's: what is aborted or refused leaves the model as it was", async () => {
    const told = await evaluate(async (modelId) => {
      const { bedrock, sagemaker, sdk } = globalThis;
      const messages = [{ role: "user", content: [{ text: "Tell me a long story." }] }];
      const long = { modelId, messages, inferenceConfig: { maxTokens: 1000 } };
      const failure = (error) => [error.name, error.$metadata?.httpStatusCode ?? null];
      const abortSignal = AbortSignal.timeout(100);
      const whole = await bedrock.send(new sdk.ConverseCommand(long), { abortSignal }).catch(failure);
      const controller = new AbortController();
      const { signal } = controller;
      const { stream } = await bedrock.send(new sdk.ConverseStreamCommand(long), { abortSignal: signal });
      let streamed;
      try {
        for await (const { contentBlockDelta } of stream) if (contentBlockDelta) controller.abort();
      } catch (error) {
        streamed = failure(error);
      }
      const guardrailConfig = { guardrailIdentifier: "a", guardrailVersion: "1" };
      const refused = await bedrock.send(new sdk.ConverseCommand({ ...long, guardrailConfig })).catch(failure);
      const toolConfig = { tools: [{ toolSpec: { name: "a", inputSchema: { json: { type: "object" } } } }] };
      const unable = await bedrock.send(new sdk.ConverseCommand({ ...long, toolConfig })).catch(failure);
      const Body = JSON.stringify({ messages: [], audio: {} });
      const endpoint = new sdk.InvokeEndpointCommand({ EndpointName: "oss", Body });
      const container = await sagemaker.send(endpoint).catch((error) => [error.name, error.OriginalStatusCode]);
      const question = [{ role: "user", content: [{ text: "What is the capital of France?" }] }];
      const inferenceConfig = { temperature: 0, maxTokens: 12 };
      const after = await bedrock.send(new sdk.ConverseCommand({ modelId, messages: question, inferenceConfig }));
      return { failures: [whole, streamed, refused, unable, container], after: after.output.message.content[0].text };
    });
    assert.deepEqual(told.failures, [
      ["AbortError", null],
      ["AbortError", null],
      ["ValidationException", 400],
      ["ValidationException", 400],
      ["ModelError", 400],
    ]);
    assert.match(told.after, /Paris/);
  });
}

/** A real model that says nothing sensible, in harmony, and does what it is held to. */
export function testDemands(pages) {
  test("Bedrock's Converse: a tool is called, its result sent back, and an answer given by a schema", async () => {
    const told = await pages.demands.evaluate(async (modelId) => {
      const { bedrock, sdk, biases, collect } = globalThis;
      const properties = { city: { enum: ["Rome", "Paris"] }, days: { type: "boolean" } };
      const json = { type: "object", properties, required: ["city", "days"], additionalProperties: false };
      const tools = [{ toolSpec: { name: "weather", description: "Tells it.", inputSchema: { json }, strict: true } }];
      const messages = [{ role: "user", content: [{ text: "How is it in Rome?" }] }];
      const common = { modelId, inferenceConfig: { temperature: 0, maxTokens: 200 } };
      const calling = {
        ...common,
        messages,
        additionalModelRequestFields: { logit_bias: await biases({ "<|end|>": 100 }) },
        toolConfig: { tools, toolChoice: { any: {} } },
      };
      const first = await bedrock.send(new sdk.ConverseCommand(calling));
      const { stream } = await bedrock.send(new sdk.ConverseStreamCommand(calling));
      const events = await collect(stream);
      const { message } = first.output;
      const { toolUseId } = message.content.at(-1).toolUse;
      const result = { toolResult: { toolUseId, content: [{ json: { sky: "clear" } }] } };
      const sky = { const: "clear" };
      const answer = { type: "object", properties: { sky }, required: ["sky"], additionalProperties: false };
      const jsonSchema = { schema: JSON.stringify(answer), name: "answer" };
      const second = await bedrock.send(
        new sdk.ConverseCommand({
          ...common,
          messages: [...messages, message, { role: "user", content: [result] }],
          additionalModelRequestFields: { logit_bias: await biases({ "<|end|>": 100, final: 50 }) },
          toolConfig: { tools },
          outputConfig: { textFormat: { type: "json_schema", structure: { jsonSchema } } },
        }),
      );
      return { first, events, second };
    }, MODEL);
    const { first, events, second } = told;
    assert.equal(first.stopReason, "tool_use");
    const { toolUse } = first.output.message.content.at(-1);
    assert.equal(toolUse.name, "weather");
    assert.match(toolUse.input.city, /^(Rome|Paris)$/);
    assert.equal(typeof toolUse.input.days, "boolean");

    const names = ordered(events.map((event) => Object.keys(event)[0]));
    const block = ["contentBlockStart", "contentBlockDelta", "contentBlockStop"];
    assert.deepEqual(names, ["messageStart", ...block, "messageStop", "metadata"]);
    const { start } = events.find(({ contentBlockStart }) => contentBlockStart).contentBlockStart;
    assert.equal(start.toolUse.name, "weather");
    const written = events.flatMap(({ contentBlockDelta }) => contentBlockDelta?.delta.toolUse.input ?? []).join("");
    assert.deepEqual(JSON.parse(written), toolUse.input);
    assert.equal(events.at(-2).messageStop.stopReason, "tool_use");
    assert.deepEqual(events.at(-1).metadata.usage.outputTokens, first.usage.outputTokens);

    assert.equal(second.stopReason, "end_turn");
    assert.deepEqual(JSON.parse(second.output.message.content.at(-1).text), { sky: "clear" });
    assert.ok(second.usage.inputTokens > first.usage.inputTokens);
    assert.equal(second.usage.totalTokens, second.usage.inputTokens + second.usage.outputTokens);
  });
}

/** Answers that a test gives, token by token. */
export function testPlayed(pages) {
  test("Bedrock's Converse and ConverseStream: thoughts, text and calls, each a block", async () => {
    const { page, answers, asked } = pages.played;
    const calls = [call("weather", '{"city":', '"Rome"}'), call("now", "{}")];
    const pieces = [think("Hm", "."), say("Let me ", "see."), ...calls];
    answers.splice(0, Infinity, pieces, pieces, [say("Sunny.")]);
    asked.length = 0;
    const { first, events, second } = await page.evaluate(async (modelId) => {
      const { bedrock, sdk, collect } = globalThis;
      const toolSpec = (name) => ({ toolSpec: { name, inputSchema: { json: { type: "object" } } } });
      const toolConfig = { tools: [toolSpec("weather"), toolSpec("now")] };
      const messages = [{ role: "user", content: [{ text: "How is it in Rome?" }] }];
      const first = await bedrock.send(new sdk.ConverseCommand({ modelId, messages, toolConfig }));
      const { stream } = await bedrock.send(new sdk.ConverseStreamCommand({ modelId, messages, toolConfig }));
      const events = await collect(stream);
      const { message } = first.output;
      const content = message.content
        .flatMap(({ toolUse }) => toolUse ?? [])
        .map(({ toolUseId }) => ({ toolResult: { toolUseId, content: [{ text: "sun" }] } }));
      const conversation = [...messages, message, { role: "user", content }];
      const second = await bedrock.send(new sdk.ConverseCommand({ modelId, messages: conversation, toolConfig }));
      return { first, events, second };
    }, MODEL);
    const [thought, text, weather, now] = first.output.message.content;
    assert.deepEqual(thought, { reasoningContent: { reasoningText: { text: "Hm." } } });
    assert.deepEqual(text, { text: "Let me see." });
    assert.deepEqual([weather.toolUse.name, weather.toolUse.input], ["weather", { city: "Rome" }]);
    assert.deepEqual([now.toolUse.name, now.toolUse.input], ["now", {}]);
    assert.equal(first.stopReason, "tool_use");
    assert.deepEqual(first.usage, { inputTokens: 7, outputTokens: 7, totalTokens: 14, cacheReadInputTokens: 3 });

    const starts = events.flatMap(({ contentBlockStart }) => contentBlockStart ?? []);
    const ids = starts.map(({ start }) => start.toolUse.toolUseId);
    const start = (contentBlockIndex, name) => {
      const toolUse = { toolUseId: ids[contentBlockIndex - 2], name };
      return { contentBlockStart: { start: { toolUse }, contentBlockIndex } };
    };
    const delta = (contentBlockIndex, delta) => ({ contentBlockDelta: { delta, contentBlockIndex } });
    const stop = (contentBlockIndex) => ({ contentBlockStop: { contentBlockIndex } });
    const { metadata } = events.pop();
    assert.deepEqual(events, [
      { messageStart: { role: "assistant" } },
      delta(0, { reasoningContent: { text: "Hm" } }),
      delta(0, { reasoningContent: { text: "." } }),
      stop(0),
      delta(1, { text: "Let me " }),
      delta(1, { text: "see." }),
      stop(1),
      start(2, "weather"),
      delta(2, { toolUse: { input: '{"city":' } }),
      delta(2, { toolUse: { input: '"Rome"}' } }),
      stop(2),
      start(3, "now"),
      delta(3, { toolUse: { input: "{}" } }),
      stop(3),
      { messageStop: { stopReason: "tool_use" } },
    ]);
    assert.equal(metadata.usage.totalTokens, 14);
    assert.deepEqual(second.output.message.content, [{ text: "Sunny." }]);
    assert.equal(second.stopReason, "end_turn");
    const [, calling, ...results] = asked[2].input.messages;
    assert.equal(calling.reasoning_content, "Hm.");
    assert.deepEqual(results.map(({ tool_call_id }) => tool_call_id), calling.tool_calls.map(({ id }) => id));
  });
}

/** Names in their order, those that are repeated told once. */
function ordered(names) {
  return names.filter((name, at) => name !== names[at - 1]);
}
