/**
 * OpenAI's Chat Completions types, as far as a model here can give or take them: what is built to OpenAI's own types
 * can read these answers, and requests written against them are accepted.
 */

/** A part of a message's content. */
export interface ChatCompletionContentPartText {
  type: "text";
  text: string;
}

/** What a message says. Several text parts are joined by line breaks. */
export type ChatCompletionContent = string | readonly ChatCompletionContentPartText[];

/** A message of a conversation. */
export type ChatCompletionMessageParam =
  | ChatCompletionInputMessageParam
  | ChatCompletionAssistantMessageParam
  | ChatCompletionToolMessageParam;

/** What the model is told. `developer` is read as `system`. */
export interface ChatCompletionInputMessageParam {
  role: "developer" | "system" | "user";
  content: ChatCompletionContent;
  /** Who speaks, for chat templates that tell speakers of one role apart. */
  name?: string;
}

/** What the model has answered; the messages of answers can be sent back as they are. */
export interface ChatCompletionAssistantMessageParam {
  role: "assistant";
  /** `null` only where there are `tool_calls`. */
  content?: ChatCompletionContent | null;
  /** Who speaks, for chat templates that tell speakers of one role apart. */
  name?: string;
  refusal?: null;
  tool_calls?: readonly ChatCompletionMessageToolCall[];
  /** Beyond OpenAI's: what it thought before it said `content`. */
  reasoning_content?: string | null;
  /** The other name of `reasoning_content`. */
  reasoning?: string | null;
}

/** What a tool answers. */
export interface ChatCompletionToolMessageParam {
  role: "tool";
  content: ChatCompletionContent;
  /** The id of the call that it answers, one of an assistant's message before. */
  tool_call_id: string;
}

/** A call of a tool. */
export interface ChatCompletionMessageToolCall {
  id: string;
  type: "function";
  /** `arguments` is JSON as the model wrote it: without `strict` it may be invalid. */
  function: { name: string; arguments: string };
}

/** A function that the model may call. */
export interface FunctionDefinition {
  /** 1 to 64 letters, digits, underscores and hyphens. */
  name: string;
  description?: string | null;
  /** A JSON schema of the arguments. Default: it takes none. */
  parameters?: Record<string, unknown> | null;
  /** Whether the model is held to `parameters`. Default `false`. */
  strict?: boolean | null;
}

/** A tool that the model may call. */
export interface ChatCompletionTool {
  type: "function";
  function: FunctionDefinition;
}

/** Whether the model calls tools: not at all, at will, at least one, or the one that is named. */
export type ChatCompletionToolChoiceOption =
  | "none"
  | "auto"
  | "required"
  | { type: "function"; function: { name: string } };

/** The form of an answer: any, any JSON object, or JSON that a schema describes, which the model is held to. */
export type ChatCompletionResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | {
      type: "json_schema";
      json_schema: { name: string; description?: string; schema: Record<string, unknown>; strict?: boolean | null };
    };

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
  /** With `logprobs`, how many of the likeliest tokens come with each: 0 to 20, default 0. */
  top_logprobs?: number | null;
  /** Added to the logits of tokens by their ids, -100 to 100; -100 rules a token out. */
  logit_bias?: Readonly<Record<string, number>> | null;
  /** How many answers to give, 1 to 128, default 1. With a `seed` each counts on from it. */
  n?: number | null;
  /** Default: any text. */
  response_format?: ChatCompletionResponseFormat | null;
  /** The tools that the model may call. */
  tools?: readonly ChatCompletionTool[] | null;
  /** Default `"auto"`. With `"none"` the model is not told of the tools. */
  tool_choice?: ChatCompletionToolChoiceOption | null;
  /** Whether an answer may have several calls. Default `true`. */
  parallel_tool_calls?: boolean | null;
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
  /** Taken for compatibility. */
  prompt_cache_retention?: string | null;
  /** Taken for compatibility: at most 16 texts. */
  metadata?: Readonly<Record<string, string>> | null;
  /** Only `"auto"` and `"default"`. */
  service_tier?: "auto" | "default" | null;
  /** Only `"medium"`. */
  verbosity?: "medium" | null;
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

/** Why an answer ended: by itself or a stop text, at its limit, or to have tools called. */
export type ChatCompletionFinishReason = "stop" | "length" | "tool_calls";

export interface ChatCompletionChoice {
  index: number;
  message: ChatCompletionMessage;
  logprobs: ChatCompletionLogprobs | null;
  finish_reason: ChatCompletionFinishReason;
  /** Beyond OpenAI's: where the model broke the format of its answers, a phrase on how. */
  malformed?: string;
}

export interface ChatCompletionMessage {
  role: "assistant";
  /** `null` where the model only calls tools. */
  content: string | null;
  refusal: null;
  tool_calls?: ChatCompletionMessageToolCall[];
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
  finish_reason: ChatCompletionFinishReason | null;
  /** Beyond OpenAI's: where the model broke the format of its answers here, a phrase on how. */
  malformed?: string;
}

export interface ChatCompletionChunkDelta {
  role?: "assistant";
  content?: string;
  refusal?: null;
  /** A part of a call: its first has id, type and name. */
  tool_calls?: ChatCompletionChunkToolCall[];
  /** Beyond OpenAI's: what the model thinks, under both names that are in use for it. */
  reasoning_content?: string;
  reasoning?: string;
}

/** A part of a call of a tool; `arguments` of all parts with its `index` are to be joined. */
export interface ChatCompletionChunkToolCall {
  index: number;
  id?: string;
  type?: "function";
  function: { name?: string; arguments: string };
}

/** The log probabilities of the tokens of `content`; what the model thinks has none. */
export interface ChatCompletionLogprobs {
  content: ChatCompletionTokenLogprob[];
  refusal: null;
}

/**
 * A token's log probability. `bytes` are those that the token stands for: all of them joined are the answer, where no
 * stop string cuts it, but a token may have a part of a character only. `token` is their text, in which such parts are
 * spelled `\xf0`. Tokens that are no text, such as the one that ends the answer, have none. (Where a model says several
 * things one after another, `content` has a blank line between them, which comes from no token.)
 */
export interface ChatCompletionTokenLogprob {
  token: string;
  logprob: number;
  bytes: number[];
  top_logprobs: ChatCompletionTopLogprob[];
}

/** One of the likeliest tokens; of one that is no text, `token` and `bytes` are its name. */
export interface ChatCompletionTopLogprob {
  token: string;
  logprob: number;
  bytes: number[];
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
