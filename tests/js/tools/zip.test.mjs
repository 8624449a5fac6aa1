import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { buffer } from "node:stream/consumers";
import { deflateRawSync } from "node:zlib";

import { openMember } from "../../../tools/zip.mjs";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "pesi-zip-"));
after(() => fs.rmSync(folder, { recursive: true }));

/** Builds a zip archive of `members`, each `{name, content, method}`, followed by a comment. */
function archiveOf(members, comment = "") {
  const [bodies, entries] = [[], []];
  let offset = 0;
  for (const { name, content, method } of members) {
    const packed = method === 8 ? deflateRawSync(content) : content;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const header = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name)]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    entries.push(Buffer.from("PK\x01\x02\x14\0"), common, tail, Buffer.from(name));
    bodies.push(header, packed);
    offset += header.length + packed.length;
  }
  const directory = Buffer.concat(entries);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06");
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...bodies, directory, end, Buffer.from(comment)]);
}

function write(content) {
  const file = path.join(folder, "archive.zip");
  fs.writeFileSync(file, content);
  return file;
}

const text = Buffer.from("open weights ".repeat(1000));
const archive = archiveOf(
  [
    { name: "first.txt", content: Buffer.from("first"), method: 0 },
    { name: "folder/stored.bin", content: text, method: 0 },
    { name: "folder/deflated.bin", content: text, method: 8 },
    { name: "empty", content: Buffer.alloc(0), method: 0 },
  ],
  "a comment after the directory",
);

for (const [name, content] of [
  ["first.txt", Buffer.from("first")],
  ["folder/stored.bin", text],
  ["folder/deflated.bin", text],
  ["empty", Buffer.alloc(0)],
]) {
  test(`reads ${name}`, async () => {
    const { bytes, stream } = await openMember(write(archive), name);
    assert.equal(bytes, content.length);
    assert.deepEqual(await buffer(stream), content);
  });
}

test("names a member that is not there", async () => {
  await assert.rejects(openMember(write(archive), "folder"), /no member folder/);
});

test("refuses an archive that was cut short", async () => {
  await assert.rejects(openMember(write(archive.subarray(0, -60)), "empty"), /cut short/);
  await assert.rejects(openMember(write(Buffer.from("PK")), "empty"), /cut short/);
});

test("refuses an archive that lost its beginning", async () => {
  await assert.rejects(openMember(write(archive.subarray(100)), "empty"), /damaged|wanted/);
});
