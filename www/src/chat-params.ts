/** OpenAI's chat parameters, checked and put into the engine's terms. What cannot be honoured is refused by name. */

import type { Reading } from "./answer.js";
import { chatMessages } from "./chat-messages.js";
import * as params from "./params.js";
import type { EngineChatOptions, EngineGenerateOptions, EngineMessage, GenerateInput } from "./protocol.js";
import { chatFormat, chatTools, extras, toolChoice } from "./tool-params.js";
import type { ModelInfo } from "./types.js";
import * as validate from "./validate.js";
import type { Untrusted } from "./validate.js";

/** What one answer to a conversation takes, in the engine's terms. */
export interface Turn {
  readonly messages: readonly EngineMessage[];
  readonly chatOptions: EngineChatOptions;
  readonly options: EngineGenerateOptions;
  readonly reading: Reading;
}

/** A chat request in the engine's terms. */
export interface ChatRequest extends Turn {
  /** How many answers there are to be. */
  readonly n: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

const NUMBERS: params.NumberNames = {
  ...params.COMPLETION_NAMES,
  max_tokens: { engine: "maxTokens" },
  max_completion_tokens: { engine: "maxTokens" },
};

const ONLY: params.OnlyValues = {
  store: params.only(false),
  verbosity: params.only("medium"),
  service_tier: params.SERVICE_TIER,
  modalities: {
    value: '["text"]',
    is: (given) => Array.isArray(given) && given.length === 1 && given[0] === "text",
  },
};

const NAMES = [
  ...Object.keys(NUMBERS),
  ...["messages", "n", "stream", "stream_options", "stop", "logprobs", "top_logprobs", "logit_bias"],
  ...["reasoning_effort", "tools", "tool_choice", "parallel_tool_calls", "response_format"],
];

const MAX_TOP_LOGPROBS = 20;

/** Reads the parameters of `chat.completions.create`. */
export function chatRequest(value: unknown, info: ModelInfo): ChatRequest {
  const given = params.known(value, NAMES, ONLY);
  const stream = validate.boolean(given.stream, "stream") ?? false;
  const tools = chatTools(given.tools);
  const choice = toolChoice(given.tool_choice, tools, (named) => {
    const place = "tool_choice.function";
    return { name: validate.object(named.function, place).name, place: `${place}.name` };
  });
  const isParallel = validate.boolean(given.parallel_tool_calls, "parallel_tool_calls") ?? true;
  const { chat, engine, reading } = extras(tools, choice, chatFormat(given.response_format), isParallel);
  const effort = params.reasoningEffort(given.reasoning_effort, "reasoning_effort");
  return {
    messages: chatMessages(given.messages),
    chatOptions: validate.defined({ reasoningEffort: effort, ...chat }),
    options: { ...options(given, info), ...engine },
    reading: { isHarmony: info.chatFormat === "harmony", ...reading },
    n: params.choices(given.n),
    stream,
    includeUsage: params.includeUsage(given.stream_options, stream),
  };
}

function options(given: Untrusted, { vocabularySize }: ModelInfo): EngineGenerateOptions {
  const logprobs = validate.boolean(given.logprobs, "logprobs");
  const range = { min: 0, max: MAX_TOP_LOGPROBS, whole: true };
  const topLogprobs = validate.number(given.top_logprobs, "top_logprobs", range) ?? 0;
  if (topLogprobs > 0 && logprobs !== true) {
    throw validate.badArgument("top_logprobs", "left out where logprobs is not true", topLogprobs);
  }
  return validate.defined({
    ...params.numbers(given, NUMBERS),
    stop: params.stops(given.stop),
    logitBias: params.logitBias(given.logit_bias, vocabularySize),
    logprobs,
    topLogprobs: topLogprobs === 0 ? undefined : topLogprobs,
  });
}

/** What the engine continues for a turn. */
export function inputOf({ messages, chatOptions }: Turn): GenerateInput {
  return { kind: "messages", messages, options: chatOptions };
}
