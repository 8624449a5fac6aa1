import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import test from "node:test";

import { packageProgram, root } from "../../tools/process.mjs";

test("the package's types fit those of OpenAI's, AWS's and Vercel's packages", () => {
  const args = [packageProgram("typescript", "tsc"), "-p", path.join(root, "tests", "types")];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
