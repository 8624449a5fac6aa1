/** OpenAI's chat API over one model: `model.chat.completions.create`, whole answers and streamed ones. */

import { AnswerReader, type AnswerPiece } from "./answer.js";
import { chatRequest, inputOf, type ChatRequest, type Turn } from "./chat-params.js";
import {
  ChatShape,
  choiceOf,
  deltasOf,
  finishReason,
  hasLogprob,
  logprobsOf,
  usageOf,
  type Answered,
} from "./chat-shape.js";
import type { Call } from "./connection.js";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionChunkChoice,
  ChatCompletionCreateParams,
  ChatCompletionCreateParamsNonStreaming,
  ChatCompletionCreateParamsStreaming,
  RequestOptions,
} from "./openai.js";
import { optionsOfChoice, refuseWithoutChat, requestSignal } from "./params.js";
import type { AnswerToken, EngineGenerateOptions, GenerateInput } from "./protocol.js";
import { openStream, type ApiStream, type Producer } from "./stream.js";
import type { GenerationResult, ModelInfo } from "./types.js";

/** Starts a generation on the model; `onToken` is called for each token, before the result is there. */
export type StartGeneration = (
  input: GenerateInput,
  options: EngineGenerateOptions,
  signal: AbortSignal | undefined,
  onToken: (token: AnswerToken) => void,
) => Call<GenerationResult>;

/** A streamed answer: iterate over it once for its chunks. Leaving the loop early cancels the answer. */
export type ChatCompletionStream = ApiStream<ChatCompletionChunk>;

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
   * come; otherwise to the whole answer. Several answers (`n`) are made one after the other.
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
    const request = chatRequest(params, this.#info);
    const signal = requestSignal(options);
    refuseWithoutChat(this.#info);
    const shape = new ChatShape(this.#info.id);
    return request.stream ? this.#stream(request, signal, shape) : this.#whole(request, signal, shape);
  }

  async #whole(request: ChatRequest, signal: AbortSignal | undefined, shape: ChatShape): Promise<ChatCompletion> {
    const choices = [];
    const all = [];
    for (let index = 0; index < request.n; index += 1) {
      const said: AnswerToken[] = [];
      const turn = ofChoice(request, index);
      const answered = await answerTurn(this.#start, turn, signal, ({ kind }, token) => {
        if (kind === "content" && hasLogprob(token)) said.push(token);
      });
      all.push(answered);
      choices.push(choiceOf(index, answered, request.options.logprobs ? said : null));
    }
    return shape.completion(choices, usageOf(all as [Answered, ...Answered[]]));
  }

  #stream(request: ChatRequest, signal: AbortSignal | undefined, shape: ChatShape): Promise<ChatCompletionStream> {
    return openStream(signal, async (out) => {
      const all = [];
      for (let index = 0; index < request.n && !out.isLeft; index += 1) {
        all.push(await this.#streamChoice(ofChoice(request, index), index, signal, shape, out));
      }
      if (request.includeUsage && !out.isLeft) out.push(shape.chunk([], usageOf(all as [Answered, ...Answered[]])));
    });
  }

  async #streamChoice(
    request: ChatRequest,
    index: number,
    signal: AbortSignal | undefined,
    shape: ChatShape,
    out: Producer<ChatCompletionChunk>,
  ): Promise<Answered> {
    const logprobs = request.options.logprobs === true;
    const push = (choice: Omit<ChatCompletionChunkChoice, "index">): void => {
      out.push(shape.chunk([{ index, ...choice }], request.includeUsage ? null : undefined));
    };
    push({ delta: { role: "assistant", content: "", refusal: null }, logprobs: null, finish_reason: null });
    const onPiece = (piece: AnswerPiece, token: AnswerToken): void => {
      out.begin();
      const { malformed } = token;
      const begins = piece.kind === "call" && piece.begins;
      const isLikely = logprobs && piece.kind === "content" && hasLogprob(token);
      if (piece.text === "" && !begins && !isLikely && malformed === undefined) return;
      for (const delta of deltasOf(piece)) {
        push({
          delta,
          logprobs: isLikely ? logprobsOf([token]) : null,
          finish_reason: null,
          ...(malformed === undefined ? {} : { malformed }),
        });
      }
    };
    const answered = await answerTurn(this.#start, request, signal, onPiece, out);
    push({ delta: {}, logprobs: null, finish_reason: finishReason(answered) });
    return answered;
  }
}

function ofChoice(request: ChatRequest, index: number): ChatRequest {
  return { ...request, options: optionsOfChoice(request.options, index) };
}

/** Has the model answer a conversation; `onPiece` is called with what each token adds. */
export async function answerTurn(
  start: StartGeneration,
  turn: Turn,
  signal: AbortSignal | undefined,
  onPiece: (piece: AnswerPiece, token: AnswerToken) => void,
  out?: Pick<Producer<never>, "follow">,
): Promise<Answered> {
  const answer = new AnswerReader(turn.reading);
  const call = start(inputOf(turn), turn.options, signal, (token) => {
    if (answer.isOver) return;
    onPiece(answer.read(token), token);
    if (answer.isOver) call.cancel();
  });
  const result = await (out === undefined ? call.result : out.follow(call));
  return { answer, result };
}
