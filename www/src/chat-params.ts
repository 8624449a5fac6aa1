/** OpenAI's chat parameters, checked and put into the engine's terms. What cannot be honoured is refused by name. */

import { PesiError } from "./errors.js";
import type { EngineChatOptions, EngineGenerateOptions, EngineMessage } from "./protocol.js";
import * as validate from "./validate.js";
import { SAMPLING, type Range, type Untrusted } from "./validate.js";

/** A chat request in the engine's terms. */
export interface ChatRequest {
  readonly messages: readonly EngineMessage[];
  readonly chatOptions: EngineChatOptions;
  readonly options: EngineGenerateOptions;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** OpenAI's names of numeric settings: the engine's name, and the bounds where OpenAI's are narrower. */
const NUMBERS: Readonly<Record<string, { readonly engine: keyof EngineGenerateOptions; readonly range?: Range }>> = {
  temperature: { engine: "temperature", range: { min: 0, max: 2 } },
  top_p: { engine: "topP" },
  top_k: { engine: "topK" },
  min_p: { engine: "minP" },
  repetition_penalty: { engine: "repetitionPenalty" },
  frequency_penalty: { engine: "frequencyPenalty" },
  presence_penalty: { engine: "presencePenalty" },
  seed: { engine: "seed" },
  max_tokens: { engine: "maxTokens" },
  max_completion_tokens: { engine: "maxTokens" },
};

/** Parameters with a single value that can be honoured, and how to tell it. */
const ONLY: Readonly<Record<string, { readonly value: string; readonly is: (given: unknown) => boolean }>> = {
  n: { value: "1", is: (given) => given === 1 },
  top_logprobs: { value: "0", is: (given) => given === 0 },
  store: { value: "false", is: (given) => given === false },
  response_format: { value: '{ type: "text" }', is: (given) => (given as { type?: unknown }).type === "text" },
  modalities: {
    value: '["text"]',
    is: (given) => Array.isArray(given) && given.length === 1 && given[0] === "text",
  },
};

/** Parameters that bear on no answer: they are checked to be texts. */
const NOTES = ["model", "user", "safety_identifier", "prompt_cache_key"];

const READ_ELSEWHERE = ["messages", "stream", "stream_options", "stop", "logprobs", "reasoning_effort"];
const KNOWN = new Set([...Object.keys(NUMBERS), ...Object.keys(ONLY), ...NOTES, ...READ_ELSEWHERE]);

const MAX_STOPS = 4;

const EFFORTS = ["low", "medium", "high"] as const;

/** OpenAI's other efforts, which the models here have no words for. */
const OTHER_EFFORTS: readonly unknown[] = ["none", "minimal", "xhigh"];

/** Reads the parameters of `chat.completions.create`. */
export function chatRequest(value: unknown): ChatRequest {
  const given = withoutNulls(validate.object(value, "parameters"));
  for (const name of Object.keys(given)) if (!KNOWN.has(name)) throw unsupported(name);
  for (const [name, only] of Object.entries(ONLY)) {
    if (given[name] !== undefined && !only.is(given[name])) throw unsupported(name, only.value);
  }
  for (const name of NOTES) if (given[name] !== undefined) validate.text(given[name], name);
  const stream = validate.boolean(given.stream, "stream") ?? false;
  return {
    messages: messages(given.messages),
    chatOptions: validate.defined({ reasoningEffort: reasoningEffort(given.reasoning_effort) }),
    options: options(given),
    stream,
    includeUsage: includeUsage(given.stream_options, stream),
  };
}

function options(given: Untrusted): EngineGenerateOptions {
  // OpenAI's default, stated so that it does not hang on the engine's.
  const engine: Record<string, unknown> = { temperature: 1 };
  for (const [name, { engine: engineName, range }] of Object.entries(NUMBERS)) {
    const number = validate.number(given[name], name, range ?? SAMPLING[engineName] ?? {});
    if (number !== undefined) engine[engineName] = number;
  }
  const stop = validate.stopTexts(given.stop, "stop");
  if (stop !== undefined && stop.length > MAX_STOPS) {
    throw validate.badArgument("stop", `at most ${MAX_STOPS} texts`, stop);
  }
  return validate.defined({ ...engine, stop, logprobs: validate.boolean(given.logprobs, "logprobs") });
}

function reasoningEffort(value: unknown): EngineChatOptions["reasoningEffort"] {
  if (OTHER_EFFORTS.includes(value)) {
    throw unsupported(`reasoning_effort ${JSON.stringify(value)}`, '"low", "medium" or "high"');
  }
  return validate.oneOf(value, "reasoning_effort", EFFORTS);
}

function includeUsage(value: unknown, stream: boolean): boolean {
  if (value === undefined) return false;
  if (!stream) throw validate.badArgument("stream_options", "left out where stream is not true", value);
  const { include_usage: usage, include_obfuscation: obfuscation, ...others } = withoutNulls(
    validate.object(value, "stream_options"),
  );
  for (const name of Object.keys(others)) throw unsupported(`stream_options.${name}`);
  if (obfuscation !== undefined && obfuscation !== false) {
    throw unsupported("stream_options.include_obfuscation", "false");
  }
  return validate.boolean(usage, "stream_options.include_usage") ?? false;
}

function messages(value: unknown): EngineMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw validate.badArgument("messages", "a list of at least one message", value);
  }
  return value.map((message, index) => oneMessage(message, `messages[${index}]`));
}

function oneMessage(value: unknown, parameter: string): EngineMessage {
  const { role, content, name, annotations, reasoning_content, reasoning, ...others } = withoutNulls(
    validate.object(value, parameter),
  );
  for (const other of Object.keys(others)) throw unsupported(`${parameter}.${other}`);
  if (annotations !== undefined && !(Array.isArray(annotations) && annotations.length === 0)) {
    throw unsupported(`${parameter}.annotations`, "[]");
  }
  if (role === "tool" || role === "function") throw unsupported(`${parameter}.role ${JSON.stringify(role)}`);
  const known = validate.oneOf(role, `${parameter}.role`, ["developer", "system", "user", "assistant"]);
  if (known === undefined) throw validate.badArgument(`${parameter}.role`, "a role", role);
  const thought = reasoningText({ reasoning_content, reasoning }, parameter);
  if (thought !== undefined && known !== "assistant") {
    throw validate.badArgument(`${parameter}.reasoning_content`, "left out where the role is not assistant", thought);
  }
  return {
    role: known === "developer" ? "system" : known,
    content: textContent(content, `${parameter}.content`),
    ...(name === undefined ? {} : { name: validate.text(name, `${parameter}.name`) }),
    ...(thought === undefined || thought === "" ? {} : { reasoning_content: thought }),
  };
}

/** What an assistant thought, which has two names in use: answers carry both, so that both may come back. */
function reasoningText(given: Untrusted, parameter: string): string | undefined {
  const [first, second] = Object.entries(given)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => validate.text(value, `${parameter}.${name}`));
  if (second !== undefined && second !== first) {
    throw validate.badArgument(`${parameter}.reasoning`, "the same as reasoning_content, or left out", second);
  }
  return first;
}

function textContent(value: unknown, parameter: string): string {
  if (typeof value === "string") return value;
  if (!Array.isArray(value) || value.length === 0) {
    throw validate.badArgument(parameter, "a string or a list of text parts", value);
  }
  const parts = value.map((part: unknown, index) => {
    const name = `${parameter}[${index}]`;
    const { type, text } = validate.object(part, name);
    if (typeof type !== "string") throw validate.badArgument(`${name}.type`, '"text"', type);
    if (type !== "text") throw unsupported(`${name}.type ${JSON.stringify(type)}`, '"text"');
    return validate.text(text, `${name}.text`);
  });
  return parts.join("\n");
}

/** OpenAI's API takes `null` for "left out" everywhere. */
function withoutNulls(value: Untrusted): Untrusted {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== null && item !== undefined));
}

function unsupported(parameter: string, only?: string): PesiError {
  const hint = only === undefined ? "" : `; only ${only} is`;
  return new PesiError("unsupported", `The parameter ${parameter} is not supported${hint}`, {
    parameter,
    ...(only === undefined ? {} : { expected: only }),
  });
}
