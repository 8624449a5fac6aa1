import assert from "node:assert/strict";
import test from "node:test";

import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { AnsweringWorker, say } from "./answering-worker.mjs";
import { HARMONY, INFO } from "./scripted-worker.mjs";

const messages = [{ role: "user", content: "Hi" }];

function start(...answers) {
  const worker = new AnsweringWorker(answers);
  return { worker, fetch: new Model(new Connection(worker), HARMONY).fetch };
}

const post = (body, init) => {
  return { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), ...init };
};

test("paths are answered whatever comes before them", async () => {
  for (const address of [
    "https://api.openai.com/v1/chat/completions",
    "http://localhost:1234/chat/completions/",
    new URL("https://a.example/openai/deployments/b/chat/completions?api-version=1"),
    "/v1/chat/completions",
  ]) {
    const { fetch } = start([say("Hello")]);
    const response = await fetch(address, post({ messages }));
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.equal((await response.json()).choices[0].message.content, "Hello");
  }
  const { fetch } = start([say("Hello")]);
  const response = await fetch(new Request("https://a.example/v1/responses", post({ input: "Hi" })));
  assert.equal((await response.json()).output_text, "Hello");
});

test("streams are server-sent events, with a mark at the end of completions", async () => {
  const { fetch } = start([say("a")], [say("b")]);
  const chat = await fetch("/v1/chat/completions", post({ messages, stream: true }));
  assert.match(chat.headers.get("content-type"), /^text\/event-stream/);
  const lines = (await chat.text()).split("\n\n");
  assert.deepEqual(lines.slice(-2), ["data: [DONE]", ""]);
  for (const line of lines.slice(0, -2)) JSON.parse(line.replace(/^data: /, ""));

  const response = await fetch("/v1/responses", post({ input: "Hi", stream: true }));
  for (const event of (await response.text()).trimEnd().split("\n\n")) {
    const [name, data] = event.split("\n");
    assert.equal(name, `event: ${JSON.parse(data.replace(/^data: /, "")).type}`);
  }
});

test("the model is found by its id, with its slashes escaped or not", async () => {
  const { fetch } = start();
  for (const id of [INFO.id, encodeURIComponent(INFO.id)]) {
    assert.equal((await (await fetch(`/v1/models/${id}`)).json()).id, INFO.id);
  }
  assert.equal((await fetch("/v1/models/other")).status, 404);
  assert.deepEqual((await (await fetch("/v1/models")).json()).data.map(({ id }) => id), [INFO.id]);
});

test("a body that is no JSON is refused", async () => {
  const { fetch } = start();
  const response = await fetch("/v1/chat/completions", post("{"));
  assert.equal(response.status, 400);
  assert.equal((await response.json()).error.type, "invalid_request_error");
  assert.equal((await fetch("/v1/chat/completions", post("[]"))).status, 400);
});

test("an abort rejects with its reason, before and after the answer began", async () => {
  const reason = new Error("enough");
  const { worker, fetch } = start({ pieces: [say("a", "b", "c")], wait: 20 });
  await assert.rejects(fetch("/v1/models", { signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  const { signal } = controller;
  const response = await fetch("/v1/chat/completions", post({ messages, stream: true }, { signal }));
  controller.abort(reason);
  await assert.rejects(response.text(), reason);
  assert.ok(worker.posted.some(({ type }) => type === "cancel"));
});
