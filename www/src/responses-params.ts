/** The parameters of the Responses API, checked and put into the engine's terms. */

import type { Turn } from "./chat-params.js";
import { nowInSeconds, randomId } from "./ids.js";
import type { Response, ResponseFunctionTool, ResponseTextFormat, ResponseToolChoice } from "./openai-responses.js";
import * as params from "./params.js";
import type { EngineChatTool, EngineToolChoice } from "./protocol.js";
import { inputItems, messagesOf, type FindItem, type Item } from "./responses-input.js";
import type { Format } from "./tool-params.js";
import { badType, extras, formatType, functionTool, list, schemaFormat, toolChoice } from "./tool-params.js";
import type { ModelInfo } from "./types.js";
import * as validate from "./validate.js";
import type { Untrusted } from "./validate.js";

/** A request of the Responses API in the engine's terms. */
export interface ResponseRequest {
  readonly turn: Turn;
  /** What was said so far: what a response that continues this one begins with. */
  readonly items: readonly Item[];
  readonly stream: boolean;
  readonly logprobs: boolean;
  /** Whether reasoning comes in the form that clients send back, as well. */
  readonly sealsReasoning: boolean;
  /** The response as it is before the answer. */
  readonly response: Response;
}

/** What is remembered of responses. */
export interface Memory {
  /** The items up to a response's end; `undefined` where it is not stored. */
  itemsUpTo(responseId: string): readonly Item[] | undefined;
  readonly find: FindItem;
}

const NUMBERS: params.NumberNames = { ...params.SAMPLING_NAMES, max_output_tokens: { engine: "maxTokens" } };

const ONLY: params.OnlyValues = {
  background: params.only(false),
  truncation: params.only("disabled"),
  service_tier: params.SERVICE_TIER,
};

const NAMES = [
  ...Object.keys(NUMBERS),
  ...["input", "instructions", "previous_response_id", "store", "stream", "stream_options", "top_logprobs"],
  ...["reasoning", "text", "tools", "tool_choice", "parallel_tool_calls", "include"],
];

const LOGPROBS = "message.output_text.logprobs";
const SEALED_REASONING = "reasoning.encrypted_content";

const MAX_TOP_LOGPROBS = 20;

/** Reads the parameters of `responses.create`. */
export function responseRequest(value: unknown, info: ModelInfo, memory: Memory): ResponseRequest {
  const given = params.known(value, NAMES, ONLY);
  const stream = validate.boolean(given.stream, "stream") ?? false;
  params.streamOptions(given.stream_options, stream, []);
  const instructions = given.instructions === undefined ? null : validate.text(given.instructions, "instructions");
  const previous = previousItems(given.previous_response_id, memory);
  const items = [...previous.items, ...inputItems(given.input, memory.find)];
  const tools = readTools(given.tools);
  const choice = readChoice(given.tool_choice, tools.engine);
  const format = readFormat(given.text);
  const isParallel = validate.boolean(given.parallel_tool_calls, "parallel_tool_calls") ?? true;
  const effort = readEffort(given.reasoning);
  const include = readInclude(given.include);
  const range = { min: 0, max: MAX_TOP_LOGPROBS, whole: true };
  const topLogprobs = validate.number(given.top_logprobs, "top_logprobs", range) ?? 0;
  const logprobs = include.has(LOGPROBS) || topLogprobs > 0;
  const numbers = params.numbers(given, NUMBERS);
  const { chat, engine, reading } = extras(tools.engine, choice, format.engine, isParallel);
  const messages = messagesOf(items);
  return {
    turn: {
      messages: instructions === null ? messages : [{ role: "system", content: instructions }, ...messages],
      chatOptions: validate.defined({ reasoningEffort: effort, ...chat }),
      options: {
        ...numbers,
        ...engine,
        ...(logprobs ? { logprobs } : {}),
        ...(topLogprobs > 0 ? { topLogprobs } : {}),
      },
      reading: { isHarmony: info.chatFormat === "harmony", ...reading },
    },
    items,
    stream,
    logprobs,
    sealsReasoning: include.has(SEALED_REASONING),
    response: {
      id: randomId("resp_"),
      object: "response",
      created_at: nowInSeconds(),
      completed_at: null,
      status: "in_progress",
      error: null,
      incomplete_details: null,
      background: false,
      instructions,
      max_output_tokens: numbers.maxTokens ?? null,
      metadata: params.metadata(given.metadata),
      model: info.id,
      output: [],
      output_text: "",
      parallel_tool_calls: isParallel,
      previous_response_id: previous.id,
      reasoning: { effort: effort ?? null, summary: null },
      service_tier: "default",
      store: validate.boolean(given.store, "store") ?? true,
      temperature: numbers.temperature ?? 1,
      text: { format: format.told, verbosity: "medium" },
      tool_choice: toldChoice(choice),
      tools: tools.told,
      top_logprobs: topLogprobs,
      top_p: numbers.topP ?? 1,
      truncation: "disabled",
      ...(given.user === undefined ? {} : { user: given.user as string }),
    },
  };
}

function previousItems(value: unknown, memory: Memory): { id: string | null; items: readonly Item[] } {
  if (value === undefined) return { id: null, items: [] };
  const id = validate.text(value, "previous_response_id");
  const items = memory.itemsUpTo(id);
  if (items === undefined) throw validate.badArgument("previous_response_id", "the id of a stored response", id);
  return { id, items };
}

function readTools(value: unknown): { engine: readonly EngineChatTool[]; told: Required<ResponseFunctionTool>[] } {
  const engine = list(value, "tools").map((tool, index) => {
    const place = `tools[${index}]`;
    const given = validate.object(tool, place);
    const { type, ...described } = given;
    if (type !== "function") throw badType(type, place);
    return functionTool({ ...described, strict: given.strict === undefined ? true : given.strict }, place);
  });
  const told = engine.map(({ function: { name, description, parameters, strict } }): Required<ResponseFunctionTool> => {
    return {
      type: "function",
      name,
      description: description ?? null,
      parameters: (parameters as Record<string, unknown> | undefined) ?? null,
      strict: strict ?? false,
    };
  });
  return { engine, told };
}

function readChoice(value: unknown, tools: readonly EngineChatTool[]): EngineToolChoice | undefined {
  return toolChoice(value, tools, ({ name }) => ({ name, place: "tool_choice.name" }));
}

function toldChoice(choice: EngineToolChoice | undefined): ResponseToolChoice {
  return typeof choice === "object" ? { type: "function", name: choice.name } : (choice ?? "auto");
}

function readFormat(value: unknown): { readonly engine: Format; readonly told: ResponseTextFormat } {
  const { format, ...others } = optional(value, "text");
  for (const [name, given] of Object.entries(others)) {
    if (name !== "verbosity") throw params.unsupported(`text.${name}`);
    if (given !== "medium") throw params.unsupported("text.verbosity", '"medium"');
  }
  if (format === undefined) return { engine: "text", told: { type: "text" } };
  const { type, ...described } = params.withoutNulls(validate.object(format, "text.format"));
  const known = formatType(type, "text.format");
  if (known !== "json_schema") return { engine: known, told: { type: known } };
  const engine = schemaFormat(described, "text.format");
  const { schema, ...names } = engine;
  const strict = described.strict === true;
  return { engine, told: { type: "json_schema", ...names, schema: schema as Record<string, unknown>, strict } };
}

function readEffort(value: unknown): ReturnType<typeof params.reasoningEffort> {
  const { effort, ...others } = optional(value, "reasoning");
  for (const name of Object.keys(others)) throw params.unsupported(`reasoning.${name}`);
  return params.reasoningEffort(effort, "reasoning.effort");
}

function readInclude(value: unknown): ReadonlySet<unknown> {
  const given = list(value, "include");
  for (const name of given) {
    if (name === LOGPROBS || name === SEALED_REASONING) continue;
    throw params.unsupported(`include ${JSON.stringify(name)}`, `"${LOGPROBS}" or "${SEALED_REASONING}"`);
  }
  return new Set(given);
}

function optional(value: unknown, place: string): Untrusted {
  return params.withoutNulls(validate.object(value, place, true));
}
