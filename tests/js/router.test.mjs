import assert from "node:assert/strict";
import http from "node:http";
import test, { after, before } from "node:test";

import OpenAI from "openai";

import { Connection } from "../../dist/connection.js";
import { Model } from "../../dist/model.js";
import { createRouter } from "../../dist/router.js";
import { AnsweringWorker, say } from "./answering-worker.mjs";
import { HARMONY, pesiError } from "./scripted-worker.mjs";

const messages = [{ role: "user", content: "Hi" }];

/** A server that says who asked it for what. */
const asked = [];
const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { url, method, headers } = request;
  asked.push({ url, method, authorization: headers.authorization, other: headers["x-other"], body });
  response.setHeader("content-type", "application/json");
  const message = { role: "assistant", content: "from afar", refusal: null };
  response.end(JSON.stringify({ id: "1", object: "chat.completion", choices: [{ index: 0, message }], data: [] }));
});
let remote;

before(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseURL = `http://127.0.0.1:${server.address().port}/api/`;
  remote = { baseURL, apiKey: "key", headers: { "x-other": "1" }, model: "theirs" };
});
after(() => {
  server.close();
  server.closeAllConnections();
});

function model(...answers) {
  return new Model(new Connection(new AnsweringWorker(answers)), HARMONY);
}

async function ask(options, params = {}, headers = {}) {
  const fetch = createRouter(options);
  const client = new OpenAI({ apiKey: "secret", baseURL: "https://here.example/v1", fetch });
  const request = client.chat.completions.create({ model: "any", messages, ...params }, { headers });
  const { data, response } = await request.withResponse();
  return [data.choices[0].message.content, response.headers.get("x-pesi-route")];
}

test("the model answers what it can, whatever is allowed", async () => {
  asked.length = 0;
  const here = ["here", "local"];
  assert.deepEqual(await ask({ local: model([say("here")]), remote, allow: () => assert.fail() }), here);
  assert.deepEqual(await ask({ local: async () => model([say("here")]) }), here);
  assert.deepEqual(asked, []);
});

test("what it cannot answer goes to the server where that is allowed, by its reason", async () => {
  const failing = (kind) => model({ pieces: [], error: { kind } });
  for (const [local, params, kind] of [
    [() => undefined, {}, "no_model"],
    [model(), { store: true }, "unsupported"],
    [model(), { audio: {} }, "unsupported"],
    [failing("context_exceeded"), {}, "too_long"],
    [failing("device_lost"), {}, "failed"],
  ]) {
    asked.length = 0;
    const reasons = [];
    const allow = ({ path, params: { messages: told }, reason }) => {
      assert.deepEqual([path, told], ["/chat/completions", messages]);
      reasons.push(reason.kind);
      return true;
    };
    assert.deepEqual(await ask({ local, remote, allow }, params), ["from afar", "remote"]);
    assert.deepEqual(reasons, [kind]);
    const [{ body, ...request }, ...others] = asked;
    assert.deepEqual(others, []);
    const expected = { url: "/api/chat/completions", method: "POST", authorization: "Bearer key", other: "1" };
    assert.deepEqual(request, expected);
    assert.deepEqual(JSON.parse(body), { messages, ...params, model: "theirs" });
  }
});

test("a request goes to the server where it asks for that, with leave", async () => {
  const headers = { "x-pesi-route": "remote" };
  for (const isAllowed of [true, false]) {
    asked.length = 0;
    const reasons = [];
    const allow = ({ reason }) => {
      reasons.push(reason);
      return isAllowed;
    };
    const answer = await ask({ local: model([say("here")]), remote, allow }, {}, headers);
    assert.deepEqual(answer, isAllowed ? ["from afar", "remote"] : ["here", "local"]);
    assert.deepEqual([reasons, asked.length], [[{ kind: "asked" }], isAllowed ? 1 : 0]);
  }
  assert.deepEqual(await ask({ local: model([say("here")]) }, {}, headers), ["here", "local"]);
});

test("without leave nothing is sent, and the model's own answer stands", async () => {
  asked.length = 0;
  for (const allow of [undefined, () => false, async () => "yes"]) {
    const options = { remote, ...(allow === undefined ? {} : { allow }) };
    const refused = (status) => (error) => error.status === status;
    await assert.rejects(ask({ ...options, local: model() }, { store: true }), refused(400));
    await assert.rejects(ask(options), (error) => refused(503)(error) && error.code === "model_not_loaded");
  }
  await assert.rejects(ask({ local: model(), allow: () => true }, { store: true }), OpenAI.BadRequestError);
  assert.deepEqual(asked, []);
});

test("what is malformed is not sent, nor what is none of OpenAI's paths", async () => {
  asked.length = 0;
  const options = { local: model(), remote, allow: () => assert.fail() };
  await assert.rejects(ask(options, { temperature: 3 }), OpenAI.BadRequestError);
  const fetch = createRouter({ remote, allow: () => assert.fail() });
  assert.equal((await fetch("/v1/embeddings", { method: "POST", body: "{}" })).status, 503);
  assert.deepEqual(asked, []);
});

test("lists of models are asked for without a body", async () => {
  asked.length = 0;
  const fetch = createRouter({ remote, allow: ({ params }) => params === undefined });
  assert.equal((await fetch("/v1/models")).status, 200);
  assert.deepEqual([asked[0].url, asked[0].method, asked[0].body], ["/api/models", "GET", ""]);
});

test("an abort is the caller's, wherever the request is", async () => {
  const reason = new Error("enough");
  const controller = new AbortController();
  const allow = () => {
    controller.abort(reason);
    return true;
  };
  const init = { method: "POST", body: JSON.stringify({ messages }), signal: controller.signal };
  await assert.rejects(createRouter({ remote, allow })("/v1/chat/completions", init), reason);
});

test("options that cannot be used are refused", () => {
  for (const [options, parameter] of [
    [{ remote: "https://api.example" }, "remote.baseURL"],
    [{ allow: true }, "allow"],
    [{ fallback: {} }, "fallback"],
  ]) {
    assert.throws(() => createRouter(options), pesiError("invalid_argument", { parameter }));
  }
});
