/** Requests of Bedrock's Converse → the parameters of chat completions. */

import type {
  ChatCompletionAssistantMessageParam,
  ChatCompletionCreateParamsBase,
  ChatCompletionMessageParam,
  ChatCompletionMessageToolCall,
  ChatCompletionTool,
  FunctionDefinition,
} from "../openai.js";
import { unsupported, withoutNulls } from "../params.js";
import { list } from "../tool-params.js";
import * as validate from "../validate.js";
import type { Untrusted } from "../validate.js";

type Params = ChatCompletionCreateParamsBase;

/** Fields that say nothing of an answer. */
const NOTES = ["requestMetadata"];

const READ = ["messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "additionalModelRequestFields"];

/** Fields with a single value that is done, as JSON. */
const ONLY: Readonly<Record<string, string>> = {
  performanceConfig: '{"latency":"standard"}',
  serviceTier: '{"type":"default"}',
};

/**
 * Reads the body of a request. What goes beyond Converse, such as `reasoning_effort`, comes in
 * `additionalModelRequestFields` under its name in chat completions.
 */
export function chatParams(body: Untrusted): Params {
  const given = withoutNulls(body);
  for (const [name, value] of Object.entries(given)) {
    if (READ.includes(name) || NOTES.includes(name)) continue;
    const expected = ONLY[name];
    if (expected === undefined || JSON.stringify(value) !== expected) throw unsupported(name, expected);
  }
  const additional = validate.object(given.additionalModelRequestFields, "additionalModelRequestFields", true);
  const { messages, ...settings } = validate.defined({
    messages: [
      ...list(given.system, "system").map((block, index) => system(block, `system[${index}]`)),
      ...list(given.messages, "messages").flatMap((message, index) => messagesOf(message, `messages[${index}]`)),
    ].flat(),
    ...inference(given.inferenceConfig),
    ...tools(given.toolConfig),
    ...output(given.outputConfig),
  });
  return { ...additional, ...settings, messages: messages as ChatCompletionMessageParam[] };
}

/** The one member that a union has, by its name. */
function member(value: unknown, place: string): readonly [name: string, value: unknown] {
  const entries = Object.entries(withoutNulls(validate.object(value, place)));
  const [only] = entries;
  if (only === undefined || entries.length > 1) throw validate.badArgument(place, "an object with one member", value);
  return only;
}

function onlyThese(value: unknown, place: string, names: readonly string[]): Untrusted {
  const given = withoutNulls(validate.object(value, place));
  for (const name of Object.keys(given)) if (!names.includes(name)) throw unsupported(`${place}.${name}`);
  return given;
}

function system(block: unknown, place: string): ChatCompletionMessageParam[] {
  const [name, value] = member(block, place);
  // What a prompt shares with the last one is always kept.
  if (name === "cachePoint") return [];
  if (name !== "text") throw unsupported(`${place}.${name}`);
  return [{ role: "system", content: validate.text(value, `${place}.text`) }];
}

function messagesOf(message: unknown, place: string): ChatCompletionMessageParam[] {
  const { role, content } = validate.object(message, place);
  const known = validate.oneOf(role, `${place}.role`, ["user", "assistant"] as const);
  if (known === undefined) throw validate.badArgument(`${place}.role`, "a role", role);
  const blocks = list(content, `${place}.content`).map((block, index) => {
    const at = `${place}.content[${index}]`;
    const [name, value] = member(block, at);
    return { name, value, place: `${at}.${name}` };
  });
  return known === "user" ? user(blocks) : [assistant(blocks)];
}

interface Block {
  readonly name: string;
  readonly value: unknown;
  readonly place: string;
}

function user(blocks: readonly Block[]): ChatCompletionMessageParam[] {
  const results: ChatCompletionMessageParam[] = [];
  const texts: string[] = [];
  for (const { name, value, place } of blocks) {
    switch (name) {
      case "text":
        texts.push(validate.text(value, place));
        break;
      case "toolResult":
        results.push(toolResult(value, place));
        break;
      case "cachePoint":
        break;
      default:
        throw unsupported(place);
    }
  }
  // Results belong to the calls before; what is said beside them comes after.
  return texts.length === 0 ? results : [...results, { role: "user", content: texts.join("\n") }];
}

function toolResult(value: unknown, place: string): ChatCompletionMessageParam {
  const { toolUseId, content, status } = onlyThese(value, place, ["toolUseId", "content", "status", "type"]);
  const texts = list(content, `${place}.content`).map((block, index) => {
    const at = `${place}.content[${index}]`;
    const [name, given] = member(block, at);
    if (name === "json") return JSON.stringify(given);
    if (name === "text") return validate.text(given, `${at}.text`);
    throw unsupported(`${at}.${name}`);
  });
  const known = validate.oneOf(status, `${place}.status`, ["success", "error"] as const);
  const text = texts.join("\n");
  return {
    role: "tool",
    tool_call_id: validate.text(toolUseId, `${place}.toolUseId`),
    content: known === "error" ? `Error: ${text}` : text,
  };
}

function assistant(blocks: readonly Block[]): ChatCompletionAssistantMessageParam {
  const texts: string[] = [];
  let reasoning = "";
  const calls: ChatCompletionMessageToolCall[] = [];
  for (const { name, value, place } of blocks) {
    switch (name) {
      case "text":
        texts.push(validate.text(value, place));
        break;
      case "reasoningContent": {
        const [kind, thought] = member(value, place);
        if (kind !== "reasoningText") throw unsupported(`${place}.${kind}`);
        const at = `${place}.reasoningText`;
        reasoning += validate.text(validate.object(thought, at).text, `${at}.text`);
        break;
      }
      case "toolUse": {
        const { toolUseId, name: called, input } = onlyThese(value, place, ["toolUseId", "name", "input", "type"]);
        calls.push({
          id: toolUseId as string,
          type: "function",
          function: { name: called as string, arguments: JSON.stringify(input ?? {}) },
        });
        break;
      }
      case "cachePoint":
        break;
      default:
        throw unsupported(place);
    }
  }
  return {
    role: "assistant",
    content: texts.length === 0 && calls.length > 0 ? null : texts.join("\n"),
    reasoning_content: reasoning,
    tool_calls: calls,
  };
}

function inference(value: unknown): Partial<Params> {
  const given = validate.object(value, "inferenceConfig", true);
  const { maxTokens, temperature, topP, stopSequences } = onlyThese(given, "inferenceConfig", [
    "maxTokens",
    "temperature",
    "topP",
    "stopSequences",
  ]) as Record<string, never>;
  return validate.defined({ max_completion_tokens: maxTokens, temperature, top_p: topP, stop: stopSequences });
}

function tools(value: unknown): Partial<Params> {
  if (value === undefined) return {};
  const given = onlyThese(value, "toolConfig", ["tools", "toolChoice"]);
  const described = list(given.tools, "toolConfig.tools").flatMap((tool, index): ChatCompletionTool[] => {
    const place = `toolConfig.tools[${index}]`;
    const [name, spec] = member(tool, place);
    if (name === "cachePoint") return [];
    if (name !== "toolSpec") throw unsupported(`${place}.${name}`);
    const at = `${place}.toolSpec`;
    const fields = onlyThese(spec, at, ["name", "description", "inputSchema", "strict"]);
    const parameters = validate.object(fields.inputSchema, `${at}.inputSchema`).json;
    const { inputSchema, ...others } = fields;
    // What they are is checked where chat completions take them.
    return [{ type: "function", function: { ...others, parameters } as unknown as FunctionDefinition }];
  });
  return { tools: described, ...toolChoice(given.toolChoice) };
}

function toolChoice(value: unknown): Partial<Params> {
  if (value === undefined) return {};
  const [name, choice] = member(value, "toolConfig.toolChoice");
  switch (name) {
    case "auto":
      return { tool_choice: "auto" };
    case "any":
      return { tool_choice: "required" };
    case "tool":
      return { tool_choice: { type: "function", function: { name: (choice as { name: string }).name } } };
    default:
      throw unsupported(`toolConfig.toolChoice.${name}`);
  }
}

function output(value: unknown): Partial<Params> {
  if (value === undefined) return {};
  const { textFormat, effort } = onlyThese(value, "outputConfig", ["textFormat", "effort"]);
  const told = effort === undefined ? {} : { reasoning_effort: effort as NonNullable<Params["reasoning_effort"]> };
  if (textFormat === undefined) return told;
  const place = "outputConfig.textFormat";
  const { type, structure } = onlyThese(textFormat, place, ["type", "structure"]);
  if (type !== "json_schema") throw unsupported(`${place}.type ${JSON.stringify(type)}`, '"json_schema"');
  const { jsonSchema } = validate.object(structure, `${place}.structure`);
  const at = `${place}.structure.jsonSchema`;
  const { schema, name = "response", description } = onlyThese(jsonSchema, at, ["schema", "name", "description"]);
  const described = validate.defined({ name, description, schema: schemaOf(schema, `${at}.schema`), strict: true });
  return { ...told, response_format: { type: "json_schema", json_schema: described as never } };
}

function schemaOf(value: unknown, place: string): unknown {
  try {
    return JSON.parse(validate.text(value, place));
  } catch {
    throw validate.badArgument(place, "a JSON schema as text", value);
  }
}
