/**
 * What the examples' pages share, none of it about models: a form to ask with, a line that says how things stand, and a
 * place for what comes out. In a page's address `model` names another model than its own, and `parameters`, as JSON,
 * adds to what requests ask for.
 */

const form = /** @type {HTMLFormElement} */ (document.querySelector("form"));
const ask = /** @type {HTMLButtonElement} */ (form.querySelector("button:not([type])"));
const stop = /** @type {HTMLButtonElement} */ (form.querySelector("button[type=button]"));
const status = /** @type {HTMLElement} */ (document.querySelector("[role=status]"));
const output = /** @type {HTMLElement} */ (document.querySelector("output"));

export const address = new URLSearchParams(location.search);

/** The model that the page loads. */
export const source = address.get("model") ?? document.body.dataset.model ?? "";

/** @type {Record<string, unknown>} */
export const parameters = JSON.parse(address.get("parameters") ?? "{}");

/**
 * Says how things stand.
 *
 * @param {string} text
 */
export function say(text) {
  status.textContent = text;
}

/**
 * Adds to what has come out.
 *
 * @param {string} text
 */
export function write(text) {
  output.append(text);
}

/**
 * Says how far loading is.
 *
 * @param {import("pesi").Progress} progress
 */
export function onProgress({ loadedBytes, totalBytes }) {
  const megabytes = (/** @type {number} */ bytes) => Math.round(bytes / 1e6);
  say(`Loading the model: ${megabytes(loadedBytes)} of ${megabytes(totalBytes)} MB`);
}

/**
 * Has what is typed into the form answered, now that everything is ready for that.
 *
 * @param {(question: string, signal: AbortSignal) => Promise<void>} answer writes; `signal` is aborted by the button
 *   that says so
 */
export function onAsk(answer) {
  let asked = new AbortController();
  ask.disabled = false;
  say("Ready.");
  stop.addEventListener("click", () => asked.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    asked = new AbortController();
    [ask.disabled, stop.disabled] = [true, false];
    output.replaceChildren();
    say("Answering …");
    try {
      await answer(String(new FormData(form).get("question")), asked.signal);
      say("Done.");
    } catch (error) {
      say(asked.signal.aborted ? "Stopped." : String(error));
    } finally {
      [ask.disabled, stop.disabled] = [false, true];
    }
  });
}

// A script that fails on its way to `onAsk` says why.
addEventListener("error", ({ message }) => say(message));
