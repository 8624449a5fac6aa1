import assert from "node:assert/strict";
import test from "node:test";

import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker, call, say, think } from "./answering-worker.mjs";
import { HARMONY, INFO, pesiError } from "./scripted-worker.mjs";

const TOOL = { type: "function", name: "look", description: "Looks.", parameters: { type: "object" } };

function start(answers, info = HARMONY) {
  const worker = new AnsweringWorker(answers);
  return { worker, responses: new Model(new Connection(worker), info).responses };
}

async function collect(stream) {
  const all = [];
  for await (const each of stream) all.push(each);
  return all;
}

/** The messages that the engine gets for an input. */
async function messagesFor(input, params = {}) {
  const { worker, responses } = start([[say("x")]]);
  await responses.create({ input, ...params });
  return (await worker.request("generate")).params.input.messages;
}

test("a response has OpenAI's shape", async () => {
  const { responses } = start([[think("Hm."), say("Hello")]]);
  const response = await responses.create({ input: "Hi", metadata: { a: "b" } });
  const { id, created_at, completed_at, output, ...rest } = response;
  assert.match(id, /^resp_[0-9a-f]{32}$/);
  assert.ok(completed_at >= created_at);
  assert.deepEqual(output, [
    {
      type: "reasoning",
      id: output[0].id,
      summary: [],
      content: [{ type: "reasoning_text", text: "Hm." }],
      status: "completed",
    },
    {
      type: "message",
      id: output[1].id,
      role: "assistant",
      content: [{ type: "output_text", text: "Hello", annotations: [], logprobs: [] }],
      status: "completed",
    },
  ]);
  assert.deepEqual(rest, {
    object: "response",
    status: "completed",
    error: null,
    incomplete_details: null,
    background: false,
    instructions: null,
    max_output_tokens: null,
    metadata: { a: "b" },
    model: INFO.id,
    output_text: "Hello",
    parallel_tool_calls: true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: "default",
    store: true,
    temperature: 1,
    text: { format: { type: "text" }, verbosity: "medium" },
    tool_choice: "auto",
    tools: [],
    top_logprobs: 0,
    top_p: 1,
    truncation: "disabled",
    usage: {
      input_tokens: 7,
      input_tokens_details: { cached_tokens: 3, cache_write_tokens: 0 },
      output_tokens: 2,
      output_tokens_details: { reasoning_tokens: 1 },
      total_tokens: 9,
    },
  });
});

test("settings reach the engine under its names, and the response tells them", async () => {
  const { worker, responses } = start([[say("{}")]]);
  const format = { type: "json_schema", name: "place", schema: { type: "object" }, strict: true };
  const response = await responses.create({
    input: "Hi",
    instructions: "Be brief.",
    max_output_tokens: 9,
    temperature: 0,
    top_p: 0.5,
    top_logprobs: 2,
    reasoning: { effort: "low" },
    text: { format },
    tools: [TOOL, { ...TOOL, name: "see", strict: false }],
    tool_choice: { type: "function", name: "look" },
    parallel_tool_calls: false,
  });
  const { input, options } = (await worker.request("generate")).params;
  assert.deepEqual(input.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
  ]);
  assert.equal(input.options.reasoningEffort, "low");
  assert.deepEqual(input.options.tools.map(({ function: { strict } }) => strict), [true, false]);
  assert.deepEqual(options, {
    temperature: 0,
    topP: 0.5,
    maxTokens: 9,
    logprobs: true,
    topLogprobs: 2,
    constraint: { kind: "json_schema", value: '{"type":"object"}' },
    tools: [
      { name: "look", parameters: '{"type":"object"}', strict: true },
      { name: "see", parameters: '{"type":"object"}', strict: false },
    ],
    toolChoice: { name: "look" },
    parallelToolCalls: false,
  });
  assert.deepEqual(response.text.format, format);
  assert.deepEqual(response.tool_choice, { type: "function", name: "look" });
  assert.deepEqual(response.tools[0], { ...TOOL, strict: true });
  assert.equal(response.output[0].content[0].logprobs.length, 1);
});

test("items become messages: what an assistant thinks, says and calls is one", async () => {
  const calls = ["a", "b"].map((call_id) => ({ type: "function_call", call_id, name: "look", arguments: "{}" }));
  const messages = await messagesFor([
    { role: "developer", content: [{ type: "input_text", text: "Be brief." }] },
    { role: "user", content: "Hi" },
    { type: "reasoning", id: "rs_1", summary: [], content: [{ type: "reasoning_text", text: "Hm." }] },
    { type: "message", role: "assistant", content: [{ type: "output_text", text: "Let me see.", annotations: [] }] },
    ...calls,
    { type: "function_call_output", call_id: "a", output: "1" },
    { type: "function_call_output", call_id: "b", output: [{ type: "input_text", text: "2" }] },
    { role: "assistant", content: "Three." },
    { role: "user", content: "And?" },
  ]);
  assert.deepEqual(messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi" },
    {
      role: "assistant",
      content: "Let me see.",
      reasoning_content: "Hm.",
      tool_calls: ["a", "b"].map((id) => ({ id, type: "function", function: { name: "look", arguments: "{}" } })),
    },
    { role: "tool", tool_call_id: "a", content: "1" },
    { role: "tool", tool_call_id: "b", content: "2" },
    { role: "assistant", content: "Three." },
    { role: "user", content: "And?" },
  ]);
});

test("a response's output can be sent back, as it is, by references, or with what was thought sealed", async () => {
  const include = ["reasoning.encrypted_content"];
  const { worker, responses } = start([[think("Hmé."), call("look", "{}")], [say("1")], [say("2")], [say("3")]]);
  const first = await responses.create({ input: "Hi", tools: [TOOL], include });
  const [{ encrypted_content }, { call_id }] = first.output;
  const result = { type: "function_call_output", call_id, output: "it" };
  const hi = { role: "user", content: "Hi" };
  await responses.create({ input: [hi, ...first.output, result] });
  await responses.create({ input: [hi, ...first.output.map(({ id }) => ({ type: "item_reference", id })), result] });
  const sealed = { type: "reasoning", id: "rs_1", summary: [], encrypted_content };
  await responses.create({ input: [hi, sealed, first.output[1], result] });
  const sent = await Promise.all([1, 2, 3].map((nth) => worker.request("generate", nth)));
  const [expected, ...others] = sent.map(({ params }) => params.input.messages);
  assert.equal(expected[1].reasoning_content, "Hmé.");
  for (const messages of others) assert.deepEqual(messages, expected);
});

test("what is not stored cannot be continued", async () => {
  const { responses } = start([[say("1")]]);
  const { id } = await responses.create({ input: "Hi", store: false });
  const refused = pesiError("invalid_argument", { parameter: "previous_response_id" });
  await assert.rejects(responses.create({ input: "And?", previous_response_id: id }), refused);
});

test("an answer cut short is incomplete, and so is its last item", async () => {
  const { responses } = start([{ pieces: [think("Hm."), say("Hel")], finishReason: "length" }]);
  const stream = await responses.create({ input: "Hi", stream: true });
  const { type, response } = (await collect(stream)).at(-1);
  assert.equal(type, "response.incomplete");
  assert.deepEqual(response.incomplete_details, { reason: "max_output_tokens" });
  assert.deepEqual(response.output.map(({ status }) => status), ["completed", "incomplete"]);
});

test("events are not changed by what follows them", async () => {
  const { responses } = start([[say("a", "b")]]);
  const events = await collect(await responses.create({ input: "Hi", stream: true }));
  assert.deepEqual(events[0].response.output, []);
  assert.deepEqual(events[2].item.content, []);
  assert.equal(events[3].part.text, "");
  assert.equal(events.at(-1).response.output[0].content[0].text, "ab");
});

test("what cannot be honoured is refused by name", async () => {
  const { worker, responses } = start([]);
  const hi = { role: "user", content: "Hi" };
  for (const [params, parameter, kind = "unsupported"] of [
    [{ conversation: "c" }, "conversation"],
    [{ prompt: { id: "p" } }, "prompt"],
    [{ max_tool_calls: 1 }, "max_tool_calls"],
    [{ background: true }, "background"],
    [{ truncation: "auto" }, "truncation"],
    [{ include: ["file_search_call.results"] }, 'include "file_search_call.results"'],
    [{ reasoning: { summary: "auto" } }, "reasoning.summary"],
    [{ reasoning: { effort: "none" } }, 'reasoning.effort "none"'],
    [{ text: { verbosity: "low" } }, "text.verbosity"],
    [{ text: { format: { type: "grammar" } } }, 'text.format.type "grammar"'],
    [{ tools: [{ type: "web_search" }] }, 'tools[0].type "web_search"'],
    [{ input: [{ type: "computer_call" }] }, 'input[0].type "computer_call"'],
    [{ input: [{ ...hi, content: [{ type: "input_image" }] }] }, 'input[0].content[0].type "input_image"'],
    [{ input: undefined }, "input", "invalid_argument"],
    [{ input: [] }, "input", "invalid_argument"],
    [{ input: [{ type: "item_reference", id: "msg_none" }] }, "input[0].id", "invalid_argument"],
    [{ input: [{ type: "function_call_output", call_id: "x", output: "" }] }, "input[0].call_id", "invalid_argument"],
    [{ input: [{ type: "reasoning", encrypted_content: "gAAA" }] }, "input[0].encrypted_content", "invalid_argument"],
    [{ max_output_tokens: 0 }, "max_output_tokens", "invalid_argument"],
    [{ store: "no" }, "store", "invalid_argument"],
  ]) {
    await assert.rejects(responses.create({ input: "Hi", ...params }), pesiError(kind, { parameter }), parameter);
  }
  assert.deepEqual(worker.posted, []);
});
