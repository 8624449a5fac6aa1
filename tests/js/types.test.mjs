import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import test from "node:test";

import { packageProgram, root } from "../../tools/process.mjs";

for (const [what, ...folder] of [
  ["the package's types fit those of OpenAI's, AWS's and Vercel's packages", "tests", "types"],
  ["the examples use the package as its types have it", "www", "examples"],
]) {
  test(what, () => {
    const args = [packageProgram("typescript", "tsc"), "-p", path.join(root, ...folder)];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  });
}
