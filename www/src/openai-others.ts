/** The types of OpenAI's older completions, of its models, and of its errors. */

import type { CompletionUsage } from "./openai.js";

/** The parameters of a completion. `null` counts as left out, as in OpenAI's API. */
export interface CompletionCreateParamsBase {
  /** What is continued: a text, token ids, or several of one of them. */
  prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  /** Required by OpenAI's clients; whatever it names, the model it is asked of answers. */
  model?: string | null;
  /** Tokens to generate at most. Default 16. */
  max_tokens?: number | null;
  /** 0 to 2, default 1; 0 takes the most likely token. */
  temperature?: number | null;
  /** Above 0 to 1, default 1. */
  top_p?: number | null;
  /** How many continuations of each prompt to give, 1 to 128, default 1. */
  n?: number | null;
  /** Whether each token comes with its log probability, and how many of the likeliest with it: 0 to 5. */
  logprobs?: number | null;
  /** Up to 4 texts that end the continuation and are not part of it. */
  stop?: string | readonly string[] | null;
  /** -2 to 2, default 0. */
  frequency_penalty?: number | null;
  /** -2 to 2, default 0. */
  presence_penalty?: number | null;
  /** Added to the logits of tokens by their ids, -100 to 100. */
  logit_bias?: Readonly<Record<string, number>> | null;
  /** Makes sampling repeatable on one device. */
  seed?: number | null;
  /** Only `false`. */
  echo?: false | null;
  /** Only 1. */
  best_of?: 1 | null;
  /** Taken for compatibility; nothing leaves the device. */
  user?: string | null;
  /** Beyond OpenAI's, as in chat completions. */
  top_k?: number | null;
  /** Beyond OpenAI's, as in chat completions. */
  min_p?: number | null;
  /** Beyond OpenAI's, as in chat completions. */
  repetition_penalty?: number | null;
}

export interface CompletionCreateParamsNonStreaming extends CompletionCreateParamsBase {
  stream?: false | null;
  stream_options?: null;
}

export interface CompletionCreateParamsStreaming extends CompletionCreateParamsBase {
  stream: true;
  stream_options?: { include_usage?: boolean; include_obfuscation?: false } | null;
}

export type CompletionCreateParams = CompletionCreateParamsNonStreaming | CompletionCreateParamsStreaming;

/** Continuations, or, streamed, a piece of one. */
export interface Completion {
  id: string;
  object: "text_completion";
  /** In seconds since 1970. */
  created: number;
  /** The id of the model that answered. */
  model: string;
  choices: CompletionChoice[];
  /** Streamed, with `include_usage`: `null` except in the last piece. */
  usage?: CompletionUsage | null;
}

export interface CompletionChoice {
  /** The number of its prompt times `n`, and its own. */
  index: number;
  text: string;
  logprobs: CompletionLogprobs | null;
  /** `null` in pieces ahead of the last one. */
  finish_reason: "stop" | "length" | null;
}

/** The log probabilities of a continuation's tokens, in lists of one length. */
export interface CompletionLogprobs {
  /** Their texts; parts of characters are spelled `\xf0`. */
  tokens: string[];
  token_logprobs: number[];
  /** The likeliest tokens by their texts; `null` where none were asked for. */
  top_logprobs: Record<string, number>[] | null;
  /** Where in the continuation the text begins that each token completes, in UTF-16 units. */
  text_offset: number[];
}

/** A model in OpenAI's list of them. */
export interface ModelObject {
  id: string;
  object: "model";
  /** When it was loaded, in seconds since 1970. */
  created: number;
  owned_by: string;
}

/** OpenAI's list of models: the one that is loaded. */
export interface ModelList {
  object: "list";
  data: ModelObject[];
}

/** An error as OpenAI's API answers with it. */
export interface ErrorObject {
  message: string;
  type: string;
  param: string | null;
  code: string | null;
}
