import assert from "node:assert/strict";
import test from "node:test";

import { parseSource } from "../../dist/source.js";
import { pesiError } from "./scripted-worker.mjs";

const BASE = "http://localhost:8080/demo/";

test("absolute and relative URLs are resolved against the page", () => {
  const cases = [
    ["https://example.com/a.gguf", "https://example.com/a.gguf"],
    ["https://example.com/a.gguf?download=true#top", "https://example.com/a.gguf?download=true"],
    ["/models/a.gguf", "http://localhost:8080/models/a.gguf"],
    ["./a.gguf", "http://localhost:8080/demo/a.gguf"],
    ["../a.gguf", "http://localhost:8080/a.gguf"],
    ["a.GGUF", "http://localhost:8080/demo/a.GGUF"],
    ["models/a.gguf", "http://localhost:8080/demo/models/a.gguf"],
    [" /models/a.gguf ", "http://localhost:8080/models/a.gguf"],
  ];
  for (const [source, url] of cases) {
    assert.deepEqual(parseSource(source, BASE), { kind: "url", url, id: url }, source);
  }
  assert.equal(parseSource(new URL("https://example.com/a.gguf"), BASE).url, "https://example.com/a.gguf");
});

test("files on the hub become the hub's resolve addresses", () => {
  const cases = [
    ["owner/repo/a.gguf", "https://huggingface.co/owner/repo/resolve/main/a.gguf"],
    ["owner/repo/a.gguf@v1.0", "https://huggingface.co/owner/repo/resolve/v1.0/a.gguf"],
    ["owner/repo/Q4 K/a.gguf", "https://huggingface.co/owner/repo/resolve/main/Q4%20K/a.gguf"],
  ];
  for (const [source, url] of cases) {
    assert.deepEqual(parseSource(source, BASE), { kind: "url", url, id: source }, source);
  }
});

test("a file goes by its name, size and time", () => {
  const file = new File(["abc"], "a.gguf", { lastModified: 5 });
  assert.deepEqual(parseSource(file, BASE), { kind: "files", files: [file], id: "a.gguf@3-5" });
});

test("part of a split set is refused by its name, before anything is read", () => {
  for (const source of [
    "/models/a-00001-of-00003.gguf",
    "https://example.com/A-00002-OF-00003.GGUF?download=true",
    "owner/repo/Q4 K/a-00001-of-00003.gguf@v1.0",
    new File(["abc"], "a-00001-of-00003.gguf"),
  ]) {
    const found = `${JSON.stringify(source.name ?? source)}, one of 3 files,`;
    assert.throws(() => parseSource(source, BASE), pesiError("unsupported", { parameter: "source", found }));
  }
  const whole = "https://example.com/a-00001-of-00001.gguf";
  assert.equal(parseSource(whole, BASE).url, whole);
});

test("what is not supported yet says what is", () => {
  for (const source of [
    "owner/repo",
    "owner/repo@main",
    "owner/repo/model.safetensors",
    "https://example.com/folder/",
    new File([""], "model.bin"),
    { kind: "directory", name: "model" },
    [new File([""], "a.gguf"), new File([""], "b.gguf")],
  ]) {
    assert.throws(() => parseSource(source, BASE), pesiError("unsupported", { parameter: "source" }), String(source));
  }
});

test("what is no source at all is refused with what was found", () => {
  for (const [source, found] of [
    [undefined, "undefined"],
    [null, "null"],
    [42, "42"],
    ["", '""'],
    ["model", '"model"'],
    ["owner//repo/a.gguf", '"owner//repo/a.gguf"'],
    ["owner/repo/../a.gguf", '"owner/repo/../a.gguf"'],
    ["owner/repo/a.gguf@", '"owner/repo/a.gguf@"'],
    ["file:///etc/a.gguf", '"file:///etc/a.gguf"'],
    ["https://", '"https://"'],
    [[], "an array of 0"],
    [{}, "an object"],
  ]) {
    assert.throws(() => parseSource(source, BASE), pesiError("invalid_argument", { parameter: "source", found }));
  }
  assert.throws(() => parseSource(["a"], BASE), pesiError("invalid_argument", { found: "an array of 1" }));
});
