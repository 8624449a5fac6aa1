/**
 * Pesi runs open-weight language models inside a web page.
 *
 * ```ts
 * import { load } from "pesi";
 *
 * const model = await load("/models/SmolLM2-135M-Instruct.Q4_1.gguf");
 * const answer = await model.chat.completions.create({ messages: [{ role: "user", content: "Hello!" }] });
 * ```
 */

import { Connection } from "./connection.js";
import { abortedError, PesiError } from "./errors.js";
import { Model } from "./model.js";
import { parseSource } from "./source.js";
import type { LoadOptions, ModelSource } from "./types.js";
import { loadOptions } from "./validate.js";

export { PesiError } from "./errors.js";
export type { PesiErrorDetails, PesiErrorKind } from "./errors.js";
export type { Chat, ChatCompletions, ChatCompletionStream } from "./chat.js";
export type { Generation, Model } from "./model.js";
export type * from "./openai.js";
export type * from "./types.js";

/** How long a cancelled load may take to close its files before its worker is ended, in milliseconds. */
const CANCEL_DEADLINE_MS = 2_000;

/**
 * Loads a model into a worker of its own.
 *
 * The page's Content-Security-Policy needs `script-src 'self' 'wasm-unsafe-eval'` and `worker-src 'self'`, and
 * `connect-src` for where the model comes from.
 *
 * @throws {PesiError} of kind `invalid_argument` or `unsupported` where an argument cannot be used, `network`,
 *   `storage`, `invalid_model`, `no_adapter`, `out_of_memory` and others where loading fails, `aborted` where
 *   `signal` was
 */
export async function load(source: ModelSource, options?: LoadOptions): Promise<Model> {
  const { device, options: engineOptions, onProgress, signal } = loadOptions(options);
  const engineSource = await parseSource(source, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (signal?.aborted) throw abortedError(signal);

  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "pesi" });
  const connection = new Connection(worker);
  const call = connection.call(
    "load",
    { source: engineSource, device, options: engineOptions },
    onProgress === undefined ? {} : { onEvent: (progress) => void (signal?.aborted || onProgress(progress)) },
  );

  // The worker is given a moment to close its files, so that the next load does not find them locked.
  let deadline: ReturnType<typeof setTimeout> | undefined;
  const onAbort = (): void => {
    call.cancel();
    deadline = setTimeout(() => connection.close(abortedError(signal)), CANCEL_DEADLINE_MS);
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const info = await call.result;
    if (signal?.aborted) throw abortedError(signal);
    return new Model(connection, info);
  } catch (error) {
    const reason = signal?.aborted ? abortedError(signal) : error;
    connection.close(reason instanceof PesiError ? reason : new PesiError("internal", String(reason)));
    throw reason;
  } finally {
    clearTimeout(deadline);
    signal?.removeEventListener("abort", onAbort);
  }
}
