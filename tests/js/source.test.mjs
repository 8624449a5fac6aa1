import assert from "node:assert/strict";
import test from "node:test";

import { parseSource } from "../../dist/source.js";
import { pesiError } from "./scripted-worker.mjs";

const BASE = "http://localhost:8080/demo/";
const HUB = "https://huggingface.co";

const refused = (source, kind, details = {}) =>
  assert.rejects(parseSource(source, BASE), pesiError(kind, { parameter: "source", ...details }), String(source));

/** What a source is read as, without where its digests are. */
const parsed = async (source) => {
  const { sums, ...rest } = await parseSource(source, BASE);
  return rest;
};

const file = (name, { content = "abc", lastModified = 5, path } = {}) => {
  const made = new File([content], name, { lastModified });
  if (path !== undefined) Object.defineProperty(made, "webkitRelativePath", { value: path });
  return made;
};

test("absolute and relative URLs of .gguf files are resolved against the page", async () => {
  const cases = [
    ["https://example.com/a.gguf", "https://example.com/a.gguf"],
    ["https://example.com/a.gguf?download=true#top", "https://example.com/a.gguf?download=true"],
    ["/models/a.gguf", "http://localhost:8080/models/a.gguf"],
    ["./a.gguf", "http://localhost:8080/demo/a.gguf"],
    ["../a.gguf", "http://localhost:8080/a.gguf"],
    ["a.GGUF", "http://localhost:8080/demo/a.GGUF"],
    ["models/a.gguf", "http://localhost:8080/demo/models/a.gguf"],
    [" /models/a.gguf ", "http://localhost:8080/models/a.gguf"],
    ["/models/a-00001-of-00003.gguf", "http://localhost:8080/models/a-00001-of-00003.gguf"],
    ["/models/a-00001-of-00001.gguf", "http://localhost:8080/models/a-00001-of-00001.gguf"],
  ];
  for (const [source, url] of cases) {
    assert.deepEqual(await parsed(source), { kind: "url", url, id: url }, source);
  }
  assert.equal((await parseSource(new URL("https://example.com/a.gguf"), BASE)).url, "https://example.com/a.gguf");
});

test("other URLs are folders, and end in a slash", async () => {
  const cases = [
    ["https://example.com/gpt-oss/", "https://example.com/gpt-oss/"],
    ["https://example.com/gpt-oss#top", "https://example.com/gpt-oss/"],
    ["https://example.com", "https://example.com/"],
    ["/models/SmolLM2-1.7B-Instruct", "http://localhost:8080/models/SmolLM2-1.7B-Instruct/"],
    ["/models/phi-1.5", "http://localhost:8080/models/phi-1.5/"],
    ["/models/phi.small/", "http://localhost:8080/models/phi.small/"],
    ["./", "http://localhost:8080/demo/"],
    [new URL("https://example.com/gpt-oss"), "https://example.com/gpt-oss/"],
  ];
  for (const [source, url] of cases) {
    assert.deepEqual(await parsed(source), { kind: "folder", url, id: url }, String(source));
  }
});

test("files on the hub become the hub's resolve addresses", async () => {
  const cases = [
    ["owner/repo/a.gguf", "owner/repo/resolve/main/a.gguf", "owner/repo/a.gguf"],
    ["owner/repo/a.gguf@v1.0", "owner/repo/resolve/v1.0/a.gguf", "owner/repo/a.gguf@v1.0"],
    ["owner/repo@v1.0/a.gguf", "owner/repo/resolve/v1.0/a.gguf", "owner/repo/a.gguf@v1.0"],
    ["owner/repo/Q4 K/a.gguf", "owner/repo/resolve/main/Q4%20K/a.gguf", "owner/repo/Q4 K/a.gguf"],
    ["owner/repo@main/Q4/a.gguf", "owner/repo/resolve/main/Q4/a.gguf", "owner/repo/Q4/a.gguf"],
    ["owner/repo/a?b#c%2e.gguf", "owner/repo/resolve/main/a%3Fb%23c%252e.gguf", "owner/repo/a?b#c%2e.gguf"],
    ["o/r/a-00001-of-00002.gguf@refs/pr/1", "o/r/resolve/refs%2Fpr%2F1/a-00001-of-00002.gguf"],
    [`${HUB}/owner/repo/resolve/main/a.gguf?download=true`, "owner/repo/resolve/main/a.gguf", "owner/repo/a.gguf"],
    [`${HUB}/owner/repo/blob/v1.0/a%20b.gguf`, "owner/repo/resolve/v1.0/a%20b.gguf", "owner/repo/a b.gguf@v1.0"],
  ];
  for (const [source, path, id = source] of cases) {
    assert.deepEqual(await parsed(source), { kind: "url", url: `${HUB}/${path}`, id }, source);
  }
});

test("repositories on the hub, and folders in them, are folders", async () => {
  const cases = [
    ["owner/repo", "owner/repo/resolve/main/", "owner/repo"],
    ["owner/repo@main", "owner/repo/resolve/main/", "owner/repo"],
    ["owner/repo-1.5@v1.0", "owner/repo-1.5/resolve/v1.0/", "owner/repo-1.5@v1.0"],
    ["owner/repo@refs/pr/1", "owner/repo/resolve/refs%2Fpr%2F1/", "owner/repo@refs/pr/1"],
    ["owner/repo/sub", "owner/repo/resolve/main/sub/", "owner/repo/sub"],
    [`${HUB}/owner/repo`, "owner/repo/resolve/main/", "owner/repo"],
    [`${HUB}/owner/repo/tree/v1.0`, "owner/repo/resolve/v1.0/", "owner/repo@v1.0"],
    [`${HUB}/owner/repo/resolve/main/sub/`, "owner/repo/resolve/main/sub/", "owner/repo/sub"],
  ];
  for (const [source, path, id] of cases) {
    assert.deepEqual(await parsed(source), { kind: "folder", url: `${HUB}/${path}`, id }, source);
  }
});

test("digests on the hub are those of the revision's files, by their paths in the repository", async () => {
  const cases = [
    ["owner/repo", "main", ""],
    ["owner/repo@v1.0", "v1.0", ""],
    ["owner/repo@refs/pr/1", "refs%2Fpr%2F1", ""],
    ["owner/repo/sub", "main", "sub/"],
    ["owner/repo/a.gguf", "main", ""],
    ["owner/repo@v1.0/Q4 K/more/a.gguf", "v1.0", "Q4 K/more/"],
    [`${HUB}/owner/repo/blob/v1.0/Q4%20K/a.gguf`, "v1.0", "Q4 K/"],
    [`${HUB}/owner/repo/tree/main/sub`, "main", "sub/"],
  ];
  for (const [source, revision, prefix] of cases) {
    const url = `${HUB}/api/models/owner/repo/tree/${revision}?recursive=true`;
    assert.deepEqual((await parseSource(source, BASE)).sums, { kind: "hub", url, prefix }, source);
  }
});

test("digests of other models lie in their folder, and are asked for as the file itself is", async () => {
  const cases = [
    ["https://example.com/m/a.gguf", "https://example.com/m/SHA256SUMS"],
    ["https://example.com/a.gguf?key=a/b.gguf&sig=1%2F2", "https://example.com/SHA256SUMS?key=a/b.gguf&sig=1%2F2"],
    ["https://example.com/a%20b/c.gguf#top", "https://example.com/a%20b/SHA256SUMS"],
    ["/models/a-00001-of-00002.gguf", "http://localhost:8080/models/SHA256SUMS"],
    ["https://example.com/gpt-oss", "https://example.com/gpt-oss/SHA256SUMS"],
    ["https://example.com", "https://example.com/SHA256SUMS"],
    [`${HUB}/datasets/owner/repo/resolve/main/a.gguf`, `${HUB}/datasets/owner/repo/resolve/main/SHA256SUMS`],
  ];
  for (const [source, url] of cases) {
    assert.deepEqual((await parseSource(source, BASE)).sums, { kind: "sha256sums", url, prefix: "" }, source);
  }
  assert.equal((await parseSource(file("a.gguf"), BASE)).sums, undefined);
});

test("a later part of a split set is refused by its name, with the first one's", async () => {
  for (const [source, first] of [
    ["/models/a-00002-of-00003.gguf", "a-00001-of-00003.gguf"],
    ["https://example.com/A-00003-OF-00003.GGUF?download=true", "A-00001-OF-00003.GGUF"],
    ["owner/repo/Q4 K/a-00002-of-00003.gguf@v1.0", "a-00001-of-00003.gguf"],
    ["/models/a-00000-of-00003.gguf", "a-00001-of-00003.gguf"],
  ]) {
    await refused(source, "unsupported", { expected: `the first of them, "${first}"` });
  }
});

test("a file goes by its name, size and time", async () => {
  const files = [file("a.gguf")];
  assert.deepEqual(await parseSource(files[0], BASE), { kind: "files", files, id: "a.gguf@3-5" });
  assert.deepEqual(await parseSource(files, BASE), { kind: "files", files, id: "a.gguf@3-5" });
  const only = file("a-00001-of-00001.gguf");
  assert.deepEqual((await parseSource(only, BASE)).files, [only]);
});

test("the files of a split set are put in order", async () => {
  const [first, second] = [file("a-00001-of-00002.gguf"), file("a-00002-of-00002.gguf", { content: "defg" })];
  const id = "a-00001-of-00002.gguf@3-5, a-00002-of-00002.gguf@4-5";
  for (const files of [[second, first], [first, second, file("README.md")], listOf(second, first)]) {
    assert.deepEqual(await parseSource(files, BASE), { kind: "files", files: [first, second], id });
  }
});

test("a folder's files are those that a model is read from, by name", async () => {
  const [config, tokenizer, weights] = [file("config.json"), file("tokenizer.json"), file("model.safetensors")];
  const picked = [weights, tokenizer, file("README.md"), config];
  const expected = {
    kind: "files",
    files: [config, weights, tokenizer],
    id: "config.json@3-5, model.safetensors@3-5, tokenizer.json@3-5",
  };
  assert.deepEqual(await parseSource(picked, BASE), expected);
  assert.deepEqual(await parseSource(directory("gpt-oss", picked), BASE), expected);

  const path = (made, folder) => file(made.name, { path: `${folder}/${made.name}` });
  const below = [...picked.map((made) => path(made, "gpt-oss")), path(weights, "gpt-oss/original")];
  assert.equal((await parseSource(listOf(...below), BASE)).id, expected.id);
});

test("a directory is only read where a file may be a model's", async () => {
  const asked = [];
  const handle = directory("models", [file("a.gguf"), file("film.mkv")], (name) => asked.push(name));
  assert.equal((await parseSource(handle, BASE)).id, "a.gguf@3-5");
  assert.deepEqual(asked, ["a.gguf"]);
});

test("a directory that cannot be read is an error of storage, with its cause", async () => {
  const cause = new DOMException("no", "NotAllowedError");
  const handle = { ...directory("models", [file("a.gguf")]), values: () => fail(cause) };
  await assert.rejects(parseSource(handle, BASE), (error) => pesiError("storage")(error) && error.cause === cause);
});

test("files that make no model, or several, are refused with what was found", async () => {
  const [config, weights] = [file("config.json"), file("model.safetensors")];
  const part = (number) => file(`a-0000${number}-of-00003.gguf`);
  for (const [files, found] of [
    [[part(1), part(3)], "a-00001-of-00003.gguf, a-00003-of-00003.gguf without a-00002-of-00003.gguf"],
    [part(2), "a-00002-of-00003.gguf without a-00001-of-00003.gguf"],
    [[part(1), part(2), part(3), file("b.gguf")], "a-00001-of-00003.gguf, a-00002-of-00003.gguf and 2 more, which are several"],
    [[file("a.gguf"), file("b.gguf")], "a.gguf, b.gguf, which are several"],
    [[file("a.gguf"), config, weights], "both .gguf and .safetensors files"],
    [[weights], "model.safetensors without it"],
    [weights, "model.safetensors without it"],
    [[config, weights, file("model.safetensors")], 'two called "model.safetensors"'],
    [[config, weights, file("../a.json")], '"../a.json"'],
    [[config, weights, file("a\u0000.json")], '"a\\u0000.json"'],
  ]) {
    await refused(files, "invalid_argument", { found });
  }
  for (const [files, found] of [
    [[config], "config.json"],
    [file("model.bin"), "model.bin"],
    [directory("empty", []), "nothing"],
  ]) {
    await refused(files, "unsupported", { found });
  }
});

test("single files of a folder are refused with the folder", async () => {
  await refused("https://example.com/gpt-oss/model.safetensors", "unsupported", {
    expected: 'its folder, "https://example.com/gpt-oss/", or the URL of a .gguf file',
  });
  for (const source of ["/models/a.bin", "https://example.com/gpt-oss/config.json?x=1"]) {
    await refused(source, "unsupported");
  }
  for (const source of ["owner/repo/model.safetensors", `${HUB}/owner/repo/blob/main/config.json`]) {
    const expected = 'the whole repository, "owner/repo", or one of its .gguf files';
    await refused(source, "unsupported", { expected });
  }
});

test("what is no source at all is refused with what was found", async () => {
  for (const [source, found] of [
    [undefined, "undefined"],
    [null, "null"],
    [42, "42"],
    ["", '""'],
    ["model", '"model"'],
    ["model@main", '"model@main"'],
    ["owner//repo/a.gguf", '"owner//repo/a.gguf"'],
    ["owner/repo/../a.gguf", '"owner/repo/../a.gguf"'],
    ["owner/repo/", '"owner/repo/"'],
    ["owner/repo/a.gguf@", '"owner/repo/a.gguf@"'],
    ["owner/repo@", '"owner/repo@"'],
    ["owner/repo@..", '"owner/repo@.."'],
    ["owner/repo@a/../b", '"owner/repo@a/../b"'],
    ["owner/repo@/a.gguf", '"owner/repo@/a.gguf"'],
    ["owner/repo@a@b", '"owner/repo@a@b"'],
    ["owner/repo@v1/../a.gguf", '"owner/repo@v1/../a.gguf"'],
    ["own er/repo", '"own er/repo"'],
    ["owner/repo?x", '"owner/repo?x"'],
    ["owner\\repo/a", '"owner\\\\repo/a"'],
    ["owner/repo/\ud800.gguf", '"owner/repo/\\ud800.gguf"'],
    ["owner/repo/a\u0007.gguf", '"owner/repo/a\\u0007.gguf"'],
    [`${HUB}/owner/repo/resolve/main/..%2Fa.gguf`, `"${HUB}/owner/repo/resolve/main/..%2Fa.gguf"`],
    ["file:///etc/a.gguf", '"file:///etc/a.gguf"'],
    ["https://", '"https://"'],
    ["https://me:secret@example.com/a.gguf", '"https://me:secret@example.com/a.gguf"'],
    ["https://example.com/folder/?x=1", '"https://example.com/folder/?x=1"'],
    [[], "an array of 0"],
    [["a"], "an array of 1"],
    [listOf(), "an array of 0"],
    [{}, "an object"],
    [{ kind: "directory", name: "model" }, "an object"],
  ]) {
    await refused(source, "invalid_argument", { found });
  }
});

/** A `FileList`, which only browsers have. */
function listOf(...files) {
  return { ...files, length: files.length, [Symbol.toStringTag]: "FileList" };
}

/** A directory handle, which only browsers have; `onAsked` is told whose content is asked for. */
function directory(name, files, onAsked = () => {}) {
  const handles = [
    { kind: "directory", name: "sub" },
    ...files.map((made) => ({
      kind: "file",
      name: made.name,
      async getFile() {
        onAsked(made.name);
        return made;
      },
    })),
  ];
  return {
    kind: "directory",
    name,
    async *values() {
      yield* handles;
    },
  };
}

async function* fail(cause) {
  throw cause;
}
