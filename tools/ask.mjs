/**
 * Asks one question through the demo page, in a Chromium without a window: the model is chosen and
 * loaded, the question typed and sent as a person would, and the page's answer written to standard
 * output as it grows.
 */
import { openLocalPage } from "./local-page.mjs";
import { ToolError, say } from "./process.mjs";

/** A large model or a slow machine is no failure of the page. */
const NO_DEADLINE = { timeout: 0 };
/** The exit code that shells give a program ended by Ctrl-C. */
const INTERRUPTED = 130;

/**
 * @param {object} options
 * @param {string} options.question
 * @param {"auto" | "cpu" | "webgpu"} options.device
 * @param {string[]} [options.models] further folders of models, see `startServer`.
 * @throws {ToolError} with what the page says where it cannot load or answer.
 */
export async function ask({ question, device, models }) {
  const local = await openLocalPage({ models, isolated: true });
  const interruption = new AbortController();
  const interrupt = () => {
    interruption.abort();
    local.close();
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, interrupt);
  try {
    const page = await local.context.newPage();
    await page.goto(`${local.url}/demo/?device=${device}`);
    await load(page);
    await answer(page, question);
  } catch (error) {
    if (!interruption.signal.aborted) throw error;
    process.exitCode = INTERRUPTED;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, interrupt);
    await local.close();
  }
}

async function load(page) {
  await page.locator("#choice-0").check();
  await page.locator("#load").click();
  const outcome = page.locator("body[data-view=chat], #load-error:not([hidden])");
  await outcome.first().waitFor({ state: "attached", ...NO_DEADLINE });
  const failure = page.locator("#load-error");
  if (await failure.isVisible()) {
    throw new ToolError(`the model could not be loaded: ${await failure.textContent()}`);
  }
  const facts = await page.locator("#device [data-field=device]").textContent();
  const reason = await page.locator("#device [data-field=reason]").textContent();
  say(`device: ${facts}. ${reason}`);
}

async function answer(page, question) {
  let hasText = false;
  await page.exposeFunction("writeAnswer", (text) => {
    hasText ||= text.trim() !== "";
    process.stdout.write(text);
  });
  await page.locator("#messages").evaluate((messages) => {
    messages.addEventListener("answer-text", ({ detail }) => {
      globalThis.written = globalThis.writeAnswer(detail);
    });
  });
  await page.locator("#prompt").fill(question);
  await page.locator("#send").click();
  const message = page.locator("#messages article.assistant");
  const ended = page.locator("article.assistant:is([data-state=done], [data-state=failed])");
  await ended.waitFor(NO_DEADLINE);
  await page.locator("#stop").waitFor({ state: "hidden", ...NO_DEADLINE });
  await page.evaluate(() => globalThis.written);
  process.stdout.write("\n");
  if ((await message.getAttribute("data-state")) === "failed") {
    throw new ToolError(`no answer: ${await message.locator(".notice").textContent()}`);
  }
  if (!hasText) throw new ToolError("the answer is empty");
  say(await page.locator("#stats").textContent());
}
