/**
 * From a fresh clone to an answer: fetches what is missing, builds, and serves the demo page.
 *
 *     npm start [-- --port N] [--models FOLDER]...
 *     npm start -- --ask "QUESTION" [--device auto|cpu|webgpu]
 *
 * With `--ask` the question is typed into the page in a Chromium without a window, and the page's
 * answer is written to standard output as it grows.
 */
import { parseArgs } from "node:util";

import { ask } from "./ask.mjs";
import { build } from "./build.mjs";
import { ensureModel } from "./default-model.mjs";
import { ToolError, runAsProgram, say } from "./process.mjs";
import { startServer } from "./serve.mjs";
import { ensureChromium, setUpBuild } from "./setup.mjs";

const PORT = 8080;
const DEVICES = ["auto", "cpu", "webgpu"];

async function start() {
  const { values } = parseArgs({
    options: {
      ask: { type: "string" },
      device: { type: "string", default: "auto" },
      port: { type: "string" },
      models: { type: "string", multiple: true },
    },
  });
  if (!DEVICES.includes(values.device)) {
    throw new ToolError(`--device takes ${DEVICES.join(", ")}`);
  }
  await setUpBuild();
  if (values.ask !== undefined) await ensureChromium();
  await ensureModel();
  await build();
  if (values.ask === undefined) await serve(values);
  else await ask({ question: values.ask, device: values.device, models: values.models });
}

async function serve({ port, models }) {
  const options = { models, isolated: true };
  const server =
    port === undefined
      ? await startServer({ ...options, port: PORT }).catch(() => startServer(options))
      : await startServer({ ...options, port: Number(port) });
  console.log(`Pesi is at ${server.url}/ (Ctrl-C ends it)`);
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, async () => {
      await server.close();
      say("ended");
    });
  }
}

await runAsProgram(import.meta.url, start);
