/** OpenAI's chat API over one model: `model.chat.completions.create`, whole answers and streamed ones. */

import { AnswerReader, type AnswerPiece } from "./answer.js";
import { chatRequest, type ChatRequest } from "./chat-params.js";
import type { Call } from "./connection.js";
import { PesiError } from "./errors.js";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionChunkChoice,
  ChatCompletionChunkDelta,
  ChatCompletionCreateParams,
  ChatCompletionCreateParamsNonStreaming,
  ChatCompletionCreateParamsStreaming,
  ChatCompletionLogprobs,
  CompletionUsage,
  RequestOptions,
} from "./openai.js";
import type { EngineGenerateOptions, EngineToken, GenerateInput } from "./protocol.js";
import { AsyncQueue } from "./queue.js";
import type { GenerationResult, ModelInfo } from "./types.js";
import * as validate from "./validate.js";

/** Starts a generation on the model; `onToken` is called for each token, before the result is there. */
export type StartGeneration = (
  input: GenerateInput,
  options: EngineGenerateOptions,
  signal: AbortSignal | undefined,
  onToken: (token: EngineToken) => void,
) => Call<GenerationResult>;

const REQUEST_OPTIONS: ReadonlySet<string> = new Set(["signal"]);

/** The `chat` namespace of OpenAI's clients. */
export class Chat {
  readonly completions: ChatCompletions;

  /** @internal */
  constructor(info: ModelInfo, start: StartGeneration) {
    this.completions = new ChatCompletions(info, start);
  }
}

/** The `chat.completions` namespace of OpenAI's clients. */
export class ChatCompletions {
  readonly #info: ModelInfo;
  readonly #start: StartGeneration;

  /** @internal */
  constructor(info: ModelInfo, start: StartGeneration) {
    this.#info = info;
    this.#start = start;
  }

  /**
   * Answers a conversation. With `stream: true` the promise resolves when the answer begins, to its chunks as they
   * come; otherwise to the whole answer.
   *
   * @throws {PesiError} of kind `invalid_argument` where a parameter's value cannot be used, `unsupported` where a
   *   parameter is not supported or the model cannot chat, `context_exceeded` where the conversation does
   *   not fit, `aborted` where `signal` was aborted, before the answer or in the middle of it
   */
  create(params: ChatCompletionCreateParamsNonStreaming, options?: RequestOptions): Promise<ChatCompletion>;
  create(params: ChatCompletionCreateParamsStreaming, options?: RequestOptions): Promise<ChatCompletionStream>;
  create(
    params: ChatCompletionCreateParams,
    options?: RequestOptions,
  ): Promise<ChatCompletion | ChatCompletionStream>;
  async create(params: unknown, options?: unknown): Promise<ChatCompletion | ChatCompletionStream> {
    const request = chatRequest(params);
    const given = validate.object(options, "options", true);
    validate.onlyKnown(given, "options", REQUEST_OPTIONS);
    const signal = validate.abortSignal(given.signal ?? undefined, "signal");
    if (!this.#info.chatTemplate) {
      throw new PesiError("unsupported", "The model has no chat format; use generate with a prompt instead");
    }
    const shape = new Shape(this.#info.id);
    const answer = new AnswerReader(this.#info.chatFormat === "harmony");
    return request.stream ? this.#stream(request, signal, shape, answer) : this.#whole(request, signal, shape, answer);
  }

  async #whole(
    request: ChatRequest,
    signal: AbortSignal | undefined,
    shape: Shape,
    answer: AnswerReader,
  ): Promise<ChatCompletion> {
    const said: EngineToken[] = [];
    const call = this.#start(inputOf(request), request.options, signal, (token) => {
      if (answer.read(token).kind === "content") said.push(token);
    });
    const result = await call.result;
    return shape.completion(answer, result, request.options.logprobs ? logprobsOf(said) : null);
  }

  async #stream(
    request: ChatRequest,
    signal: AbortSignal | undefined,
    shape: Shape,
    answer: AnswerReader,
  ): Promise<ChatCompletionStream> {
    const { includeUsage } = request;
    const logprobs = request.options.logprobs === true;
    return new Promise((resolve, reject) => {
      const controller = new AbortController();
      const chunks = new AsyncQueue<ChatCompletionChunk>(() => call.cancel(), signal);
      const stream = new ChatCompletionStream(chunks, controller);
      const push = (choice: Omit<ChatCompletionChunkChoice, "index">): void => {
        chunks.push(shape.chunk([{ index: 0, ...choice }], includeUsage ? null : undefined));
      };
      push({ delta: { role: "assistant", content: "", refusal: null }, logprobs: null, finish_reason: null });
      const call = this.#start(inputOf(request), request.options, signal, (token) => {
        resolve(stream);
        const { malformed } = token;
        const piece = answer.read(token);
        const hasLogprobs = logprobs && piece.kind === "content";
        if (piece.text === "" && !hasLogprobs && malformed === undefined) return;
        push({
          delta: deltaOf(piece),
          logprobs: hasLogprobs ? logprobsOf([token]) : null,
          finish_reason: null,
          ...(malformed === undefined ? {} : { malformed }),
        });
      });
      // As in OpenAI's clients, aborting through the stream's own controller ends the iteration without a throw.
      controller.signal.addEventListener("abort", () => void chunks.return());
      call.result.then(
        (result) => {
          push({ delta: {}, logprobs: null, finish_reason: finishReason(result) });
          if (includeUsage) chunks.push(shape.chunk([], usageOf(result, answer)));
          chunks.end();
          resolve(stream);
        },
        (error: unknown) => {
          chunks.fail(error);
          // Rejects only where no token came before; afterwards the iteration throws.
          reject(error);
        },
      );
    });
  }
}

/** A streamed answer: iterate over it once for its chunks. Leaving the loop early cancels the answer. */
export class ChatCompletionStream implements AsyncIterable<ChatCompletionChunk> {
  /** Aborting it cancels the answer and ends the iteration. */
  readonly controller: AbortController;
  readonly #chunks: AsyncQueue<ChatCompletionChunk>;

  /** @internal */
  constructor(chunks: AsyncQueue<ChatCompletionChunk>, controller: AbortController) {
    this.#chunks = chunks;
    this.controller = controller;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<ChatCompletionChunk, undefined, undefined> {
    return this.#chunks;
  }
}

/** Builds the objects of one answer, which share an id, a time and a model. */
class Shape {
  readonly #id: string;
  readonly #created: number;
  readonly #model: string;

  constructor(model: string) {
    this.#id = `chatcmpl-${randomId()}`;
    this.#created = Math.floor(Date.now() / 1000);
    this.#model = model;
  }

  chunk(choices: ChatCompletionChunkChoice[], usage: CompletionUsage | null | undefined): ChatCompletionChunk {
    return {
      id: this.#id,
      object: "chat.completion.chunk",
      created: this.#created,
      model: this.#model,
      choices,
      ...(usage === undefined ? {} : { usage }),
    };
  }

  completion(
    answer: AnswerReader,
    result: GenerationResult,
    logprobs: ChatCompletionLogprobs | null,
  ): ChatCompletion {
    const { texts, malformed } = answer;
    return {
      id: this.#id,
      object: "chat.completion",
      created: this.#created,
      model: this.#model,
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: texts.content,
            refusal: null,
            ...(texts.reasoning === "" ? {} : reasoningFields(texts.reasoning)),
          },
          logprobs,
          finish_reason: finishReason(result),
          ...(malformed === undefined ? {} : { malformed }),
        },
      ],
      usage: usageOf(result, answer),
    };
  }
}

function inputOf({ messages, chatOptions }: ChatRequest): GenerateInput {
  return { kind: "messages", messages, options: chatOptions };
}

function deltaOf({ kind, text }: AnswerPiece): ChatCompletionChunkDelta {
  switch (kind) {
    case "content":
      return { content: text };
    case "reasoning":
      return reasoningFields(text);
    case "neither":
      return {};
  }
}

/** What was thought, under the names that clients look for it: some know the one, some the other. */
function reasoningFields(text: string): { reasoning_content: string; reasoning: string } {
  return { reasoning_content: text, reasoning: text };
}

/** Only an answer nobody waits for any more ends as `aborted`; whoever cancelled it does not see this. */
function finishReason(result: GenerationResult): "stop" | "length" {
  return result.finishReason === "length" ? "length" : "stop";
}

function usageOf(result: GenerationResult, { isHarmony, reasoningTokens }: AnswerReader): CompletionUsage {
  const { promptTokens, completionTokens, cachedTokens } = result;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    ...(isHarmony || reasoningTokens > 0 ? { completion_tokens_details: { reasoning_tokens: reasoningTokens } } : {}),
  };
}

function logprobsOf(tokens: readonly EngineToken[]): ChatCompletionLogprobs {
  const utf8 = new TextEncoder();
  return {
    content: tokens.map(({ text, logprob }) => ({
      token: text,
      // As OpenAI's API marks a probability it does not know.
      logprob: logprob ?? -9999,
      bytes: [...utf8.encode(text)],
      top_logprobs: [],
    })),
    refusal: null,
  };
}

function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
