/** OpenAI's own package, unmodified, with the model's `fetch`. */
import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker, call, say, think } from "./answering-worker.mjs";
import { HARMONY, INFO } from "./scripted-worker.mjs";

const messages = [{ role: "user", content: "Hi" }];

const Place = z.object({ city: z.string() });

function start(answers, info = HARMONY) {
  const worker = new AnsweringWorker(answers);
  const model = new Model(new Connection(worker), info);
  const client = new OpenAI({ apiKey: "none", baseURL: "https://api.example/any/v1", fetch: model.fetch });
  return { worker, model, client };
}

async function collect(stream) {
  const all = [];
  for await (const each of stream) all.push(each);
  return all;
}

test("a whole chat completion", async () => {
  const { client } = start([[think("Hm."), say("Hel", "lo")]]);
  const { data, response } = await client.chat.completions.create({ model: "any", messages }).withResponse();
  assert.equal(data.choices[0].message.content, "Hello");
  assert.equal(data.choices[0].message.reasoning_content, "Hm.");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.usage.total_tokens, 10);
  assert.match(response.headers.get("x-request-id"), /^req_/);
});

test("a streamed chat completion, in order, with its usage at the end", async () => {
  const { client } = start([[think("Hm."), say("Hel", "lo")]]);
  const stream_options = { include_usage: true };
  const stream = await client.chat.completions.create({ model: "any", messages, stream: true, stream_options });
  const chunks = await collect(stream);
  const told = chunks.map(({ choices: [choice], usage }) => {
    return [choice?.delta.content, choice?.finish_reason, usage?.total_tokens];
  });
  assert.deepEqual(told, [
    ["", null, undefined],
    [undefined, null, undefined],
    ["Hel", null, undefined],
    ["lo", null, undefined],
    [undefined, "stop", undefined],
    [undefined, undefined, 10],
  ]);
});

test("the helper for streams sees content, calls and the final completion", async () => {
  const { client } = start([[say("Let me see."), call("weather", '{"city":', '"Rome"}')]]);
  const tools = [{ type: "function", function: { name: "weather", parameters: {} } }];
  const deltas = [];
  const runner = client.chat.completions
    .stream({ model: "any", messages, tools, stream_options: { include_usage: true } })
    .on("content", (delta) => deltas.push(delta))
    .on("tool_calls.function.arguments.delta", ({ arguments_delta }) => deltas.push(arguments_delta));
  const { choices, usage } = await runner.finalChatCompletion();
  assert.deepEqual(deltas.filter((delta) => delta !== ""), ["Let me see.", '{"city":', '"Rome"}']);
  assert.equal(choices[0].finish_reason, "tool_calls");
  assert.equal(choices[0].message.tool_calls[0].function.arguments, '{"city":"Rome"}');
  assert.equal(usage.completion_tokens, 3);
});

test("parse gives what a schema describes", async () => {
  const { worker, client } = start([[think("Hm."), say('{"city":', '"Rome"}')]]);
  const response_format = zodResponseFormat(Place, "place");
  const { choices } = await client.chat.completions.parse({ model: "any", messages, response_format });
  assert.deepEqual(choices[0].message.parsed, { city: "Rome" });
  const { constraint } = (await worker.request("generate")).params.options;
  assert.equal(constraint.kind, "json_schema");
  assert.deepEqual(JSON.parse(constraint.value).required, ["city"]);
});

for (const stream of [false, true]) {
  test(`runTools calls tools until the model has answered, ${stream ? "streamed" : "whole"}`, async () => {
    const { worker, client } = start([[think("Rome?"), call("weather", '{"city":"Rome"}')], [say("Sunny.")]]);
    const asked = [];
    const tool = {
      type: "function",
      function: {
        name: "weather",
        description: "Tells the weather.",
        parameters: { type: "object", properties: { city: { type: "string" } } },
        parse: JSON.parse,
        function: ({ city }) => {
          asked.push(city);
          return "sun";
        },
      },
    };
    const runner = client.chat.completions.runTools({ model: "any", messages, stream, tools: [tool] });
    assert.equal(await runner.finalContent(), "Sunny.");
    assert.deepEqual(asked, ["Rome"]);
    const { input } = (await worker.request("generate", 1)).params;
    assert.deepEqual(input.messages.slice(1).map(({ role, content }) => [role, content || null]), [
      ["assistant", null],
      ["tool", "sun"],
    ]);
    assert.equal(input.messages[1].tool_calls[0].id, input.messages[2].tool_call_id);
  });
}

test("several choices, whole and streamed", async () => {
  const { client } = start([[say("a")], [say("b")], [say("c")], [say("d")]]);
  const { choices } = await client.chat.completions.create({ model: "any", messages, n: 2 });
  assert.deepEqual(choices.map(({ message }) => message.content), ["a", "b"]);
  const runner = client.chat.completions.stream({ model: "any", messages, n: 2 });
  const final = await runner.finalChatCompletion();
  assert.deepEqual(final.choices.map(({ message }) => message.content), ["c", "d"]);
});

test("completions, whole and streamed", async () => {
  const { client } = start([[{ text: "a" }, { text: "b" }], [{ text: "c" }, { text: "d" }]], INFO);
  const whole = await client.completions.create({ model: "any", prompt: "x", logprobs: 0, max_tokens: 2 });
  assert.equal(whole.object, "text_completion");
  assert.equal(whole.choices[0].text, "ab");
  assert.deepEqual(whole.choices[0].logprobs.text_offset, [0, 1]);
  const chunks = await collect(await client.completions.create({ model: "any", prompt: "x", stream: true }));
  assert.deepEqual(chunks.map(({ choices }) => [choices[0].text, choices[0].finish_reason]), [
    ["c", null],
    ["d", null],
    ["", "stop"],
  ]);
});

test("models are listed, and found by id", async () => {
  const { client } = start([]);
  const list = await collect(client.models.list());
  assert.deepEqual(list.map(({ id, object }) => [id, object]), [[INFO.id, "model"]]);
  assert.equal((await client.models.retrieve(INFO.id)).id, INFO.id);
  await assert.rejects(client.models.retrieve("gpt-none"), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("a response, with what was thought, said and called", async () => {
  const { client } = start([[think("Hm."), say("Let me see."), call("weather", "{}")]]);
  const tools = [{ type: "function", name: "weather", parameters: null, strict: null }];
  const response = await client.responses.create({ model: "any", input: "Hi", tools });
  assert.deepEqual(response.output.map(({ type, status }) => [type, status]), [
    ["reasoning", "completed"],
    ["message", "completed"],
    ["function_call", "completed"],
  ]);
  assert.equal(response.output_text, "Let me see.");
  assert.equal(response.status, "completed");
  assert.equal(response.usage.output_tokens_details.reasoning_tokens, 1);
});

test("a streamed response has OpenAI's events in their order", async () => {
  const { client } = start([[think("Hm."), say("Hel", "lo"), call("weather", "{}")]]);
  const tools = [{ type: "function", name: "weather", parameters: null, strict: null }];
  const stream = client.responses.stream({ model: "any", input: "Hi", tools });
  const events = await collect(stream);
  assert.deepEqual(events.map(({ sequence_number }) => sequence_number), events.map((_, index) => index));
  assert.deepEqual(events.map(({ type }) => type.replace("response.", "")), [
    "created",
    "in_progress",
    "output_item.added",
    "content_part.added",
    "reasoning_text.delta",
    "reasoning_text.done",
    "content_part.done",
    "output_item.done",
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.delta",
    "output_text.done",
    "content_part.done",
    "output_item.done",
    "output_item.added",
    "function_call_arguments.delta",
    "function_call_arguments.done",
    "output_item.done",
    "completed",
  ]);
  const final = await stream.finalResponse();
  assert.equal(final.output_text, "Hello");
  assert.equal(final.output[0].content[0].text, "Hm.");
  assert.deepEqual(final.output[2].name, "weather");
});

test("responses.parse gives what a schema describes", async () => {
  const { client } = start([[say('{"city":"Rome"}')]]);
  const text = { format: zodTextFormat(Place, "place") };
  const { output_parsed } = await client.responses.parse({ model: "any", input: "Where?", text });
  assert.deepEqual(output_parsed, { city: "Rome" });
});

test("a response continues another by its id, and is forgotten on request", async () => {
  const { worker, client } = start([[think("Hm."), call("weather", "{}")], [say("Sunny.")]]);
  const tools = [{ type: "function", name: "weather", parameters: null, strict: true }];
  const first = await client.responses.create({ model: "any", input: "Hi", instructions: "Be brief.", tools });
  const { call_id } = first.output[1];
  const second = await client.responses.create({
    model: "any",
    previous_response_id: first.id,
    input: [{ type: "function_call_output", call_id, output: "sun" }],
  });
  assert.equal(second.previous_response_id, first.id);
  assert.deepEqual((await worker.request("generate", 1)).params.input.messages, [
    { role: "user", content: "Hi" },
    {
      role: "assistant",
      content: null,
      reasoning_content: "Hm.",
      tool_calls: [{ id: call_id, type: "function", function: { name: "weather", arguments: "{}" } }],
    },
    { role: "tool", tool_call_id: call_id, content: "sun" },
  ]);
  assert.equal((await client.responses.retrieve(second.id)).output_text, "Sunny.");
  await client.responses.delete(second.id);
  await assert.rejects(client.responses.retrieve(second.id), OpenAI.NotFoundError);
});

test("errors are OpenAI's, by status, type, parameter and code", async () => {
  const failing = (kind) => ({ pieces: [], error: { kind, message: kind } });
  const kinds = ["context_exceeded", "internal", "gpu", "device_lost", "out_of_memory"];
  const { client } = start(kinds.map(failing));
  const failure = async (request, status, fields) => {
    await assert.rejects(request, (error) => {
      assert.equal(error.status, status);
      const { type, param, code } = error;
      assert.deepEqual({ type, param, code }, { type: "invalid_request_error", param: null, code: null, ...fields });
      return true;
    });
  };
  const chat = (params) => client.chat.completions.create({ model: "any", messages, ...params });
  await failure(chat({ temperature: 3 }), 400, { param: "temperature", code: "invalid_value" });
  await failure(chat({ audio: {} }), 400, { param: "audio", code: "unsupported_parameter" });
  await failure(chat({ store: true }), 400, { param: "store", code: "unsupported_value" });
  await failure(chat({ reasoning_effort: "minimal" }), 400, { param: "reasoning_effort", code: "unsupported_value" });
  const response = (params) => client.responses.create({ model: "any", input: "Hi", ...params });
  await failure(response({ previous_response_id: "resp_none" }), 400, {
    param: "previous_response_id",
    code: "previous_response_not_found",
  });
  await failure(client.embeddings.create({ model: "any", input: "x" }), 404, { code: "unknown_url" });
  await failure(client.get("/chat/completions"), 405, { code: "method_not_supported" });
  const server = { type: "server_error" };
  for (const [kind, status, fields] of [
    ["context_exceeded", 400, { param: "messages", code: "context_length_exceeded" }],
    ["internal", 500, { ...server, code: "internal" }],
    ["gpu", 500, { ...server, code: "gpu" }],
    ["device_lost", 503, { ...server, code: "device_lost" }],
    ["out_of_memory", 503, { ...server, code: "out_of_memory" }],
  ]) {
    await failure(chat({ stream: kind === "internal" }), status, fields);
  }
});

test("a failure in the middle of a stream is thrown; a response says that it failed", async () => {
  const failing = { pieces: [say("Hel")], error: { kind: "device_lost", message: "The device was lost" } };
  const { client } = start([failing, failing]);
  const stream = await client.chat.completions.create({ model: "any", messages, stream: true });
  await assert.rejects(collect(stream), (error) => error instanceof OpenAI.APIError && error.code === "device_lost");
  const events = await collect(await client.responses.create({ model: "any", input: "Hi", stream: true }));
  const { type, response } = events.at(-1);
  assert.deepEqual([type, response.status], ["response.failed", "failed"]);
  assert.equal(response.error.message, "The device was lost");
});

test("aborting before, within and by leaving a stream reaches the model", async () => {
  const slow = { pieces: [say("a", "b", "c", "d", "e", "f")], wait: 20 };
  const cancelled = (worker) => worker.posted.some(({ type }) => type === "cancel");
  const whole = start([slow]);
  const signal = AbortSignal.timeout(30);
  await assert.rejects(
    whole.client.chat.completions.create({ model: "any", messages }, { signal }),
    OpenAI.APIUserAbortError,
  );
  assert.ok(cancelled(whole.worker));

  const left = start([slow]);
  for await (const chunk of await left.client.chat.completions.create({ model: "any", messages, stream: true })) {
    if (chunk.choices[0].delta.content === "a") break;
  }
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(cancelled(left.worker));

  const aborted = start([slow]);
  const runner = aborted.client.chat.completions.stream({ model: "any", messages });
  runner.on("content", () => runner.abort());
  await assert.rejects(runner.finalChatCompletion(), OpenAI.APIUserAbortError);
  assert.ok(cancelled(aborted.worker));

  const response = start([slow]);
  for await (const event of await response.client.responses.create({ model: "any", input: "Hi", stream: true })) {
    if (event.type === "response.output_text.delta") break;
  }
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(cancelled(response.worker));
});

test("a timeout of the client is one", async () => {
  const { client } = start([{ pieces: [say("a", "b", "c")], wait: 50 }]);
  const request = client.chat.completions.create({ model: "any", messages }, { timeout: 20, maxRetries: 0 });
  await assert.rejects(request, OpenAI.APIConnectionTimeoutError);
});

test("a disposed model is unavailable, and is not asked again", async () => {
  const { worker, model, client } = start([]);
  const disposed = model.dispose();
  worker.result((await worker.request("dispose")).id, { freedBytes: 0 });
  await disposed;
  await assert.rejects(client.chat.completions.create({ model: "any", messages }), (error) => {
    return error.status === 503 && error.code === "model_disposed";
  });
});
