import assert from "node:assert/strict";
import test from "node:test";

import * as params from "../../dist/chat-params.js";
import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { HARMONY, INFO, ScriptedWorker, generationResult, pesiError } from "./scripted-worker.mjs";

const MESSAGES = [{ role: "user", content: "Hi" }];

const TOOL = { type: "function", function: { name: "look", parameters: { type: "object" } } };

const chatRequest = (given) => params.chatRequest(given, INFO);

/** An answer in harmony: thought, something said on the way, a call of a tool, more thought, the answer. */
const HARMONY_TOKENS = [
  { text: "" },
  { text: "France?", channel: "analysis", messageIndex: 0 },
  { text: "", channel: "analysis", messageIndex: 0 },
  { text: " Easy.", channel: "analysis", messageIndex: 0 },
  { text: "" },
  { text: "Let me look.", channel: "commentary", messageIndex: 1 },
  { text: '{"q":1}', channel: "commentary", recipient: "functions.look", contentType: "json", messageIndex: 2 },
  { text: "print()", channel: "analysis", recipient: "python", messageIndex: 3 },
  { text: "Done.", channel: "analysis", messageIndex: 4 },
  { text: "Paris", channel: "final", messageIndex: 5 },
  { text: ".", channel: "final", messageIndex: 5 },
  { text: "", channel: "final", messageIndex: 5 },
];

function start(info = INFO) {
  const worker = new ScriptedWorker();
  return { worker, completions: new Model(new Connection(worker), info).chat.completions };
}

/** Asks, and plays the answer `tokens`: texts or further fields, each with its logarithm of a probability. */
async function play({ worker, completions }, params, tokens, result = generationResult(tokens.length)) {
  const answer = completions.create({ messages: MESSAGES, ...params });
  const { id } = await worker.request("generate");
  tokens.forEach((token, index) => {
    const fields = typeof token === "string" ? { text: token } : token;
    const bytes = [...Buffer.from(fields.text)];
    worker.event(id, [{ token: index, logprob: -0.25 * index, bytes, ...fields }]);
  });
  worker.result(id, result);
  return answer;
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a whole answer has OpenAI's shape", async () => {
  const before = Math.floor(Date.now() / 1000);
  const { id, created, ...rest } = await play(start(), { model: "gpt-oss" }, ["Hel", "lo"]);
  assert.match(id, /^chatcmpl-[0-9a-f]{32}$/);
  assert.ok(created >= before && created <= Date.now() / 1000);
  assert.deepEqual(rest, {
    object: "chat.completion",
    model: "test/model.gguf",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "Hello", refusal: null },
        logprobs: null,
        finish_reason: "stop",
      },
    ],
    usage: {
      prompt_tokens: 7,
      completion_tokens: 2,
      total_tokens: 9,
      prompt_tokens_details: { cached_tokens: 3 },
    },
  });
});

test("a streamed answer has OpenAI's shape: the role first, the reason for the end last", async () => {
  const stream = await play(start(), { stream: true }, ["Hel", "", "lo"], generationResult(3, "length"));
  const chunks = await collect(stream);
  const [{ id, created }] = chunks;
  for (const chunk of chunks) {
    assert.deepEqual(Object.keys(chunk), ["id", "object", "created", "model", "choices"]);
    assert.deepEqual(
      [chunk.id, chunk.created, chunk.object, chunk.model],
      [id, created, "chat.completion.chunk", "test/model.gguf"],
    );
  }
  const choice = (delta, finish_reason = null) => [{ index: 0, delta, logprobs: null, finish_reason }];
  assert.deepEqual(chunks.map(({ choices }) => choices), [
    choice({ role: "assistant", content: "", refusal: null }),
    choice({ content: "Hel" }),
    choice({ content: "lo" }),
    choice({}, "length"),
  ]);
});

test("include_usage adds a last chunk with the usage, and null to the others", async () => {
  const params = { stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await play(start(), params, ["a"]));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.total_tokens, 8);
  assert.deepEqual(chunks.map(({ usage }) => usage), [null, null, null]);
});

test("logprobs come per token with its own bytes, and none for one that is no text", async () => {
  const expected = [
    { token: "a\\xc3", logprob: -0, bytes: [0x61, 0xc3], top_logprobs: [] },
    { token: "\\xa9ü", logprob: -0.25, bytes: [0xa9, 0xc3, 0xbc], top_logprobs: [] },
    { token: "🦙", logprob: -0.5, bytes: [0xf0, 0x9f, 0xa6, 0x99], top_logprobs: [] },
  ];
  const texts = ["a", "éü", "🦙"];
  const said = texts.map((text, index) => ({ text, bytes: expected[index].bytes }));
  const tokens = [...said, { text: "", bytes: [] }];
  const whole = await play(start(), { logprobs: true }, tokens);
  assert.deepEqual(whole.choices[0].logprobs, { content: expected, refusal: null });
  const chunks = await collect(await play(start(), { logprobs: true, stream: true }, tokens));
  assert.deepEqual(
    chunks.slice(1, -1).flatMap(({ choices }) => choices[0].logprobs.content),
    expected,
  );
});

test("parameters reach the engine under its names, with OpenAI's default temperature", () => {
  assert.deepEqual(chatRequest({ messages: MESSAGES }).options, { temperature: 1 });
  const { options } = chatRequest({
    messages: MESSAGES,
    temperature: 0,
    top_p: 0.5,
    top_k: 40,
    min_p: 0.1,
    repetition_penalty: 1.1,
    frequency_penalty: 0.5,
    presence_penalty: -0.5,
    seed: 7,
    max_tokens: 3,
    max_completion_tokens: 4,
    stop: "END",
    logprobs: true,
  });
  assert.deepEqual(options, {
    temperature: 0,
    topP: 0.5,
    topK: 40,
    minP: 0.1,
    repetitionPenalty: 1.1,
    frequencyPenalty: 0.5,
    presencePenalty: -0.5,
    seed: 7,
    maxTokens: 4,
    stop: ["END"],
    logprobs: true,
  });
});

test("null counts as left out, and values that ask for nothing more are taken", () => {
  const nulls = ["temperature", "stop", "stream", "stream_options", "tools", "logit_bias", "n", "response_format", "foo"];
  const { options, stream } = chatRequest({
    messages: MESSAGES,
    ...Object.fromEntries(nulls.map((name) => [name, null])),
    user: "u",
    safety_identifier: "s",
    prompt_cache_key: "k",
  });
  assert.deepEqual([options, stream], [{ temperature: 1 }, false]);
  chatRequest({
    messages: MESSAGES,
    n: 1,
    top_logprobs: 0,
    store: false,
    response_format: { type: "text" },
    modalities: ["text"],
    stream: true,
    stream_options: { include_obfuscation: false },
  });
});

test("messages are put into the template's terms", () => {
  const { messages } = chatRequest({
    messages: [
      { role: "developer", content: "Be brief." },
      { role: "user", name: "Ada", content: [{ type: "text", text: "one" }, { type: "text", text: "two" }] },
      { role: "assistant", content: "three", refusal: null, annotations: [], tool_calls: undefined, audio: null },
    ],
  });
  assert.deepEqual(messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "one\ntwo", name: "Ada" },
    { role: "assistant", content: "three" },
  ]);
});

test("an answer's message can be sent back", async () => {
  const { choices } = await play(start(), {}, ["Hello"]);
  assert.deepEqual(chatRequest({ messages: [...MESSAGES, choices[0].message] }).messages[1], {
    role: "assistant",
    content: "Hello",
  });
});

test("what cannot be honoured is refused by name", () => {
  for (const [params, parameter] of [
    [{ tools: [{ type: "custom", custom: {} }] }, 'tools[0].type "custom"'],
    [{ tools: [{ type: "function", function: { name: "f", returns: {} } }] }, "tools[0].function.returns"],
    [{ tools: [TOOL], tool_choice: { type: "allowed_tools" } }, 'tool_choice.type "allowed_tools"'],
    [{ functions: [] }, "functions"],
    [{ function_call: "auto" }, "function_call"],
    [{ response_format: { type: "grammar" } }, 'response_format.type "grammar"'],
    [{ response_format: { type: "text", verbose: true } }, "response_format.verbose"],
    [{ prediction: { type: "content", content: "x" } }, "prediction"],
    [{ web_search_options: {} }, "web_search_options"],
    [{ verbosity: "low" }, "verbosity"],
    [{ service_tier: "flex" }, "service_tier"],
    [{ modalities: ["text", "audio"] }, "modalities"],
    [{ store: true }, "store"],
    [{ reasoning_effort: "minimal" }, 'reasoning_effort "minimal"'],
    [{ reasoning_effort: "none" }, 'reasoning_effort "none"'],
    [{ temprature: 1 }, "temprature"],
    [{ stream: true, stream_options: { include_obfuscation: true } }, "stream_options.include_obfuscation"],
    [{ stream: true, stream_options: { every: 2 } }, "stream_options.every"],
    [{ messages: [{ role: "function", content: "x" }] }, 'messages[0].role "function"'],
    [{ messages: [{ role: "assistant", content: "x", audio: { id: "a" } }] }, "messages[0].audio"],
    [{ messages: [{ role: "user", content: "x", tool_calls: [] }] }, "messages[0].tool_calls"],
    [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, 'messages[0].content[0].type "image_url"'],
  ]) {
    assert.throws(
      () => chatRequest({ messages: MESSAGES, ...params }),
      pesiError("unsupported", { parameter }),
      JSON.stringify(params),
    );
  }
});

test("values that cannot be used are refused by name", () => {
  for (const [params, parameter] of [
    [{ messages: undefined }, "messages"],
    [{ messages: [] }, "messages"],
    [{ messages: "Hi" }, "messages"],
    [{ messages: [null] }, "messages[0]"],
    [{ messages: [{ content: "x" }] }, "messages[0].role"],
    [{ messages: [{ role: "robot", content: "x" }] }, "messages[0].role"],
    [{ messages: [{ role: "user" }] }, "messages[0].content"],
    [{ messages: [{ role: "user", content: [] }] }, "messages[0].content"],
    [{ messages: [{ role: "user", content: ["x"] }] }, "messages[0].content[0]"],
    [{ messages: [{ role: "user", content: [{ type: "text" }] }] }, "messages[0].content[0].text"],
    [{ messages: [{ role: "user", content: "x", name: 1 }] }, "messages[0].name"],
    [{ temperature: 2.001 }, "temperature"],
    [{ temperature: "1" }, "temperature"],
    [{ top_p: 0 }, "top_p"],
    [{ max_tokens: 0 }, "max_tokens"],
    [{ max_completion_tokens: 1.5 }, "max_completion_tokens"],
    [{ seed: -1 }, "seed"],
    [{ stop: ["a", "b", "c", "d", "e"] }, "stop"],
    [{ stop: [""] }, "stop[0]"],
    [{ stream: "yes" }, "stream"],
    [{ stream_options: {} }, "stream_options"],
    [{ logprobs: 1 }, "logprobs"],
    [{ reasoning_effort: "extreme" }, "reasoning_effort"],
    [{ reasoning_effort: 1 }, "reasoning_effort"],
    [{ messages: [{ role: "user", content: "x", reasoning: "y" }] }, "messages[0].reasoning_content"],
    [{ messages: [{ role: "assistant", content: "x", reasoning: 1 }] }, "messages[0].reasoning"],
    [
      { messages: [{ role: "assistant", content: "x", reasoning: "y", reasoning_content: "z" }] },
      "messages[0].reasoning",
    ],
    [{ user: 5 }, "user"],
    [{ metadata: { a: 1 } }, "metadata.a"],
    [{ n: 0 }, "n"],
    [{ n: 129 }, "n"],
    [{ top_logprobs: 5 }, "top_logprobs"],
    [{ top_logprobs: 21, logprobs: true }, "top_logprobs"],
    [{ logit_bias: { 100: 1 } }, "logit_bias"],
    [{ logit_bias: { x: 1 } }, "logit_bias"],
    [{ logit_bias: { 5: 101 } }, "logit_bias.5"],
    [{ response_format: "text" }, "response_format"],
    [{ response_format: { type: "json_schema" } }, "response_format.json_schema"],
    [{ response_format: { type: "json_schema", json_schema: { name: "a" } } }, "response_format.json_schema.schema"],
    [{ tools: TOOL }, "tools"],
    [{ tools: [{ type: "function" }] }, "tools[0].function"],
    [{ tools: [{ type: "function", function: { name: "a b" } }] }, "tools[0].function.name"],
    [{ tool_choice: "auto" }, "tool_choice"],
    [{ tools: [TOOL], tool_choice: "some" }, "tool_choice"],
    [{ tools: [TOOL], tool_choice: { type: "function", function: { name: "g" } } }, "tool_choice.function.name"],
    [{ tools: [TOOL], parallel_tool_calls: "no" }, "parallel_tool_calls"],
    [{ messages: [{ role: "tool", content: "x", tool_call_id: "1" }] }, "messages[0].tool_call_id"],
    [{ messages: [{ role: "assistant", tool_calls: [{ type: "function" }] }] }, "messages[0].tool_calls[0].function"],
  ]) {
    assert.throws(
      () => chatRequest({ messages: MESSAGES, ...params }),
      pesiError("invalid_argument", { parameter }),
      JSON.stringify(params),
    );
  }
});

test("a failure before the first token rejects create, streaming or not", async () => {
  for (const stream of [false, true]) {
    const { worker, completions } = start();
    const answer = completions.create({ messages: MESSAGES, stream });
    worker.error((await worker.request("generate")).id, "context_exceeded");
    await assert.rejects(answer, pesiError("context_exceeded"));
  }
});

test("a failure in the middle is thrown by the iteration, after what came before", async () => {
  const { worker, completions } = start();
  const answer = completions.create({ messages: MESSAGES, stream: true });
  const { id } = await worker.request("generate");
  worker.event(id, [{ token: 1, text: "a" }]);
  const stream = await answer;
  worker.error(id, "device_lost");
  const texts = [];
  await assert.rejects(async () => {
    for await (const { choices } of stream) texts.push(choices[0].delta.content);
  }, pesiError("device_lost"));
  assert.deepEqual(texts, ["", "a"]);
});

test("aborting the signal throws; the stream's own controller ends the iteration quietly", async () => {
  for (const own of [false, true]) {
    const { worker, completions } = start();
    const controller = new AbortController();
    const answer = completions.create({ messages: MESSAGES, stream: true }, { signal: controller.signal });
    const { id } = await worker.request("generate");
    worker.event(id, [{ token: 1, text: "a" }]);
    const stream = await answer;
    const read = async () => {
      for await (const chunk of stream) (own ? stream.controller : controller).abort(chunk);
    };
    if (own) await read();
    else await assert.rejects(read, pesiError("aborted"));
    assert.ok(worker.posted.some((message) => message.type === "cancel" && message.id === id));
  }
});

test("what the model thinks comes beside what it says, under both names, and is counted", async () => {
  const { choices, usage } = await play(start(HARMONY), {}, HARMONY_TOKENS);
  assert.deepEqual(choices[0], {
    index: 0,
    message: {
      role: "assistant",
      content: "Let me look.\n\nParis.",
      refusal: null,
      reasoning_content: "France? Easy.\n\nDone.",
      reasoning: "France? Easy.\n\nDone.",
    },
    logprobs: null,
    finish_reason: "stop",
  });
  assert.deepEqual(usage.completion_tokens_details, { reasoning_tokens: 4 });
});

test("a stream tells what is thought and what is said as it comes, and leaves out calls of tools", async () => {
  const params = { stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await play(start(HARMONY), params, HARMONY_TOKENS));
  const thought = (text) => ({ reasoning_content: text, reasoning: text });
  assert.deepEqual(chunks.slice(1, -2).map(({ choices }) => choices[0].delta), [
    thought("France?"),
    thought(" Easy."),
    { content: "Let me look." },
    thought("\n\nDone."),
    { content: "\n\nParis" },
    { content: "." },
  ]);
  assert.equal(chunks.at(-2).choices[0].finish_reason, "stop");
  assert.deepEqual(chunks.at(-1).usage.completion_tokens_details, { reasoning_tokens: 4 });
});

test("logprobs are those of what is said", async () => {
  const whole = await play(start(HARMONY), { logprobs: true }, HARMONY_TOKENS);
  const { content } = whole.choices[0].logprobs;
  assert.deepEqual(content.map(({ token }) => token), ["Let me look.", "Paris", "."]);
  const chunks = await collect(await play(start(HARMONY), { logprobs: true, stream: true }, HARMONY_TOKENS));
  assert.deepEqual(
    chunks.flatMap(({ choices }) => choices[0].logprobs?.content ?? []),
    content,
  );
});

test("what is malformed is shown, with a phrase on it", async () => {
  const malformed = "The answer ends within a header.";
  const tokens = [{ text: "Pa", channel: "final", messageIndex: 0 }, { text: "<|oops|>", malformed }, "ris"];
  const { choices } = await play(start(HARMONY), {}, tokens);
  assert.equal(choices[0].malformed, malformed);
  assert.equal(choices[0].message.content, "Pa\n\n<|oops|>ris");
  const chunks = await collect(await play(start(HARMONY), { stream: true }, [{ text: "", malformed }]));
  assert.deepEqual(chunks[1].choices[0], { index: 0, delta: {}, logprobs: null, finish_reason: null, malformed });
});

test("a model with a template can think and call, and one token can tell of several messages", async () => {
  const call = { channel: "commentary", recipient: "functions.find", contentType: "json", messageIndex: 2 };
  const tokens = [
    { text: "Hm", channel: "analysis", messageIndex: 0 },
    { text: ".", channel: "analysis", messageIndex: 0 },
    { text: "So", channel: "final", messageIndex: 1, token: 1, continues: true },
    { text: "{}", ...call },
    { text: "", ...call },
  ];
  const further = [...tokens, { text: "!", channel: "analysis", messageIndex: 3, token: 4, continues: true }];
  const { choices, usage } = await play(start(), {}, further, generationResult(4));
  assert.equal(choices[0].message.content, "So");
  assert.equal(choices[0].message.reasoning_content, "Hm.\n\n!");
  assert.deepEqual(usage.completion_tokens_details, { reasoning_tokens: 2 });
  const silent = await play(start(), {}, ["Hi"]);
  assert.equal(silent.usage.completion_tokens_details, undefined);
});

test("what the model writes in the name of others is neither said nor thought", async () => {
  const malformed = "a message is not from the assistant";
  const invented = (text, fields) => ({ text, otherAuthor: true, ...fields });
  const tokens = [
    { text: "Sure.", channel: "final", messageIndex: 0 },
    invented("", { messageIndex: 1, malformed }),
    invented("And of Spain?", { messageIndex: 1 }),
    invented("It is warm.", { channel: "commentary", messageIndex: 2, malformed }),
    invented("Hm.", { channel: "analysis", messageIndex: 3, malformed }),
    { text: "Madrid", channel: "final", messageIndex: 4 },
  ];
  const { choices, usage } = await play(start(HARMONY), { logprobs: true }, tokens);
  assert.deepEqual(choices[0].message, { role: "assistant", content: "Sure.\n\nMadrid", refusal: null });
  assert.deepEqual(choices[0].logprobs.content.map(({ token }) => token), ["Sure.", "Madrid"]);
  assert.equal(choices[0].malformed, malformed);
  assert.equal(usage.completion_tokens_details.reasoning_tokens, 0);
  const chunks = await collect(await play(start(HARMONY), { stream: true }, tokens));
  const pieces = chunks.slice(1, -1).map(({ choices: [{ delta, malformed }] }) => [delta, malformed]);
  assert.deepEqual(pieces, [
    [{ content: "Sure." }, undefined],
    [{}, malformed],
    [{}, malformed],
    [{}, malformed],
    [{ content: "\n\nMadrid" }, undefined],
  ]);
});

test("the effort and what was thought before reach the engine", async () => {
  const { worker, completions } = start(HARMONY);
  const turn = { role: "assistant", content: "Paris.", refusal: null, reasoning_content: "Easy.", reasoning: "Easy." };
  const untold = { role: "assistant", content: "Hm.", reasoning: "", reasoning_content: null };
  const messages = [...MESSAGES, turn, ...MESSAGES, untold, ...MESSAGES];
  const answer = completions.create({ messages, reasoning_effort: "high" });
  const { id, params } = await worker.request("generate");
  assert.deepEqual(params.input, {
    kind: "messages",
    messages: [
      ...MESSAGES,
      { role: "assistant", content: "Paris.", reasoning_content: "Easy." },
      ...MESSAGES,
      { role: "assistant", content: "Hm." },
      ...MESSAGES,
    ],
    options: { reasoningEffort: "high" },
  });
  worker.result(id, generationResult(0));
  await answer;
  assert.deepEqual(chatRequest({ messages: MESSAGES }).chatOptions, {});
});

test("options beside the signal, and models without a chat template, are refused", async () => {
  const { worker, completions } = start({ ...INFO, chatTemplate: false, chatFormat: "none" });
  await assert.rejects(completions.create({ messages: MESSAGES }), pesiError("unsupported"));
  await assert.rejects(completions.create({ messages: MESSAGES }, { timeout: 5 }), pesiError("invalid_argument"));
  assert.deepEqual(worker.posted, []);
});
