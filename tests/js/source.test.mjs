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
    ["owner/repo/Q4 K/a-00001-of-00002.gguf", "https://huggingface.co/owner/repo/resolve/main/Q4%20K/a-00001-of-00002.gguf"],
  ];
  for (const [source, url] of cases) {
    assert.deepEqual(parseSource(source, BASE), { kind: "url", url, id: source }, source);
  }
});

test("a file goes by its name, size and time; a split set by its first", () => {
  const first = new File(["abc"], "a-00001-of-00002.gguf", { lastModified: 5 });
  const second = new File(["d"], "a-00002-of-00002.gguf", { lastModified: 6 });
  assert.deepEqual(parseSource(first, BASE), { kind: "files", files: [first], id: "a-00001-of-00002.gguf@3-5" });
  assert.deepEqual(parseSource([first, second], BASE).files, [first, second]);
});

test("what is not supported yet says what is", () => {
  for (const source of [
    "owner/repo",
    "owner/repo@main",
    "owner/repo/model.safetensors",
    "https://example.com/folder/",
    new File([""], "model.bin"),
    { kind: "directory", name: "model" },
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
  assert.throws(() => parseSource(["a"], BASE), pesiError("invalid_argument", { parameter: "source[0]", found: '"a"' }));
});
