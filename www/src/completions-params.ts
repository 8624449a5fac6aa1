/** The parameters of OpenAI's older completions, checked and put into the engine's terms. */

import * as params from "./params.js";
import type { EngineGenerateOptions, GenerateInput } from "./protocol.js";
import type { ModelInfo } from "./types.js";
import * as validate from "./validate.js";
import type { Untrusted } from "./validate.js";

/** A request for completions in the engine's terms. */
export interface CompletionRequest {
  readonly inputs: readonly GenerateInput[];
  readonly options: EngineGenerateOptions;
  /** How many continuations of each input. */
  readonly n: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

const NUMBERS: params.NumberNames = { ...params.COMPLETION_NAMES, max_tokens: { engine: "maxTokens" } };

const ONLY: params.OnlyValues = { echo: params.only(false), best_of: params.only(1) };

const NAMES = [...Object.keys(NUMBERS), "prompt", "n", "stream", "stream_options", "stop", "logprobs", "logit_bias"];

/** OpenAI's default of `max_tokens` here. */
const MAX_TOKENS = 16;

const MAX_LOGPROBS = 5;

/** Reads the parameters of `completions.create`. */
export function completionRequest(value: unknown, info: ModelInfo): CompletionRequest {
  const given = params.known(value, NAMES, ONLY);
  const stream = validate.boolean(given.stream, "stream") ?? false;
  return {
    inputs: inputs(given.prompt, info.vocabularySize),
    options: options(given, info.vocabularySize),
    n: params.choices(given.n),
    stream,
    includeUsage: params.includeUsage(given.stream_options, stream),
  };
}

function options(given: Untrusted, vocabularySize: number): EngineGenerateOptions {
  const logprobs = validate.number(given.logprobs, "logprobs", { min: 0, max: MAX_LOGPROBS, whole: true });
  return validate.defined({
    maxTokens: MAX_TOKENS,
    ...params.numbers(given, NUMBERS),
    stop: params.stops(given.stop),
    logitBias: params.logitBias(given.logit_bias, vocabularySize),
    logprobs: logprobs === undefined ? undefined : true,
    topLogprobs: logprobs === 0 ? undefined : logprobs,
  });
}

function inputs(value: unknown, vocabularySize: number): GenerateInput[] {
  if (typeof value === "string") return [{ kind: "prompt", prompt: value }];
  if (!Array.isArray(value) || value.length === 0) {
    throw validate.badArgument("prompt", "a text, token ids, or a list of them", value);
  }
  const tokens = (ids: unknown, place: string): GenerateInput => {
    return { kind: "tokens", tokens: validate.tokenIds(ids, place, vocabularySize) };
  };
  if (typeof value[0] === "number") return [tokens(value, "prompt")];
  return value.map((each: unknown, index): GenerateInput => {
    const place = `prompt[${index}]`;
    return typeof each === "string" ? { kind: "prompt", prompt: each } : tokens(each, place);
  });
}
