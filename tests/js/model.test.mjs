import assert from "node:assert/strict";
import test from "node:test";

import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { INFO, ScriptedWorker, generationResult, pesiError } from "./scripted-worker.mjs";

function start() {
  const worker = new ScriptedWorker();
  return { worker, model: new Model(new Connection(worker), INFO) };
}

test("generate yields each token of each batch, and then tells how it went", async () => {
  const { worker, model } = start();
  const generation = model.generate({ prompt: "Once", maxTokens: 3 });
  const { id, params } = await worker.request("generate");
  assert.deepEqual(params, { input: { kind: "prompt", prompt: "Once" }, options: { maxTokens: 3 } });
  worker.event(id, [
    { token: 1, text: " upon" },
    { token: 2, text: " a" },
  ]);
  worker.event(id, [{ token: 3, text: " time" }]);
  worker.result(id, generationResult(3, "length"));
  const tokens = [];
  for await (const token of generation) tokens.push(token);
  assert.deepEqual(tokens, [
    { token: 1, text: " upon" },
    { token: 2, text: " a" },
    { token: 3, text: " time" },
  ]);
  assert.deepEqual(await generation.result, generationResult(3, "length"));
});

test("leaving the loop cancels, and the model answers again", async () => {
  const { worker, model } = start();
  const generation = model.generate({ prompt: "a" });
  const { id } = await worker.request("generate");
  worker.event(id, [{ token: 1, text: "x" }]);
  for await (const { text } of generation) {
    assert.equal(text, "x");
    break;
  }
  assert.deepEqual(worker.posted.at(-1), { type: "cancel", id });
  worker.event(id, [{ token: 2, text: "late" }]);
  worker.result(id, generationResult(2, "aborted"));
  assert.equal((await generation.result).finishReason, "aborted");

  const again = model.generate({ prompt: "b" });
  const request = await worker.request("generate", 1);
  worker.event(request.id, [{ token: 3, text: "y" }]);
  worker.result(request.id, generationResult(1));
  const texts = [];
  for await (const { text } of again) texts.push(text);
  assert.deepEqual(texts, ["y"]);
});

test("the consumer's own error comes through, and cancels", async () => {
  const { worker, model } = start();
  const generation = model.generate({ prompt: "a" });
  const { id } = await worker.request("generate");
  worker.event(id, [{ token: 1, text: "x" }]);
  const own = new Error("own");
  await assert.rejects(async () => {
    for await (const _ of generation) throw own;
  }, own);
  assert.deepEqual(worker.posted.at(-1), { type: "cancel", id });
});

test("aborting throws kind aborted with the reason as its cause, at once, without what was queued", async () => {
  const { worker, model } = start();
  const controller = new AbortController();
  const generation = model.generate({ prompt: "a", signal: controller.signal });
  const { id } = await worker.request("generate");
  worker.event(id, [{ token: 1, text: "x" }]);
  controller.abort("enough");
  assert.deepEqual(worker.posted.at(-1), { type: "cancel", id });
  await assert.rejects(async () => {
    for await (const _ of generation) assert.fail("no token after the abort");
  }, (error) => pesiError("aborted")(error) && error.cause === "enough");
  await assert.rejects(generation.result, pesiError("aborted"));
  worker.result(id, generationResult(1, "aborted"));
});

test("a signal that is aborted before asks the worker nothing", async () => {
  const { worker, model } = start();
  const generation = model.generate({ prompt: "a", signal: AbortSignal.abort() });
  await assert.rejects(generation.result, pesiError("aborted"));
  assert.deepEqual(worker.posted, []);
});

test("a signal aborted after the end does nothing", async () => {
  const { worker, model } = start();
  const controller = new AbortController();
  const generation = model.generate({ prompt: "a", signal: controller.signal });
  const { id } = await worker.request("generate");
  worker.result(id, generationResult(0));
  await generation.result;
  controller.abort();
  assert.equal(worker.posted.length, 1);
});

test("the worker's error reaches both the loop and the result, with its numbers", async () => {
  const { worker, model } = start();
  const generation = model.generate({ prompt: "a" });
  const { id } = await worker.request("generate");
  worker.event(id, [{ token: 1, text: "x" }]);
  worker.error(id, "context_exceeded", { details: { needed: 70, limit: 64 } });
  const texts = [];
  await assert.rejects(async () => {
    for await (const { text } of generation) texts.push(text);
  }, pesiError("context_exceeded", { needed: 70, limit: 64 }));
  assert.deepEqual(texts, ["x"]);
});

test("a parameter that cannot be used throws before the worker hears of it", async () => {
  const { worker, model } = start();
  assert.throws(() => model.generate({ prompt: "a", temperature: "hot" }), pesiError("invalid_argument"));
  await assert.rejects(model.encode(5), pesiError("invalid_argument", { parameter: "text" }));
  await assert.rejects(model.decode([100]), pesiError("invalid_argument", { parameter: "ids[0]" }));
  for (const method of ["logits", "hiddenStates"]) {
    const refused = (parameter) => pesiError("invalid_argument", { parameter });
    await assert.rejects(model[method]({}), refused("tokens"));
    await assert.rejects(model[method]({ tokens: [1], rows: 2 }), refused("rows"));
    await assert.rejects(model[method]({ tokens: [1], signal: 1 }), refused("signal"));
  }
  assert.deepEqual(worker.posted, []);
});

test("encode, decode, logits and hiddenStates hand over what the worker answers", async () => {
  const { worker, model } = start();
  const answers = [
    model.encode("hi"),
    model.decode([]),
    model.logits({ tokens: [1, 2] }),
    model.hiddenStates({ tokens: [3] }),
  ];
  const methods = ["encode", "decode", "logits", "hiddenStates"];
  const requests = await Promise.all(methods.map((method) => worker.request(method)));
  assert.deepEqual(requests.map(({ params }) => params), [
    { text: "hi" },
    { ids: new Uint32Array() },
    { tokens: Uint32Array.of(1, 2) },
    { tokens: Uint32Array.of(3) },
  ]);
  // Answers find their requests by id, in whatever order they come.
  worker.result(requests[3].id, Float32Array.of(1, 2));
  worker.result(requests[2].id, Float32Array.of(0.5));
  worker.result(requests[0].id, Uint32Array.of(9));
  worker.result(requests[1].id, "");
  assert.deepEqual(await Promise.all(answers), [
    Uint32Array.of(9),
    "",
    Float32Array.of(0.5),
    Float32Array.of(1, 2),
  ]);
});

test("dispose rejects what is pending, reports what was freed, and ends the worker", async () => {
  const { worker, model } = start();
  const generation = model.generate({ prompt: "a" });
  const disposed = model.dispose();
  assert.equal(model.dispose(), disposed);
  await assert.rejects(generation.result, pesiError("disposed"));
  const { id } = await worker.request("dispose");
  worker.result(id, { freedBytes: 3 });
  assert.deepEqual(await disposed, { freedBytes: 3 });
  assert.equal(worker.terminated, true);
  await assert.rejects(model.encode("a"), pesiError("disposed"));
  await assert.rejects(model.generate({ prompt: "a" }).result, pesiError("disposed"));
});

test("a worker that does not answer dispose is ended by force", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { worker, model } = start();
  const disposed = model.dispose();
  await worker.request("dispose");
  context.mock.timers.tick(60_000);
  assert.deepEqual(await disposed, { freedBytes: 0 });
  assert.equal(worker.terminated, true);
});

test("a crash and a fatal error reject everything pending and to come, and dispose still works", async () => {
  for (const fail of [
    (worker) => worker.crash("unreachable"),
    (worker, id) => worker.error(id, "internal", { fatal: true, message: "unreachable" }),
  ]) {
    const { worker, model } = start();
    const answers = [model.generate({ prompt: "a" }).result, model.encode("b")];
    fail(worker, (await worker.request("generate")).id);
    for (const answer of answers) await assert.rejects(answer, pesiError("internal"));
    await assert.rejects(model.encode("c"), pesiError("internal"));
    assert.equal(worker.terminated, true);
    assert.deepEqual(await model.dispose(), { freedBytes: 0 });
  }
});
