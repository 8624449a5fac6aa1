/** OpenAI's older completions over one model, which continue texts: `model.completions.create`. */

import type { StartGeneration } from "./chat.js";
import { hasLogprob } from "./chat-shape.js";
import { completionRequest, type CompletionRequest } from "./completions-params.js";
import { nowInSeconds, randomId } from "./ids.js";
import type { CompletionUsage, RequestOptions } from "./openai.js";
import type {
  Completion,
  CompletionChoice,
  CompletionCreateParams,
  CompletionCreateParamsNonStreaming,
  CompletionCreateParamsStreaming,
  CompletionLogprobs,
} from "./openai-others.js";
import { optionsOfChoice, requestSignal } from "./params.js";
import type { AnswerToken } from "./protocol.js";
import { openStream, type ApiStream, type Producer } from "./stream.js";
import { tokenText } from "./token-text.js";
import type { GenerationResult, ModelInfo } from "./types.js";

/** Streamed continuations: iterate over it once for their pieces. Leaving the loop early cancels them. */
export type CompletionStream = ApiStream<Completion>;

/** The `completions` namespace of OpenAI's clients. */
export class Completions {
  readonly #info: ModelInfo;
  readonly #start: StartGeneration;

  /** @internal */
  constructor(info: ModelInfo, start: StartGeneration) {
    this.#info = info;
    this.#start = start;
  }

  /**
   * Continues texts, without the model's chat format. Several continuations are made one after the other.
   *
   * @throws {PesiError} as `chat.completions.create` does
   */
  create(params: CompletionCreateParamsNonStreaming, options?: RequestOptions): Promise<Completion>;
  create(params: CompletionCreateParamsStreaming, options?: RequestOptions): Promise<CompletionStream>;
  create(params: CompletionCreateParams, options?: RequestOptions): Promise<Completion | CompletionStream>;
  async create(params: unknown, options?: unknown): Promise<Completion | CompletionStream> {
    const request = completionRequest(params, this.#info);
    const signal = requestSignal(options);
    const head = {
      id: randomId("cmpl-"),
      object: "text_completion" as const,
      created: nowInSeconds(),
      model: this.#info.id,
    };
    if (request.stream) return this.#stream(request, signal, head);
    const choices: CompletionChoice[] = [];
    const results: GenerationResult[] = [];
    for (const [index, start] of this.#generations(request, signal).entries()) {
      const tokens: AnswerToken[] = [];
      const result = await start((token) => tokens.push(token)).result;
      const text = tokens.map((token) => token.text).join("");
      const logprobs = request.options.logprobs ? logprobsOf(tokens, 0) : null;
      choices.push({ index, text, logprobs, finish_reason: finishReason(result) });
      results.push(result);
    }
    return { ...head, choices, usage: usageOf(results, request.n) };
  }

  #stream(
    request: CompletionRequest,
    signal: AbortSignal | undefined,
    head: Omit<Completion, "choices" | "usage">,
  ): Promise<CompletionStream> {
    const usage = request.includeUsage ? { usage: null } : {};
    return openStream(signal, async (out) => {
      const results: GenerationResult[] = [];
      const push = (choice: CompletionChoice): void => out.push({ ...head, choices: [choice], ...usage });
      for (const [index, start] of this.#generations(request, signal).entries()) {
        if (out.isLeft) return;
        const result = await follow(start, index, request, out, push);
        push({ index, text: "", logprobs: null, finish_reason: finishReason(result) });
        results.push(result);
      }
      if (request.includeUsage) out.push({ ...head, choices: [], usage: usageOf(results, request.n) });
    });
  }

  /** What starts each of a request's generations, in their order. */
  #generations({ inputs, options, n }: CompletionRequest, signal: AbortSignal | undefined): StartOne[] {
    return inputs.flatMap((input) =>
      Array.from({ length: n }, (_, index): StartOne => {
        return (onToken) => this.#start(input, optionsOfChoice(options, index), signal, onToken);
      }),
    );
  }
}

type StartOne = (onToken: (token: AnswerToken) => void) => ReturnType<StartGeneration>;

async function follow(
  start: StartOne,
  index: number,
  request: CompletionRequest,
  out: Producer<Completion>,
  push: (choice: CompletionChoice) => void,
): Promise<GenerationResult> {
  let offset = 0;
  const call = start((token) => {
    out.begin();
    const logprobs = request.options.logprobs && hasLogprob(token) ? logprobsOf([token], offset) : null;
    offset += token.text.length;
    if (token.text === "" && logprobs === null) return;
    push({ index, text: token.text, logprobs, finish_reason: null });
  });
  return out.follow(call);
}

function finishReason(result: GenerationResult): "stop" | "length" {
  return result.finishReason === "length" ? "length" : "stop";
}

function logprobsOf(answer: readonly AnswerToken[], start: number): CompletionLogprobs {
  let offset = start;
  const tokens = answer.filter(hasLogprob);
  const hasTop = tokens.some(({ topLogprobs }) => topLogprobs !== undefined);
  return {
    tokens: tokens.map(({ bytes = [] }) => tokenText(bytes)),
    // As OpenAI's API marks a probability it does not know.
    token_logprobs: tokens.map(({ logprob }) => logprob ?? -9999),
    top_logprobs: hasTop ? tokens.map(likeliest) : null,
    text_offset: tokens.map(({ text }) => {
      offset += text.length;
      return offset - text.length;
    }),
  };
}

function likeliest({ topLogprobs = [] }: AnswerToken): Record<string, number> {
  return Object.fromEntries(topLogprobs.map(({ bytes, logprob }) => [tokenText(bytes), logprob]));
}

/** The tokens used by generations, `n` of each prompt. */
function usageOf(results: readonly GenerationResult[], n: number): CompletionUsage {
  const firsts = results.filter((_, index) => index % n === 0);
  type Count = "promptTokens" | "cachedTokens" | "completionTokens";
  const sum = (list: readonly GenerationResult[], count: Count): number => {
    return list.reduce((total, result) => total + result[count], 0);
  };
  const promptTokens = sum(firsts, "promptTokens");
  const completionTokens = sum(results, "completionTokens");
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: sum(firsts, "cachedTokens") },
  };
}
