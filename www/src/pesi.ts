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

import { askToPersist, withEstimate } from "./browser-storage.js";
import { ask, launch } from "./launch.js";
import { Model } from "./model.js";
import { baseAddress, parseSource } from "./source.js";
import type { Forecast, ForecastOptions, LoadOptions, ModelSource } from "./types.js";
import { forecastOptions, loadOptions } from "./validate.js";

export { PesiError } from "./errors.js";
export { models } from "./models.js";
export { createRouter } from "./router.js";
export type { PesiErrorDetails, PesiErrorKind } from "./errors.js";
export type { Chat, ChatCompletions, ChatCompletionStream } from "./chat.js";
export type { Completions, CompletionStream } from "./completions.js";
export type { Responses, ResponseStream } from "./responses.js";
export type { ApiStream } from "./stream.js";
export type { Generation, Model } from "./model.js";
export type { RemoteServer, RoutedModel, RoutedRequest, RouteReason, RouterOptions } from "./router.js";
export type * from "./openai.js";
export type * from "./openai-others.js";
export type * from "./openai-responses.js";
export type * from "./types.js";

/**
 * Loads a model into a worker of its own. A download that is interrupted is taken up where it was by the next `load` of
 * the same model, unless `cache` is `false`.
 *
 * The page's Content-Security-Policy needs `script-src 'self' 'wasm-unsafe-eval'` and `worker-src 'self'`, and
 * `connect-src` for where the model comes from.
 *
 * @throws {PesiError} of kind `invalid_argument` or `unsupported` where an argument cannot be used, `network`,
 *   `storage`, `quota_exceeded`, `invalid_model`, `no_adapter`, `out_of_memory` and others where loading fails,
 *   `aborted` where `signal` was
 */
export async function load(source: ModelSource, options?: LoadOptions): Promise<Model> {
  const { device, options: engineOptions, onProgress, signal } = loadOptions(options);
  const engineSource = await parseSource(source, baseAddress());
  if (engineOptions.cache && !signal?.aborted) askToPersist();
  try {
    const params = { source: engineSource, device, options: engineOptions };
    const { connection, value } = await launch("load", params, { signal, onEvent: onProgress });
    return new Model(connection, value);
  } catch (error) {
    throw await withEstimate(error);
  }
}

/**
 * Tells what a model would take on this device, before it is downloaded: only the beginnings of its files are read, and
 * nothing of a model that is stored whole.
 *
 * @throws {PesiError} as {@link load} does; a model that does not fit is no error
 */
export async function forecast(source: ModelSource, options?: ForecastOptions): Promise<Forecast> {
  const { device, options: engineOptions, signal } = forecastOptions(options);
  const engineSource = await parseSource(source, baseAddress());
  return ask("forecast", { source: engineSource, device, options: engineOptions }, { signal });
}
