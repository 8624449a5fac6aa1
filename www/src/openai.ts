/**
 * OpenAI's Chat Completions types, as far as a model here can give or take them: what is built to OpenAI's own types
 * can read these answers, and requests written against them are accepted.
 */

/** A part of a message's content. */
export interface ChatCompletionContentPartText {
  type: "text";
  text: string;
}

/** A message of a conversation. `developer` is read as `system`. Several text parts are joined by line breaks. */
export interface ChatCompletionMessageParam {
  role: "developer" | "system" | "user" | "assistant";
  content: string | readonly ChatCompletionContentPartText[];
  /** Who speaks, for chat templates that tell speakers of one role apart. */
  name?: string;
  /** As answers have it, so that they can be sent back. */
  refusal?: null;
  /** Beyond OpenAI's: of an assistant, what it thought before it said `content`, as answers have it. */
  reasoning_content?: string | null;
  /** The other name of `reasoning_content`. */
  reasoning?: string | null;
}

/** The parameters of a chat completion. `null` counts as left out, as in OpenAI's API. */
export interface ChatCompletionCreateParamsBase {
  messages: readonly ChatCompletionMessageParam[];
  /** Required by OpenAI's clients; whatever it names, the model it is asked of answers. */
  model?: string | null;
  /** Tokens to generate at most. Default: until the context is full. */
  max_completion_tokens?: number | null;
  /** The older name of `max_completion_tokens`, which takes precedence. */
  max_tokens?: number | null;
  /** 0 to 2, default 1; 0 takes the most likely token. */
  temperature?: number | null;
  /** Sample among the most likely tokens that together reach this probability. Above 0 to 1, default 1. */
  top_p?: number | null;
  /** Makes sampling repeatable on one device. */
  seed?: number | null;
  /** Up to 4 texts that end the answer and are not part of it. */
  stop?: string | readonly string[] | null;
  /** -2 to 2, default 0. */
  frequency_penalty?: number | null;
  /** -2 to 2, default 0. */
  presence_penalty?: number | null;
  /** Whether each token comes with its log probability. */
  logprobs?: boolean | null;
  /** Only 0: alternatives to the sampled tokens are not reported. */
  top_logprobs?: 0 | null;
  /** Only 1. */
  n?: 1 | null;
  /** Only text. */
  response_format?: { type: "text" } | null;
  /** Only text. */
  modalities?: readonly "text"[] | null;
  /** How much a model that reasons is to do so. Default: as the model has it. Others are not changed by it. */
  reasoning_effort?: "low" | "medium" | "high" | null;
  /** Taken for compatibility; nothing leaves the device. */
  user?: string | null;
  /** Taken for compatibility; nothing leaves the device. */
  safety_identifier?: string | null;
  /** Taken for compatibility: the beginning that a conversation shares with the last one is always reused. */
  prompt_cache_key?: string | null;
  /** Only `false`. */
  store?: false | null;
  /** Beyond OpenAI's: sample among this many most likely tokens. Default 0: all. */
  top_k?: number | null;
  /** Beyond OpenAI's: sample among tokens at least this share as likely as the most likely one. Default 0: all. */
  min_p?: number | null;
  /** Beyond OpenAI's: divides positive and multiplies negative logits of tokens seen before. Default 1: none. */
  repetition_penalty?: number | null;
}

export interface ChatCompletionCreateParamsNonStreaming extends ChatCompletionCreateParamsBase {
  stream?: false | null;
  stream_options?: null;
}

export interface ChatCompletionCreateParamsStreaming extends ChatCompletionCreateParamsBase {
  stream: true;
  stream_options?: ChatCompletionStreamOptions | null;
}

export type ChatCompletionCreateParams = ChatCompletionCreateParamsNonStreaming | ChatCompletionCreateParamsStreaming;

export interface ChatCompletionStreamOptions {
  /** Whether a last chunk, without choices, tells the tokens used. */
  include_usage?: boolean;
  /** Only `false`: chunks are not padded, since they cross no network. */
  include_obfuscation?: false;
}

/** Settings of a request that are no part of its body. */
export interface RequestOptions {
  /** Cancels the request: it, or the iteration over its chunks, then throws a `PesiError` of kind `aborted`. */
  signal?: AbortSignal | null;
}

/** A whole answer. */
export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** When the answer was begun, in seconds since 1970. */
  created: number;
  /** The id of the model that answered. */
  model: string;
  choices: ChatCompletionChoice[];
  usage: CompletionUsage;
}

export interface ChatCompletionChoice {
  index: number;
  message: ChatCompletionMessage;
  logprobs: ChatCompletionLogprobs | null;
  finish_reason: "stop" | "length";
  /** Beyond OpenAI's: where the model broke the format of its answers, a phrase on how. */
  malformed?: string;
}

export interface ChatCompletionMessage {
  role: "assistant";
  content: string;
  refusal: null;
  /** Beyond OpenAI's, where the model reasoned: what it thought, under both names that are in use for it. */
  reasoning_content?: string;
  reasoning?: string;
}

/** A piece of a streamed answer. The first has the role, the last with a choice the reason for the end. */
export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  /** When the answer was begun, in seconds since 1970. */
  created: number;
  /** The id of the model that answers. */
  model: string;
  choices: ChatCompletionChunkChoice[];
  /** With `include_usage`: `null` except in the last chunk. */
  usage?: CompletionUsage | null;
}

export interface ChatCompletionChunkChoice {
  index: number;
  delta: ChatCompletionChunkDelta;
  logprobs: ChatCompletionLogprobs | null;
  finish_reason: "stop" | "length" | null;
  /** Beyond OpenAI's: where the model broke the format of its answers here, a phrase on how. */
  malformed?: string;
}

export interface ChatCompletionChunkDelta {
  role?: "assistant";
  content?: string;
  refusal?: null;
  /** Beyond OpenAI's: what the model thinks, under both names that are in use for it. */
  reasoning_content?: string;
  reasoning?: string;
}

/** The log probabilities of the tokens of `content`; what the model thinks has none. */
export interface ChatCompletionLogprobs {
  content: ChatCompletionTokenLogprob[];
  refusal: null;
}

/**
 * A token's log probability. `token` and `bytes` are the text the token completes: empty while a character is
 * incomplete, whole with the token that completes it, so that all of them joined are the answer. (Where a model says
 * several things one after another, `content` has a blank line between them, which comes from no token.)
 */
export interface ChatCompletionTokenLogprob {
  token: string;
  logprob: number;
  bytes: number[];
  top_logprobs: never[];
}

/** Tokens used by a request. */
export interface CompletionUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** `cached_tokens`: of the prompt's tokens, those the context held already. */
  prompt_tokens_details: { cached_tokens: number };
  /** Where the model can tell: of the completion's tokens, those it thought. */
  completion_tokens_details?: { reasoning_tokens: number };
}
