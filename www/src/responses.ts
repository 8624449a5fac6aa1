/** OpenAI's Responses API over one model: `model.responses`. Stored responses are kept in memory. */

import { answerTurn, type StartGeneration } from "./chat.js";
import type { Answered } from "./chat-shape.js";
import { PesiError } from "./errors.js";
import type { RequestOptions } from "./openai.js";
import type {
  Response,
  ResponseCreateParams,
  ResponseCreateParamsNonStreaming,
  ResponseCreateParamsStreaming,
  ResponseStreamEvent,
} from "./openai-responses.js";
import { refuseWithoutChat, requestSignal } from "./params.js";
import type { Item } from "./responses-input.js";
import { ResponseWriter } from "./responses-output.js";
import { responseRequest, type Memory, type ResponseRequest } from "./responses-params.js";
import { openStream, type ApiStream } from "./stream.js";
import type { ModelInfo } from "./types.js";
import * as validate from "./validate.js";

/** A streamed response: iterate over it once for its events. Leaving the loop early cancels it. */
export type ResponseStream = ApiStream<ResponseStreamEvent>;

/** How many responses are kept; the oldest make way for new ones. */
const MAX_STORED = 256;

interface Stored {
  readonly response: Response;
  /** The conversation up to the response's end. */
  readonly items: readonly Item[];
}

/** The `responses` namespace of OpenAI's clients. */
export class Responses {
  readonly #info: ModelInfo;
  readonly #start: StartGeneration;
  readonly #stored = new Map<string, Stored>();
  readonly #memory: Memory = {
    itemsUpTo: (id) => this.#stored.get(id)?.items,
    find: (id) => {
      const outputs = [...this.#stored.values()].flatMap(({ response }) => response.output);
      return outputs.find((item) => item.id === id) as Item | undefined;
    },
  };

  /** @internal */
  constructor(info: ModelInfo, start: StartGeneration) {
    this.#info = info;
    this.#start = start;
  }

  /**
   * Answers a conversation, item by item. With `stream: true` the promise resolves when the answer begins, to its
   * events as they come; otherwise to the whole response. Unless `store` is `false`, responses can be continued by
   * `previous_response_id`; the newest 256 are kept in memory, and none beyond the model.
   *
   * @throws {PesiError} as `chat.completions.create` does. A stream that fails says so in an event, and then throws
   */
  create(params: ResponseCreateParamsNonStreaming, options?: RequestOptions): Promise<Response>;
  create(params: ResponseCreateParamsStreaming, options?: RequestOptions): Promise<ResponseStream>;
  create(params: ResponseCreateParams, options?: RequestOptions): Promise<Response | ResponseStream>;
  async create(params: unknown, options?: unknown): Promise<Response | ResponseStream> {
    const request = responseRequest(params, this.#info, this.#memory);
    const signal = requestSignal(options);
    refuseWithoutChat(this.#info);
    return request.stream ? this.#stream(request, signal) : this.#whole(request, signal);
  }

  /**
   * A stored response.
   *
   * @throws {PesiError} of kind `invalid_argument` where there is none of that id
   */
  async retrieve(id: string): Promise<Response> {
    return structuredClone(this.#get(id).response);
  }

  /**
   * Forgets a stored response. What continues it keeps its conversation.
   *
   * @throws {PesiError} of kind `invalid_argument` where there is none of that id
   */
  async delete(id: string): Promise<void> {
    this.#get(id);
    this.#stored.delete(id);
  }

  #get(id: unknown): Stored {
    const found = this.#stored.get(validate.text(id, "id"));
    if (found === undefined) throw validate.badArgument("id", "the id of a stored response", id);
    return found;
  }

  async #whole(request: ResponseRequest, signal: AbortSignal | undefined): Promise<Response> {
    const writer = new ResponseWriter(request, () => {});
    const answered = await answerTurn(this.#start, request.turn, signal, (piece, token) => writer.write(piece, token));
    return this.#finish(request, writer, answered);
  }

  #stream(request: ResponseRequest, signal: AbortSignal | undefined): Promise<ResponseStream> {
    return openStream(signal, async (out) => {
      const writer = new ResponseWriter(request, (event) => out.push(event));
      writer.begin();
      try {
        const answered = await answerTurn(
          this.#start,
          request.turn,
          signal,
          (piece, token) => {
            out.begin();
            writer.write(piece, token);
          },
          out,
        );
        if (!out.isLeft) this.#finish(request, writer, answered);
      } catch (error) {
        if (!(error instanceof PesiError && error.kind === "aborted")) writer.fail((error as Error).message);
        throw error;
      }
    });
  }

  #finish(request: ResponseRequest, writer: ResponseWriter, answered: Answered): Response {
    const response = writer.finish(answered);
    if (response.store) {
      const items = [...request.items, ...(structuredClone(response.output) as unknown as Item[])];
      this.#stored.set(response.id, { response, items });
      const [oldest] = this.#stored.keys();
      if (this.#stored.size > MAX_STORED) this.#stored.delete(oldest as string);
    }
    return response;
  }
}
