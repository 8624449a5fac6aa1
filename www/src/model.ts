/** A loaded model, as the page sees it: every computation is a request to the worker that owns it. */

import { Chat, type StartGeneration } from "./chat.js";
import { Completions } from "./completions.js";
import type { Call, Connection } from "./connection.js";
import { PesiError } from "./errors.js";
import { fetchFrom } from "./fetch.js";
import { nowInSeconds } from "./ids.js";
import type { ModelList } from "./openai-others.js";
import type { AnswerToken, EngineGenerateOptions, GenerateInput } from "./protocol.js";
import { AsyncQueue } from "./queue.js";
import { Responses } from "./responses.js";
import type { GenerateParams, GeneratedToken, GenerationResult, MemoryInUse, ModelInfo } from "./types.js";
import * as validate from "./validate.js";

/** How long a worker may take to free its model before it is ended by force, in milliseconds. */
const DISPOSE_DEADLINE_MS = 10_000;

const EVALUATION_PARAMETERS: ReadonlySet<string> = new Set(["tokens", "signal"]);

/**
 * A model in memory. Requests that compute run one at a time, in the order of the calls; a generation that takes long
 * gives way to those that wait, and goes on after them with the tokens that it would have had. Tokenizing does not wait.
 */
export class Model {
  /** What the model is and where it runs. */
  readonly info: ModelInfo;
  /** OpenAI's chat API: `model.chat.completions.create(…)`. */
  readonly chat: Chat;
  /** OpenAI's older completions, which continue texts: `model.completions.create(…)`. */
  readonly completions: Completions;
  /** OpenAI's Responses API: `model.responses.create(…)`. */
  readonly responses: Responses;
  /**
   * A `fetch` that answers OpenAI's REST paths from this model, whatever the base URL, and sends nothing anywhere:
   * `new OpenAI({ apiKey: "none", fetch: model.fetch, dangerouslyAllowBrowser: true })`.
   */
  readonly fetch: typeof globalThis.fetch;
  readonly #connection: Connection;
  #disposed: Promise<{ readonly freedBytes: number }> | undefined;

  /** @internal Models come from `load`. */
  constructor(connection: Connection, info: ModelInfo) {
    this.#connection = connection;
    this.info = info;
    const start: StartGeneration = (...request) => this.#start(...request);
    this.chat = new Chat(info, start);
    this.completions = new Completions(info, start);
    this.responses = new Responses(info, start);
    const models: ModelList = {
      object: "list",
      data: [{ id: info.id, object: "model", created: nowInSeconds(), owned_by: "pesi" }],
    };
    this.fetch = fetchFrom({
      chat: this.chat.completions,
      completions: this.completions,
      responses: this.responses,
      models: () => structuredClone(models),
    });
  }

  /** The token ids of `text`, with special tokens recognised and none added. */
  async encode(text: string): Promise<Uint32Array> {
    return this.#connection.call("encode", { text: validate.text(text, "text") }).result;
  }

  /** The text of token ids. Bytes that make no whole character come out as U+FFFD. */
  async decode(ids: ArrayLike<number>): Promise<string> {
    const checked = validate.tokenIds(ids, "ids", this.info.vocabularySize, true);
    return this.#connection.call("decode", { ids: checked }).result;
  }

  /**
   * The logits after each of `tokens`, row by row: `[tokens.length, info.vocabularySize]`. For evaluation: every
   * position's logits are computed and copied.
   */
  async logits(params: { tokens: ArrayLike<number>; signal?: AbortSignal }): Promise<Float32Array> {
    return this.#evaluate("logits", params);
  }

  /**
   * The residual stream of each of `tokens`, as it enters the first layer and as it leaves every layer:
   * `[info.layers + 1, tokens.length, info.hiddenSize]`. For evaluation, as {@link logits}.
   */
  async hiddenStates(params: { tokens: ArrayLike<number>; signal?: AbortSignal }): Promise<Float32Array> {
    return this.#evaluate("hiddenStates", params);
  }

  /**
   * Continues a text or tokens. The answer is iterated over token by token:
   *
   * ```ts
   * for await (const { text } of model.generate({ prompt: "Once upon a time", maxTokens: 50 })) write(text);
   * ```
   *
   * Work starts with the call. Leaving the loop early cancels it; so does aborting `signal`, after which the
   * iteration throws a {@link PesiError} of kind `aborted`, whose `cause` is the signal's reason.
   *
   * @throws {PesiError} of kind `invalid_argument`, at once, where a parameter cannot be used
   */
  generate(params: GenerateParams): Generation {
    const { input, options, signal } = validate.generateParams(params, this.info.vocabularySize);
    return new Generation((onToken) => this.#start(input, options, signal, onToken), signal);
  }

  /** The memory in use, told in its turn; {@link ModelInfo.memory} is what a model begins with. */
  memory(): Promise<MemoryInUse> {
    return this.#connection.call("memory", {}).result;
  }

  /**
   * Cancels what is running, frees the model's memory and ends its worker. Running and later calls reject with kind
   * `disposed`.
   *
   * @returns the bytes that were freed on the model's device; 0 where the worker had failed before or had to be
   *   ended by force, which also frees everything
   */
  dispose(): Promise<{ readonly freedBytes: number }> {
    this.#disposed ??= this.#connection.dispose(
      new PesiError("disposed", "The model was disposed of"),
      DISPOSE_DEADLINE_MS,
    );
    return this.#disposed;
  }

  async #evaluate(method: "logits" | "hiddenStates", params: unknown): Promise<Float32Array> {
    const given = validate.object(params, "options");
    validate.onlyKnown(given, "options", EVALUATION_PARAMETERS);
    const tokens = validate.tokenIds(given.tokens, "tokens", this.info.vocabularySize);
    const signal = validate.abortSignal(given.signal, "signal");
    return this.#connection.call(method, { tokens }, { signal }).result;
  }

  #start(
    input: GenerateInput,
    options: EngineGenerateOptions,
    signal: AbortSignal | undefined,
    onToken: (token: AnswerToken) => void,
  ): Call<GenerationResult> {
    const onEvent = (batch: readonly AnswerToken[]): void => batch.forEach(onToken);
    return this.#connection.call("generate", { input, options }, { signal, onEvent });
  }
}

/** An answer under way: iterate over it once for its tokens. Tokens not taken yet wait in memory. */
export class Generation implements AsyncIterable<GeneratedToken> {
  /**
   * How the generation went, once it is over. Rejects as the iteration would; where the loop was left early it
   * resolves with `finishReason` `"aborted"`.
   */
  readonly result: Promise<GenerationResult>;
  readonly #tokens: AsyncQueue<GeneratedToken>;

  /** @internal Generations come from `Model.generate`. */
  constructor(
    start: (onToken: (token: GeneratedToken) => void) => Call<GenerationResult>,
    signal: AbortSignal | undefined,
  ) {
    const tokens = new AsyncQueue<GeneratedToken>(() => call.cancel(), signal);
    const call = start((token) => tokens.push(token));
    this.#tokens = tokens;
    this.result = call.result;
    // Whoever only iterates learns of a failure there; `result` must not count as unhandled as well.
    call.result.then(
      () => tokens.end(),
      (error: unknown) => tokens.fail(error),
    );
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<GeneratedToken, undefined, undefined> {
    return this.#tokens;
  }
}
