/** The Vercel AI SDK in a page, with the provider of `pesi/ai-sdk`. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { call, say, think } from "../../js/answering-worker.mjs";

/** A real model that talks. */
export function testTalk(pages) {
  const evaluate = (work) => pages.talk.evaluate(work);

  test("the AI SDK: text, whole and streamed, in its parts", async () => {
    const told = await evaluate(async () => {
      const { sdk, languageModel: model, collect } = globalThis;
      const params = { model, prompt: "What is the capital of France?", temperature: 0, maxOutputTokens: 12 };
      const { text, usage, finishReason, warnings, response } = await sdk.generateText(params);
      const result = sdk.streamText(params);
      const parts = await collect(result.fullStream);
      const cut = await sdk.generateText({ ...params, maxOutputTokens: 2 });
      return {
        whole: { text, usage, finishReason, warnings, modelId: response.modelId },
        streamed: { text: await result.text, usage: await result.usage, finishReason: await result.finishReason },
        parts: parts.map(({ type, text }) => [type, text]),
        cut: [cut.finishReason, cut.usage.outputTokens],
        id: globalThis.model.info.id,
      };
    });
    const { whole, streamed } = told;
    assert.match(whole.text, /Paris/);
    assert.deepEqual([whole.finishReason, whole.warnings, whole.modelId], ["stop", [], told.id]);
    assert.equal(whole.usage.totalTokens, whole.usage.inputTokens + whole.usage.outputTokens);
    assert.deepEqual([streamed.text, streamed.finishReason], [whole.text, "stop"]);
    for (const name of ["inputTokens", "outputTokens", "totalTokens"]) {
      assert.equal(streamed.usage[name], whole.usage[name], name);
    }
    const names = told.parts.map(([type]) => type);
    assert.deepEqual(names.filter((name, at) => name !== names[at - 1]), [
      "start",
      "start-step",
      "text-start",
      "text-delta",
      "text-end",
      "finish-step",
      "finish",
    ]);
    const deltas = told.parts.filter(([type]) => type === "text-delta");
    assert.equal(deltas.map(([, text]) => text).join(""), whole.text);
    assert.deepEqual(told.cut, ["length", 2]);
  });

  test("the AI SDK: structured output, whole and streamed", async () => {
    const told = await evaluate(async () => {
      const { sdk, languageModel: model, collect } = globalThis;
      const schema = sdk.z.object({ city: sdk.z.enum(["Rome", "Paris"]), sure: sdk.z.boolean() });
      const output = sdk.Output.object({ schema });
      const params = { model, prompt: "What is the capital of France?", temperature: 0, maxOutputTokens: 40, output };
      const whole = await sdk.generateText(params);
      const result = sdk.streamText(params);
      const partial = await collect(result.partialOutputStream);
      return {
        whole: whole.output,
        finishReason: whole.finishReason,
        partial,
        streamed: await result.output,
        usage: [whole.usage.outputTokens, (await result.usage).outputTokens],
      };
    });
    assert.match(told.whole.city, /^(Rome|Paris)$/);
    assert.equal(typeof told.whole.sure, "boolean");
    assert.equal(told.finishReason, "stop");
    assert.deepEqual(told.streamed, told.whole);
    assert.deepEqual(told.partial.at(-1), told.whole);
    assert.ok(told.partial.length > 1);
    assert.equal(told.usage[0], told.usage[1]);
  });

  test("the AI SDK: an abort, before the answer and within it, leaves the model as it was", async () => {
    const told = await evaluate(async () => {
      const { sdk, languageModel: model } = globalThis;
      const long = { model, prompt: "Tell me a long story.", maxOutputTokens: 1000 };
      const abortSignal = AbortSignal.timeout(100);
      const whole = await sdk.generateText({ ...long, abortSignal }).catch(({ name }) => name);
      const controller = new AbortController();
      const types = [];
      let aborted = 0;
      const { signal } = controller;
      const { fullStream } = sdk.streamText({ ...long, abortSignal: signal, onAbort: () => (aborted += 1) });
      for await (const { type } of fullStream) {
        types.push(type);
        if (type === "text-delta") controller.abort();
      }
      const after = await sdk.generateText({ ...long, prompt: "What is the capital of France?", temperature: 0 });
      return { whole, last: types.at(-1), aborted, after: after.text };
    });
    assert.deepEqual([told.whole, told.last, told.aborted], ["TimeoutError", "abort", 1]);
    assert.match(told.after, /Paris/);
  });
}

/** A real model that says nothing sensible, in harmony, and does what it is held to. */
export function testDemands(pages) {
  for (const ask of ["generateText", "streamText"]) {
    test(`the AI SDK's ${ask}: a tool loop, from the call to the answer in the form asked for`, async () => {
      const told = await pages.demands.evaluate(async (ask) => {
        const { sdk, languageModel: model, biases } = globalThis;
        const asked = [];
        const weather = sdk.tool({
          description: "Tells the weather.",
          inputSchema: sdk.z.object({ city: sdk.z.enum(["Rome", "Paris"]) }),
          strict: true,
          execute: async ({ city }) => {
            asked.push(city);
            return { sky: "clear" };
          },
        });
        const result = await sdk[ask]({
          model,
          prompt: "How is it in Rome?",
          temperature: 0,
          maxOutputTokens: 200,
          tools: { weather },
          stopWhen: sdk.stepCountIs(2),
          prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
          output: sdk.Output.object({ schema: sdk.z.object({ sky: sdk.z.literal("clear") }) }),
          providerOptions: { pesi: { logitBias: await biases({ "<|end|>": 100, final: 50 }) } },
        });
        const output = await result.output;
        const steps = await result.steps;
        const usage = await result.totalUsage;
        return {
          asked,
          output,
          steps: steps.map((step) => ({
            finishReason: step.finishReason,
            calls: step.toolCalls.map(({ toolName, input }) => [toolName, input]),
            results: step.toolResults.map(({ output }) => output),
            outputTokens: step.usage.outputTokens,
          })),
          outputTokens: usage.outputTokens,
        };
      }, ask);
      const [city] = told.asked;
      assert.match(city, /^(Rome|Paris)$/);
      assert.deepEqual(told.output, { sky: "clear" });
      const [first, second] = told.steps;
      assert.deepEqual([first.finishReason, first.calls], ["tool-calls", [["weather", { city }]]]);
      assert.deepEqual(first.results, [{ sky: "clear" }]);
      assert.deepEqual([second.finishReason, second.calls], ["stop", []]);
      assert.equal(told.outputTokens, first.outputTokens + second.outputTokens);
    });
  }
}

/** Answers that a test gives, token by token. */
export function testPlayed(pages) {
  test("the AI SDK: thoughts, calls and text of a tool loop, part by part", async () => {
    const { page, answers, asked } = pages.played;
    answers.splice(0, Infinity, [think("Rome", "?"), call("weather", '{"city":', '"Rome"}')], [say("Sun", "ny.")]);
    asked.length = 0;
    const told = await page.evaluate(async () => {
      const { sdk, languageModel: model, collect } = globalThis;
      const inputSchema = sdk.z.object({ city: sdk.z.string() });
      const weather = sdk.tool({ inputSchema, execute: async ({ city }) => `sun in ${city}` });
      const result = sdk.streamText({ model, prompt: "Hi", tools: { weather }, stopWhen: sdk.stepCountIs(3) });
      const parts = await collect(result.fullStream);
      return {
        parts: parts.map(({ type, text, delta, input, output }) => [type, text ?? delta ?? output ?? input ?? null]),
        reasons: (await result.steps).map(({ finishReason }) => finishReason),
        reasoning: (await result.steps).map(({ reasoningText }) => reasoningText ?? null),
        usage: await result.totalUsage,
      };
    });
    assert.deepEqual(told.parts, [
      ["start", null],
      ["start-step", null],
      ["reasoning-start", null],
      ["reasoning-delta", "Rome"],
      ["reasoning-delta", "?"],
      ["reasoning-end", null],
      ["tool-input-start", null],
      ["tool-input-delta", '{"city":'],
      ["tool-input-delta", '"Rome"}'],
      ["tool-input-end", null],
      ["tool-call", { city: "Rome" }],
      ["tool-result", "sun in Rome"],
      ["finish-step", null],
      ["start-step", null],
      ["text-start", null],
      ["text-delta", "Sun"],
      ["text-delta", "ny."],
      ["text-end", null],
      ["finish-step", null],
      ["finish", null],
    ]);
    assert.deepEqual(told.reasons, ["tool-calls", "stop"]);
    assert.deepEqual(told.reasoning, ["Rome?", null]);
    assert.deepEqual([told.usage.inputTokens, told.usage.outputTokens, told.usage.totalTokens], [14, 6, 20]);
    assert.equal(asked[1].input.messages.at(-1).content, "sun in Rome");
  });
}
