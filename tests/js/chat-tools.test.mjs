import assert from "node:assert/strict";
import test from "node:test";

import { chatRequest } from "../../dist/chat-params.js";
import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker, call, say, think } from "./answering-worker.mjs";
import { HARMONY, INFO, generationResult } from "./scripted-worker.mjs";

const MESSAGES = [{ role: "user", content: "Hi" }];

const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const TOOLS = [
  { type: "function", function: { name: "weather", description: "Tells it.", parameters: PARAMETERS, strict: true } },
  { type: "function", function: { name: "time" } },
];

const WEATHER = call("weather", '{"city":', '"Rome"}');

function start(answers, info = HARMONY) {
  const worker = new AnsweringWorker(answers);
  return { worker, completions: new Model(new Connection(worker), info).chat.completions };
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a call is an answer without content, and has its own finish reason", async () => {
  const { completions } = start([[think("Hm."), WEATHER]]);
  const { choices } = await completions.create({ messages: MESSAGES, tools: TOOLS });
  const [{ message, finish_reason }] = choices;
  assert.equal(finish_reason, "tool_calls");
  assert.equal(message.content, null);
  assert.equal(message.reasoning_content, "Hm.");
  assert.match(message.tool_calls[0].id, /^call_[0-9a-f]{32}$/);
  assert.deepEqual(message.tool_calls, [
    { id: message.tool_calls[0].id, type: "function", function: { name: "weather", arguments: '{"city":"Rome"}' } },
  ]);
});

test("a streamed call begins with id, type and name, and goes on with arguments", async () => {
  const { completions } = start([[WEATHER, call("time", "{}")]]);
  const chunks = await collect(await completions.create({ messages: MESSAGES, tools: TOOLS, stream: true }));
  const deltas = chunks.slice(1, -1).map(({ choices }) => choices[0].delta.tool_calls);
  const [first, second] = deltas.flat().filter(({ id }) => id !== undefined);
  assert.notEqual(first.id, second.id);
  assert.deepEqual(deltas, [
    [{ index: 0, id: first.id, type: "function", function: { name: "weather", arguments: "" } }],
    [{ index: 0, function: { arguments: '{"city":' } }],
    [{ index: 0, function: { arguments: '"Rome"}' } }],
    [{ index: 1, id: second.id, type: "function", function: { name: "time", arguments: "" } }],
    [{ index: 1, function: { arguments: "{}" } }],
  ]);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "tool_calls");
});

test("without parallel calls the first one ends the answer", async () => {
  for (const stream of [false, true]) {
    const { worker, completions } = start([[WEATHER, call("time", "{}"), say("Well.")]]);
    const params = { messages: MESSAGES, tools: TOOLS, parallel_tool_calls: false, stream };
    const answer = await completions.create(params);
    const calls = stream
      ? (await collect(answer)).flatMap(({ choices }) => choices[0].delta.tool_calls ?? [])
      : answer.choices[0].message.tool_calls;
    assert.deepEqual(calls.flatMap((each) => each.function.name ?? []), ["weather"]);
    assert.ok(worker.posted.some(({ type }) => type === "cancel"));
  }
});

test("what breaks a call makes it none", async () => {
  const broken = { ...call("weather", '{"city"'), malformed: "a call of a tool is not JSON" };
  const { completions } = start([[broken, say("Sorry.")]]);
  const { choices } = await completions.create({ messages: MESSAGES, tools: TOOLS });
  assert.deepEqual(choices[0].message, { role: "assistant", content: "Sorry.", refusal: null });
  assert.equal(choices[0].finish_reason, "stop");
  assert.equal(choices[0].malformed, broken.malformed);
});

test("an answer cut within a call says so", async () => {
  const { completions } = start([{ pieces: [WEATHER], finishReason: "length" }]);
  const { choices } = await completions.create({ messages: MESSAGES, tools: TOOLS });
  assert.equal(choices[0].finish_reason, "length");
  assert.equal(choices[0].message.tool_calls.length, 1);
});

test("tools and their choice reach the engine", () => {
  const request = (params) => chatRequest({ messages: MESSAGES, tools: TOOLS, ...params }, INFO);
  const tools = [
    { name: "weather", parameters: JSON.stringify(PARAMETERS), strict: true },
    { name: "time", parameters: '{"type":"object","properties":{}}', strict: false },
  ];
  const named = { type: "function", function: { name: "time" } };
  for (const [tool_choice, toolChoice] of [
    [undefined, "auto"],
    ["required", "required"],
    [named, { name: "time" }],
  ]) {
    const { chatOptions, options } = request({ tool_choice });
    assert.deepEqual(chatOptions, { tools: TOOLS });
    assert.deepEqual(options, { temperature: 1, tools, toolChoice });
    const single = request({ tool_choice, parallel_tool_calls: false }).options;
    assert.deepEqual(single, { ...options, parallelToolCalls: false });
  }
  const { chatOptions, options, reading } = request({ tool_choice: "none" });
  assert.deepEqual([chatOptions, options], [{}, { temperature: 1, toolChoice: "none" }]);
  assert.equal(reading.hasTools, false);
  assert.deepEqual(request({ tools: [] }).options, { temperature: 1 });
});

test("calls and their results reach the engine in OpenAI's shape", async () => {
  const { worker, completions } = start([[WEATHER], [say("Sunny.")]]);
  const first = await completions.create({ messages: MESSAGES, tools: TOOLS });
  const { message } = first.choices[0];
  const [{ id }] = message.tool_calls;
  const result = { role: "tool", tool_call_id: id, content: [{ type: "text", text: "sun" }] };
  await completions.create({ messages: [...MESSAGES, message, result], tools: TOOLS });
  const { params } = await worker.request("generate", 1);
  assert.deepEqual(params.input.messages, [
    ...MESSAGES,
    { role: "assistant", content: null, tool_calls: message.tool_calls },
    { role: "tool", content: "sun", tool_call_id: id },
  ]);
});

test("formats are constraints, and the model is told of schemas", () => {
  const request = (response_format) => chatRequest({ messages: MESSAGES, response_format }, INFO);
  const json_schema = { name: "place", description: "A place.", strict: true, schema: PARAMETERS };
  const structured = request({ type: "json_schema", json_schema });
  assert.deepEqual(structured.options.constraint, { kind: "json_schema", value: JSON.stringify(PARAMETERS) });
  const told = { name: "place", description: "A place.", schema: PARAMETERS };
  assert.deepEqual(structured.chatOptions.responseFormat, told);
  assert.deepEqual(request({ type: "json_object" }).options.constraint, { kind: "json_object" });
  assert.deepEqual(request({ type: "text" }).options, { temperature: 1 });
});

test("a structured answer is what the model says at the end, without remarks on the way", async () => {
  const remark = { text: "Let me see.", channel: "commentary" };
  const { completions } = start([[remark, say('{"city":"Rome"}')]]);
  const { choices } = await completions.create({ messages: MESSAGES, response_format: { type: "json_object" } });
  assert.equal(choices[0].message.content, '{"city":"Rome"}');
  assert.equal(choices[0].message.reasoning_content, "Let me see.");
});

test("several answers are made one after the other, with seeds that count on", async () => {
  const params = { messages: MESSAGES, n: 2, seed: 7 };
  const { worker, completions } = start([[say("one")], [say("two", "!")]]);
  const whole = await completions.create(params);
  assert.deepEqual(whole.choices.map(({ index, message }) => [index, message.content]), [[0, "one"], [1, "two!"]]);
  assert.equal(whole.usage.prompt_tokens, 7);
  assert.equal(whole.usage.completion_tokens, 3);
  for (const nth of [0, 1]) assert.equal((await worker.request("generate", nth)).params.options.seed, 7 + nth);

  const { completions: streaming } = start([[say("one")], [say("two")]]);
  const stream = await streaming.create({ ...params, stream: true, stream_options: { include_usage: true } });
  const chunks = await collect(stream);
  const ended = chunks.filter(({ choices }) => choices[0]?.finish_reason === "stop");
  assert.deepEqual(ended.map(({ choices }) => choices[0].index), [0, 1]);
  assert.equal(chunks.at(-1).usage.completion_tokens, 2);
});

test("leaving a stream of several answers asks for no further one", async () => {
  const { worker, completions } = start([[say("one")], [say("two")]]);
  const stream = await completions.create({ messages: MESSAGES, n: 2, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(worker.posted.filter(({ method }) => method === "generate").length, 1);
});

test("the likeliest tokens come with their bytes, also those of a part of a character", async () => {
  const topLogprobs = [
    { token: 5, logprob: -0.5, bytes: [0xc3, 0xa9] },
    { token: 6, logprob: -1, bytes: [0xf0, 0x9f] },
  ];
  const { worker, completions } = start([[{ text: "é", channel: "final", logprob: -0.5, topLogprobs }]]);
  const params = { messages: MESSAGES, logprobs: true, top_logprobs: 2, logit_bias: { 5: -100, 7: 1.5 } };
  const { choices } = await completions.create(params);
  assert.deepEqual(choices[0].logprobs.content, [
    {
      token: "é",
      logprob: -0.5,
      bytes: [0xc3, 0xa9],
      top_logprobs: [
        { token: "é", logprob: -0.5, bytes: [0xc3, 0xa9] },
        { token: "\\xf0\\x9f", logprob: -1, bytes: [0xf0, 0x9f] },
      ],
    },
  ]);
  const { options } = (await worker.request("generate")).params;
  assert.deepEqual([options.topLogprobs, options.logitBias], [2, [[5, -100], [7, 1.5]]]);
});

test("a model with a template that tells what it thinks is read alike", async () => {
  const { completions } = start([[{ text: "" }, think("Hm."), { text: "Hi" }]], INFO);
  const { choices, usage } = await completions.create({ messages: MESSAGES });
  assert.equal(choices[0].message.reasoning_content, "Hm.");
  assert.equal(choices[0].message.content, "Hi");
  assert.deepEqual(usage.completion_tokens_details, { reasoning_tokens: 1 });
  assert.equal(usage.completion_tokens, generationResult(3).completionTokens);
});
