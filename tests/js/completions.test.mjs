import assert from "node:assert/strict";
import test from "node:test";

import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker } from "./answering-worker.mjs";
import { INFO, pesiError } from "./scripted-worker.mjs";

function start(answers) {
  const worker = new AnsweringWorker(answers.map((texts) => texts.map((text) => ({ text }))));
  return { worker, completions: new Model(new Connection(worker), { ...INFO, chatTemplate: false }).completions };
}

test("each prompt is continued n times, without a chat format", async () => {
  const { worker, completions } = start([["a"], ["b"], ["c"], ["d"]]);
  const { choices, usage } = await completions.create({ prompt: ["x", [1, 2]], n: 2, seed: 5 });
  assert.deepEqual(choices.map(({ index, text }) => [index, text]), [[0, "a"], [1, "b"], [2, "c"], [3, "d"]]);
  assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [14, 4]);
  const requests = await Promise.all([0, 1, 2, 3].map((nth) => worker.request("generate", nth)));
  const prompt = { kind: "prompt", prompt: "x" };
  const tokens = { kind: "tokens", tokens: Uint32Array.of(1, 2) };
  assert.deepEqual(requests.map(({ params }) => params.input), [prompt, prompt, tokens, tokens]);
  assert.deepEqual(requests.map(({ params }) => params.options.seed), [5, 6, 5, 6]);
  assert.equal(requests[0].params.options.maxTokens, 16);
});

test("a stream tells the texts of each, their ends, and the usage", async () => {
  const { completions } = start([["a", "b"], ["c"]]);
  const stream = await completions.create({
    prompt: [3],
    n: 2,
    logprobs: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.pop();
  assert.equal(last.usage.completion_tokens, 3);
  assert.deepEqual(
    chunks.map(({ choices: [{ index, text, finish_reason, logprobs }], usage }) => {
      return [index, text, finish_reason, logprobs?.text_offset[0], usage];
    }),
    [
      [0, "a", null, 0, null],
      [0, "b", null, 1, null],
      [0, "", "stop", undefined, null],
      [1, "c", null, 0, null],
      [1, "", "stop", undefined, null],
    ],
  );
});

test("what cannot be honoured is refused by name", async () => {
  const { worker, completions } = start([]);
  for (const [params, parameter, kind = "unsupported"] of [
    [{ echo: true }, "echo"],
    [{ best_of: 2 }, "best_of"],
    [{ suffix: "x" }, "suffix"],
    [{ messages: [] }, "messages"],
    [{ prompt: undefined }, "prompt", "invalid_argument"],
    [{ prompt: [] }, "prompt", "invalid_argument"],
    [{ prompt: [100] }, "prompt[0]", "invalid_argument"],
    [{ prompt: ["x", [100]] }, "prompt[1][0]", "invalid_argument"],
    [{ logprobs: 6 }, "logprobs", "invalid_argument"],
    [{ logprobs: true }, "logprobs", "invalid_argument"],
  ]) {
    await assert.rejects(completions.create({ prompt: "x", ...params }), pesiError(kind, { parameter }), parameter);
  }
  assert.deepEqual(worker.posted, []);
});
