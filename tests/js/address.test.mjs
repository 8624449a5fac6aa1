/** What the demo page makes of an address before it asks anybody: the id it is stored under, and whose it is. */
import assert from "node:assert/strict";
import test from "node:test";

import { lastPart, readAddress } from "../../dist/demo/address.js";
import { parseSource } from "../../dist/source.js";

const BASE = "http://localhost:8080/demo/";

test("an address has the id that the package gives it, and another server's host", async () => {
  for (const [address, host] of [
    ["/models/a.gguf"],
    ["./a.gguf"],
    ["a.GGUF"],
    ["models/a.gguf"],
    ["/models/gpt-oss"],
    ["/models/gpt-oss/"],
    ["http://localhost:8080/models/a.gguf#top"],
    ["http://localhost:9090/models/a.gguf", "localhost:9090"],
    ["https://example.com/a.gguf?download=true", "example.com"],
    ["https://example.com/gpt-oss", "example.com"],
    ["owner/repo", "huggingface.co"],
    ["owner/repo@main", "huggingface.co"],
    ["owner/repo@v1.0", "huggingface.co"],
    ["owner/repo@mainline", "huggingface.co"],
    ["owner/repo/a.gguf", "huggingface.co"],
    ["owner/repo@main/Q4/a.gguf", "huggingface.co"],
    ["owner/repo/a.gguf@main", "huggingface.co"],
  ]) {
    const { id } = await parseSource(address, BASE);
    assert.deepEqual(readAddress(address, BASE), host === undefined ? { id } : { id, host }, address);
  }
});

test("what is no address at all is some other server's, so that nothing is asked of it", () => {
  for (const address of ["", "a", "https://", "a/../b", "@"]) {
    assert.equal(readAddress(address, BASE).host, "huggingface.co", address);
  }
});

test("a model without a name goes by the last part of its address", () => {
  assert.equal(lastPart("https://example.com/m/a.gguf?sig=/x#y"), "a.gguf");
  assert.equal(lastPart("https://example.com/gpt-oss/"), "gpt-oss");
  assert.equal(lastPart("owner/repo"), "repo");
  assert.equal(lastPart("a.gguf@1-5"), "a.gguf@1-5");
});
