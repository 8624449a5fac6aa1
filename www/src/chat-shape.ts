/** The objects of OpenAI's chat answers, made of what was read of an answer. */

import type { AnswerPiece, AnswerReader } from "./answer.js";
import { nowInSeconds, randomId } from "./ids.js";
import type {
  ChatCompletion,
  ChatCompletionChoice,
  ChatCompletionChunk,
  ChatCompletionChunkChoice,
  ChatCompletionChunkDelta,
  ChatCompletionFinishReason,
  ChatCompletionLogprobs,
  ChatCompletionMessageToolCall,
  ChatCompletionTokenLogprob,
  ChatCompletionTopLogprob,
  CompletionUsage,
} from "./openai.js";
import type { AnswerToken } from "./protocol.js";
import { tokenText } from "./token-text.js";
import type { GenerationResult } from "./types.js";

/** How an answer went, once it is over. */
export interface Answered {
  readonly answer: AnswerReader;
  readonly result: GenerationResult;
}

/** Builds the objects of one request, which share an id, a time and a model. */
export class ChatShape {
  readonly #id = randomId("chatcmpl-");
  readonly #created = nowInSeconds();
  readonly #model: string;

  constructor(model: string) {
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

  completion(choices: ChatCompletionChoice[], usage: CompletionUsage): ChatCompletion {
    return {
      id: this.#id,
      object: "chat.completion",
      created: this.#created,
      model: this.#model,
      choices,
      usage,
    };
  }
}

/** One of the whole answers. `said` are the tokens of its content, where their probabilities are wanted. */
export function choiceOf(index: number, answered: Answered, said: readonly AnswerToken[] | null): ChatCompletionChoice {
  const { texts, malformed, calls } = answered.answer;
  const toolCalls: ChatCompletionMessageToolCall[] = calls.map(({ id, name, arguments: written }) => {
    return { id, type: "function", function: { name, arguments: written } };
  });
  return {
    index,
    message: {
      role: "assistant",
      content: texts.content === "" && calls.length > 0 ? null : texts.content,
      refusal: null,
      ...(texts.reasoning === "" ? {} : reasoningFields(texts.reasoning)),
      ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls }),
    },
    logprobs: said === null ? null : logprobsOf(said),
    finish_reason: finishReason(answered),
    ...(malformed === undefined ? {} : { malformed }),
  };
}

/** What a piece adds to a streamed answer. A call begins with its name alone, as OpenAI's do. */
export function deltasOf(piece: AnswerPiece): readonly ChatCompletionChunkDelta[] {
  switch (piece.kind) {
    case "content":
      return [{ content: piece.gap + piece.text }];
    case "reasoning":
      return [reasoningFields(piece.gap + piece.text)];
    case "call": {
      const { index, id, name } = piece.call;
      const first: ChatCompletionChunkDelta = {
        tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }],
      };
      const further: ChatCompletionChunkDelta = { tool_calls: [{ index, function: { arguments: piece.text } }] };
      if (!piece.begins) return [further];
      return piece.text === "" ? [first] : [first, further];
    }
    case "neither":
      return [{}];
  }
}

/** What was thought, under the names that clients look for it: some know the one, some the other. */
function reasoningFields(text: string): { reasoning_content: string; reasoning: string } {
  return { reasoning_content: text, reasoning: text };
}

/** Only an answer nobody waits for any more ends as `aborted`, or one that went beyond what was asked for. */
export function finishReason({ answer, result }: Answered): ChatCompletionFinishReason {
  if (result.finishReason === "length") return "length";
  return answer.calls.length > 0 ? "tool_calls" : "stop";
}

/** The tokens that all answers to a request took: their prompt is one. */
export function usageOf(all: readonly [Answered, ...Answered[]]): CompletionUsage {
  const { promptTokens, cachedTokens } = all[0].result;
  const sum = (count: (answered: Answered) => number): number => all.reduce((total, each) => total + count(each), 0);
  const completionTokens = sum(({ result }) => result.completionTokens);
  const tellsReasoning = all.some(({ answer }) => answer.reasoningTokens !== undefined);
  const reasoningTokens = sum(({ answer }) => answer.reasoningTokens ?? 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    ...(tellsReasoning ? { completion_tokens_details: { reasoning_tokens: reasoningTokens } } : {}),
  };
}

/** The log probabilities of tokens. */
export function logprobsOf(tokens: readonly AnswerToken[]): ChatCompletionLogprobs {
  return { content: tokens.map(logprobOf), refusal: null };
}

/** Whether a token has a log probability that is told: those that end a text and the like have none. */
export function hasLogprob({ bytes }: AnswerToken): boolean {
  return bytes !== undefined && bytes.length > 0;
}

/** The log probability of a token, and of those that were as likely. */
export function logprobOf({ bytes = [], logprob, topLogprobs = [] }: AnswerToken): ChatCompletionTokenLogprob {
  return {
    // As OpenAI's API marks a probability it does not know.
    ...entry(bytes, logprob ?? -9999),
    top_logprobs: topLogprobs.map((likely) => entry(likely.bytes, likely.logprob)),
  };
}

function entry(bytes: readonly number[], logprob: number): ChatCompletionTopLogprob {
  return { token: tokenText(bytes), logprob, bytes: [...bytes] };
}
