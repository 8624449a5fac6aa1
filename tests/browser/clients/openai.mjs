/** OpenAI's own package in a page: what each of its APIs gives, in which order, at what cost and why it ended. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { call, say, think } from "../../js/answering-worker.mjs";

/** A real model that talks. */
export function testTalk(pages) {
  const evaluate = (...args) => pages.talk.evaluate(...args);

  test("OpenAI's chat: whole, streamed and through the helper for streams, one answer", async () => {
    const { whole, chunks, helped } = await evaluate(async () => {
      const { openai, collect } = globalThis;
      const messages = [{ role: "user", content: "What is the capital of France?" }];
      const params = { model: "any", temperature: 0, messages, max_tokens: 12 };
      const whole = await openai.chat.completions.create(params);
      const streaming = { ...params, stream_options: { include_usage: true } };
      const chunks = await collect(await openai.chat.completions.create({ ...streaming, stream: true }));
      const events = [];
      const runner = openai.chat.completions.stream(streaming);
      for (const name of ["connect", "chunk", "content.delta", "content.done", "message", "end"]) {
        runner.on(name, () => events.push(name));
      }
      const texts = [];
      runner.on("content", (delta, snapshot) => texts.push([delta, snapshot]));
      const final = await runner.finalChatCompletion();
      const helped = { events, texts, final, content: await runner.finalContent(), usage: await runner.totalUsage() };
      return { whole, chunks, helped };
    });
    const [choice] = whole.choices;
    assert.match(choice.message.content, /Paris/);
    assert.deepEqual([choice.index, choice.message.role, choice.finish_reason], [0, "assistant", "stop"]);
    assert.equal(whole.object, "chat.completion");
    const { prompt_tokens, completion_tokens, total_tokens } = whole.usage;
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
    assert.ok(prompt_tokens > 20 && completion_tokens > 5, JSON.stringify(whole.usage));

    const [first, ...others] = chunks;
    const [usage, end] = [others.pop(), others.pop()];
    assert.deepEqual(first.choices[0].delta, { role: "assistant", content: "", refusal: null });
    assert.deepEqual(others.map(({ choices }) => Object.keys(choices[0].delta)), others.map(() => ["content"]));
    assert.equal(others.map(({ choices }) => choices[0].delta.content).join(""), choice.message.content);
    assert.deepEqual(end.choices, [{ index: 0, delta: {}, logprobs: null, finish_reason: "stop" }]);
    assert.deepEqual(usage.choices, []);
    assert.deepEqual(count(usage.usage), count(whole.usage));
    assert.deepEqual(chunks.filter(({ usage }) => usage !== null).length, 1);
    assert.deepEqual(chunks.map(({ object }) => object), chunks.map(() => "chat.completion.chunk"));
    assert.deepEqual(chunks.map(({ id }) => id), chunks.map(() => first.id));

    const { events, texts } = helped;
    assert.equal(events[0], "connect");
    assert.equal(events.at(-1), "end");
    assert.equal(events.filter((name) => name === "chunk").length, chunks.length);
    assert.equal(events.filter((name) => name === "content.done").length, 1);
    assert.ok(events.indexOf("content.done") > events.lastIndexOf("content.delta"));
    assert.ok(events.indexOf("message") > events.indexOf("content.done"));
    assert.equal(texts.at(-1)[1], texts.map(([delta]) => delta).join(""));
    assert.equal(helped.content, choice.message.content);
    assert.equal(helped.final.choices[0].finish_reason, "stop");
    assert.deepEqual(count(helped.usage), count(whole.usage));
  });

  test("OpenAI's chat: several choices, stop strings, lengths and seeds", async () => {
    const told = await evaluate(async () => {
      const { openai } = globalThis;
      const messages = [{ role: "user", content: "What is the capital of France?" }];
      const ask = (params) => openai.chat.completions.create({ model: "any", messages, ...params });
      const several = { n: 2, seed: 5, temperature: 1.2, max_tokens: 6 };
      const two = await ask(several);
      const runner = openai.chat.completions.stream({ model: "any", messages, ...several });
      return {
        two,
        again: (await runner.finalChatCompletion()).choices.map(({ message }) => message.content),
        stopped: (await ask({ temperature: 0, stop: [" Paris"] })).choices[0],
        cut: await ask({ temperature: 0, max_completion_tokens: 3 }),
      };
    });
    const contents = told.two.choices.map(({ message }) => message.content);
    assert.deepEqual(told.two.choices.map(({ index, finish_reason }) => [index, finish_reason]), [
      [0, "length"],
      [1, "length"],
    ]);
    assert.equal(told.two.usage.completion_tokens, 12);
    assert.notEqual(contents[0], contents[1]);
    assert.deepEqual(told.again, contents);
    assert.equal(told.stopped.message.content, "The capital of France is");
    assert.equal(told.stopped.finish_reason, "stop");
    assert.deepEqual([told.cut.choices[0].finish_reason, told.cut.usage.completion_tokens], ["length", 3]);
  });

  test("OpenAI's chat: an answer by a zod schema, biases and the likeliest tokens", async () => {
    const told = await evaluate(async () => {
      const { openai, sdk, model } = globalThis;
      const common = { model: "any", temperature: 0, messages: [{ role: "user", content: "Is Rome in Italy?" }] };
      const Place = sdk.z.object({ city: sdk.z.enum(["Rome", "Paris"]), sure: sdk.z.boolean() });
      const response_format = sdk.zodResponseFormat(Place, "place");
      const whole = await openai.chat.completions.parse({ ...common, response_format, max_tokens: 40 });
      const runner = openai.chat.completions.stream({ ...common, response_format, max_tokens: 40 });
      const streamed = await runner.finalChatCompletion();
      const likely = { logprobs: true, top_logprobs: 3, max_tokens: 1 };
      const first = await openai.chat.completions.create({ ...common, ...likely });
      const [token] = first.choices[0].logprobs.content;
      const [id] = await model.encode(token.token);
      const biased = await openai.chat.completions.create({ ...common, ...likely, logit_bias: { [id]: -100 } });
      return { whole, streamed, token, instead: biased.choices[0].message.content };
    });
    const { message, finish_reason } = told.whole.choices[0];
    assert.match(message.parsed.city, /^(Rome|Paris)$/);
    assert.equal(typeof message.parsed.sure, "boolean");
    assert.deepEqual(message.parsed, JSON.parse(message.content));
    assert.equal(finish_reason, "stop");
    assert.deepEqual(told.streamed.choices[0].message.parsed, message.parsed);
    const { top_logprobs: top, ...token } = told.token;
    assert.equal(top.length, 3);
    assert.deepEqual({ ...top[0] }, token);
    assert.deepEqual(token.bytes, [...new TextEncoder().encode(token.token)]);
    assert.ok(top[0].logprob > top[1].logprob && top[1].logprob >= top[2].logprob);
    assert.notEqual(told.instead, token.token);
  });

  test("OpenAI's chat: log probabilities have the bytes of their tokens, also of parts of characters", async () => {
    const content = await evaluate(async () => {
      const { openai } = globalThis;
      const schema = { const: "🦙 ǅ" };
      const { choices } = await openai.chat.completions.create({
        model: "any",
        messages: [{ role: "user", content: "Draw a llama." }],
        response_format: { type: "json_schema", json_schema: { name: "drawn", schema, strict: true } },
        logprobs: true,
        top_logprobs: 20,
        max_tokens: 40,
      });
      return { text: choices[0].message.content, entries: choices[0].logprobs.content };
    });
    const { text, entries } = content;
    assert.equal(JSON.parse(text), "🦙 ǅ");
    assert.equal(Buffer.from(entries.flatMap(({ bytes }) => bytes)).toString(), text);
    const isWhole = (bytes) => !Buffer.from(bytes).toString().includes("\uFFFD");
    const parts = entries.filter(({ bytes }) => !isWhole(bytes));
    assert.ok(parts.length >= 2, JSON.stringify(entries.map(({ token }) => token)));
    for (const entry of entries.flatMap(({ token, bytes, top_logprobs }) => [{ token, bytes }, ...top_logprobs])) {
      if (isWhole(entry.bytes)) assert.equal(entry.token, Buffer.from(entry.bytes).toString());
      else assert.match(entry.token, /\\x[0-9a-f]{2}/);
    }
    for (const { top_logprobs } of entries) {
      assert.equal(new Set(top_logprobs.map(({ bytes }) => bytes.join())).size, 20);
    }
  });

  test("OpenAI's responses: whole, streamed, continued, cut and forgotten", async () => {
    const told = await evaluate(async () => {
      const { openai, collect } = globalThis;
      const common = { model: "any", temperature: 0 };
      const input = "What is the capital of France?";
      const whole = await openai.responses.create({ ...common, input, max_output_tokens: 12 });
      const stream = openai.responses.stream({ ...common, input, max_output_tokens: 12 });
      const events = await collect(stream);
      const final = await stream.finalResponse();
      const next = { ...common, previous_response_id: whole.id, input: "And of Italy?", max_output_tokens: 4 };
      const cut = await collect(await openai.responses.create({ ...next, stream: true }));
      await openai.responses.delete(whole.id);
      const gone = await openai.responses.create(next).catch(({ status, code }) => [status, code]);
      return { whole, events, final, cut, gone };
    });
    const { whole, events } = told;
    assert.match(whole.output_text, /Paris/);
    const [said, ...others] = whole.output;
    assert.deepEqual([said.type, said.role, said.status, others], ["message", "assistant", "completed", []]);
    assert.equal(whole.usage.total_tokens, whole.usage.input_tokens + whole.usage.output_tokens);
    assert.deepEqual(events.map(({ sequence_number }) => sequence_number), events.map((_, index) => index));
    const names = events.map(({ type }) => type).filter((name, at, all) => name !== all[at - 1]);
    assert.deepEqual(names, [
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
    const deltas = events.filter(({ type }) => type === "response.output_text.delta");
    assert.equal(deltas.map(({ delta }) => delta).join(""), whole.output_text);
    assert.equal(told.final.output_text, whole.output_text);
    assert.equal(told.final.status, "completed");
    assert.equal(told.final.usage.output_tokens, whole.usage.output_tokens);
    const { type, response } = told.cut.at(-1);
    assert.deepEqual([type, response.status], ["response.incomplete", "incomplete"]);
    assert.deepEqual(response.incomplete_details, { reason: "max_output_tokens" });
    assert.equal(response.usage.output_tokens, 4);
    assert.ok(response.usage.input_tokens > whole.usage.total_tokens);
    assert.ok(response.usage.input_tokens_details.cached_tokens >= whole.usage.input_tokens);
    assert.deepEqual(told.gone, [400, "previous_response_not_found"]);
  });

  test("OpenAI's completions and models", async () => {
    const told = await evaluate(async () => {
      const { openai, collect } = globalThis;
      const params = { model: "any", temperature: 0, prompt: "One, two, three,", max_tokens: 3 };
      return {
        whole: await openai.completions.create({ ...params, logprobs: 2, echo: false }),
        chunks: await collect(await openai.completions.create({ ...params, stream: true })),
        models: (await openai.models.list()).data,
        found: await openai.models.retrieve(globalThis.model.info.id),
        missing: await openai.models.retrieve("gpt-none").catch(({ status, code }) => [status, code]),
      };
    });
    const [{ text, finish_reason, logprobs }] = told.whole.choices;
    assert.match(text, /four/);
    assert.equal(finish_reason, "length");
    assert.equal(told.whole.usage.completion_tokens, 3);
    assert.equal(logprobs.tokens.join(""), text);
    assert.deepEqual(logprobs.top_logprobs.map((top) => Object.keys(top).length), [2, 2, 2]);
    assert.equal(told.chunks.map(({ choices }) => choices[0].text).join(""), text);
    assert.deepEqual(told.chunks.map(({ choices }) => choices[0].finish_reason), [null, null, null, "length"]);
    assert.deepEqual(told.models, [told.found]);
    assert.deepEqual([told.found.object, told.found.owned_by], ["model", "pesi"]);
    assert.deepEqual(told.missing, [404, "model_not_found"]);
  });

  test("OpenAI's: what is aborted or refused leaves the model as it was", async () => {
    const told = await evaluate(async () => {
      const { openai } = globalThis;
      const long = { model: "any", messages: [{ role: "user", content: "Tell me a long story." }], max_tokens: 1000 };
      const failure = (error) => [error.constructor.name, error.status ?? null, error.param ?? null];
      const whole = await openai.chat.completions.create(long, { signal: AbortSignal.timeout(100) }).catch(failure);
      let count = 0;
      const stream = await openai.chat.completions.create({ ...long, stream: true });
      for await (const _ of stream) if ((count += 1) === 4) stream.controller.abort();
      const runner = openai.chat.completions.stream(long);
      runner.once("content", () => runner.abort());
      const helped = await runner.finalContent().catch(failure);
      const timeout = await openai.chat.completions.create(long, { timeout: 100, maxRetries: 0 }).catch(failure);
      const refused = await openai.chat.completions.create({ ...long, audio: {} }).catch(failure);
      const messages = [{ role: "user", content: "What is the capital of France?" }];
      const after = await openai.chat.completions.create({ model: "any", temperature: 0, messages, max_tokens: 12 });
      return { failures: [whole, helped, timeout, refused], count, after: after.choices[0].message.content };
    });
    assert.deepEqual(told.failures, [
      ["APIUserAbortError", null, null],
      ["APIUserAbortError", null, null],
      ["APIConnectionTimeoutError", null, null],
      ["BadRequestError", 400, "audio"],
    ]);
    assert.equal(told.count, 4);
    assert.match(told.after, /Paris/);
  });
}

/** A real model that says nothing sensible, in harmony, and does what it is held to. */
export function testDemands(pages) {
  const evaluate = (...args) => pages.demands.evaluate(...args);

  test("OpenAI's chat: a tool that is demanded is called by its schema, and its result taken", async () => {
    const told = await evaluate(async () => {
      const { openai, sdk, biases } = globalThis;
      const common = { model: "any", temperature: 0, max_tokens: 200 };
      const Where = sdk.z.object({ city: sdk.z.enum(["Rome", "Paris"]) });
      const tools = [sdk.zodFunction({ name: "weather", parameters: Where })];
      const messages = [{ role: "user", content: "How is it in Rome?" }];
      const calling = { ...common, logit_bias: await biases({ "<|end|>": 100 }), tools };
      const events = [];
      const runner = openai.chat.completions
        .stream({ ...calling, messages, tool_choice: "required", stream_options: { include_usage: true } })
        .on("tool_calls.function.arguments.delta", ({ arguments_delta }) => events.push(arguments_delta))
        .on("tool_calls.function.arguments.done", (done) => events.push(done));
      const { choices, usage } = await runner.finalChatCompletion();
      const [{ message, finish_reason }] = choices;
      const [{ id }] = message.tool_calls;
      const named = { type: "function", function: { name: "weather" } };
      const conversation = [...messages, message, { role: "tool", tool_call_id: id, content: "sun" }];
      const again = await openai.chat.completions.parse({ ...calling, messages: conversation, tool_choice: named });
      // It says what the form of the answer leaves it no choice but to say.
      const Answer = sdk.z.object({ sky: sdk.z.literal("clear") });
      const logit_bias = await biases({ "<|end|>": 100, final: 50 });
      const answering = { ...common, logit_bias, tools, tool_choice: "none" };
      const response_format = sdk.zodResponseFormat(Answer, "answer");
      const answer = await openai.chat.completions.parse({ ...answering, messages: conversation, response_format });
      return { events, message, finish_reason, usage, again, answer };
    });
    const { message, usage } = told;
    const [called] = message.tool_calls;
    assert.deepEqual([told.finish_reason, message.content], ["tool_calls", null]);
    assert.match(called.id, /^call_/);
    assert.deepEqual([called.type, called.function.name], ["function", "weather"]);
    assert.match(called.function.parsed_arguments.city, /^(Rome|Paris)$/);
    const done = told.events.pop();
    assert.equal(told.events.join(""), called.function.arguments);
    assert.deepEqual([done.name, done.index, done.arguments], ["weather", 0, called.function.arguments]);
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
    assert.ok(usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens);
    const [again] = told.again.choices;
    assert.equal(again.finish_reason, "tool_calls");
    assert.match(again.message.tool_calls[0].function.parsed_arguments.city, /^(Rome|Paris)$/);
    assert.notEqual(again.message.tool_calls[0].id, called.id);
    const [answer] = told.answer.choices;
    assert.deepEqual([answer.finish_reason, answer.message.parsed], ["stop", { sky: "clear" }]);
    assert.equal(answer.message.tool_calls?.length ?? 0, 0);
    assert.ok(told.answer.usage.prompt_tokens > usage.total_tokens - usage.completion_tokens);
  });

  for (const stream of [false, true]) {
    test(`OpenAI's runTools: the model calls, and calls again, ${stream ? "streamed" : "whole"}`, async () => {
      const told = await evaluate(async (stream) => {
        const { openai, sdk, biases } = globalThis;
        const asked = [];
        const add = sdk.zodFunction({
          name: "add",
          parameters: sdk.z.object({ a: sdk.z.enum(["1", "2"]), b: sdk.z.boolean() }),
          function: (args) => {
            asked.push(args);
            return "3";
          },
        });
        const runner = openai.chat.completions.runTools(
          {
            model: "any",
            stream,
            temperature: 0,
            max_tokens: 200,
            logit_bias: await biases({ "<|end|>": 100 }),
            messages: [{ role: "user", content: "Add." }],
            tools: [add],
            tool_choice: "required",
          },
          { maxChatCompletions: 2 },
        );
        const events = [];
        for (const name of ["message", "functionToolCall", "functionToolCallResult"]) {
          runner.on(name, () => events.push(name));
        }
        await runner.done();
        const reasons = runner.allChatCompletions().map(({ choices }) => choices[0].finish_reason);
        const [, first, answered] = runner.messages;
        const ids = [first.tool_calls[0].id, answered.tool_call_id];
        return { asked, events, reasons, ids, content: answered.content };
      }, stream);
      assert.equal(told.asked.length, 2);
      for (const { a, b } of told.asked) assert.deepEqual([/^[12]$/.test(a), typeof b], [true, "boolean"]);
      const round = ["message", "functionToolCall", "message", "functionToolCallResult"];
      assert.deepEqual([...told.events].sort(), [...round, ...round].sort());
      assert.deepEqual(told.events.filter((name) => name !== "message"), [
        ...["functionToolCall", "functionToolCallResult"],
        ...["functionToolCall", "functionToolCallResult"],
      ]);
      assert.deepEqual(told.reasons, ["tool_calls", "tool_calls"]);
      assert.equal(told.ids[0], told.ids[1]);
      assert.equal(told.content, "3");
    });
  }
}

/** Answers that a test gives, token by token. */
export function testPlayed(pages) {
  for (const stream of [false, true]) {
    test(`OpenAI's runTools: two calls at once, and the answer, ${stream ? "streamed" : "whole"}`, async () => {
      const { page, answers, asked } = pages.played;
      const calls = [call("weather", '{"city":', '"Rome"}'), call("weather", '{"city":"Oslo"}')];
      answers.splice(0, Infinity, [think("Both", "."), ...calls], [think("Hm."), say("Sun", " and snow.")]);
      asked.length = 0;
      const told = await page.evaluate(async (stream) => {
        const { openai } = globalThis;
        const weather = {
          name: "weather",
          description: "Tells the weather.",
          parameters: { type: "object", properties: { city: { type: "string" } } },
          parse: JSON.parse,
          function: ({ city }) => (city === "Rome" ? "sun" : "snow"),
        };
        const runner = openai.chat.completions.runTools({
          model: "any",
          stream,
          messages: [{ role: "user", content: "Rome or Oslo?" }],
          tools: [{ type: "function", function: weather }],
          ...(stream ? { stream_options: { include_usage: true } } : {}),
        });
        const final = await runner.finalContent();
        const completions = runner.allChatCompletions();
        return {
          final,
          reasons: completions.map(({ choices }) => choices[0].finish_reason),
          usage: await runner.totalUsage(),
          messages: runner.messages.map(({ role, content }) => [role, content || null]),
          thought: completions.map(({ choices }) => choices[0].message.reasoning_content),
        };
      }, stream);
      assert.equal(told.final, "Sun and snow.");
      assert.deepEqual(told.reasons, ["tool_calls", "stop"]);
      assert.deepEqual([told.usage.prompt_tokens, told.usage.completion_tokens], [14, 5 + 3]);
      assert.deepEqual(told.messages, [
        ["user", "Rome or Oslo?"],
        ["assistant", null],
        ["tool", "sun"],
        ["tool", "snow"],
        ["assistant", "Sun and snow."],
      ]);
      if (!stream) assert.deepEqual(told.thought, ["Both.", "Hm."]);
      const [, calling, ...results] = asked[1].input.messages;
      assert.deepEqual(calling.tool_calls.map(({ function: { arguments: written } }) => written), [
        '{"city":"Rome"}',
        '{"city":"Oslo"}',
      ]);
      assert.deepEqual(results.map(({ tool_call_id }) => tool_call_id), calling.tool_calls.map(({ id }) => id));
    });
  }

  test("OpenAI's responses: thoughts, a call, its output, and an answer by a schema", async () => {
    const { page, answers, asked } = pages.played;
    const first = [think("Rome", "?"), call("weather", '{"city":', '"Rome"}')];
    answers.splice(0, Infinity, first, [say('{"sky":', '"clear"}')]);
    asked.length = 0;
    const told = await page.evaluate(async () => {
      const { openai, sdk, collect } = globalThis;
      const tools = [sdk.zodResponsesFunction({ name: "weather", parameters: sdk.z.object({ city: sdk.z.string() }) })];
      const stream = openai.responses.stream({ model: "any", input: "How is it in Rome?", tools });
      const events = await collect(stream);
      const first = await stream.finalResponse();
      const { call_id } = first.output.find(({ type }) => type === "function_call");
      const second = await openai.responses.parse({
        model: "any",
        previous_response_id: first.id,
        input: [{ type: "function_call_output", call_id, output: "sun" }],
        text: { format: sdk.zodTextFormat(sdk.z.object({ sky: sdk.z.string() }), "answer") },
      });
      return { events, first, second };
    });
    const { events, first: calling, second } = told;
    assert.deepEqual(events.map(({ sequence_number }) => sequence_number), events.map((_, index) => index));
    assert.deepEqual(events.map(({ type, delta }) => [type.replace("response.", ""), delta ?? null]), [
      ["created", null],
      ["in_progress", null],
      ["output_item.added", null],
      ["content_part.added", null],
      ["reasoning_text.delta", "Rome"],
      ["reasoning_text.delta", "?"],
      ["reasoning_text.done", null],
      ["content_part.done", null],
      ["output_item.done", null],
      ["output_item.added", null],
      ["function_call_arguments.delta", '{"city":'],
      ["function_call_arguments.delta", '"Rome"}'],
      ["function_call_arguments.done", null],
      ["output_item.done", null],
      ["completed", null],
    ]);
    const [reasoning, called] = calling.output;
    assert.deepEqual([reasoning.type, reasoning.content[0].text], ["reasoning", "Rome?"]);
    assert.deepEqual([called.name, called.parsed_arguments, called.status], ["weather", { city: "Rome" }, "completed"]);
    assert.deepEqual([calling.usage.output_tokens, calling.usage.output_tokens_details.reasoning_tokens], [4, 2]);
    assert.deepEqual([second.status, second.output_parsed], ["completed", { sky: "clear" }]);
    assert.equal(second.previous_response_id, calling.id);
    const [, assistant, result] = asked[1].input.messages;
    assert.deepEqual([assistant.reasoning_content, result.content], ["Rome?", "sun"]);
    assert.equal(result.tool_call_id, assistant.tool_calls[0].id);
    assert.equal(asked[1].options.constraint.kind, "json_schema");
  });
}

function count({ prompt_tokens, completion_tokens, total_tokens }) {
  return [prompt_tokens, completion_tokens, total_tokens];
}
