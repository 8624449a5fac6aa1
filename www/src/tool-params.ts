/** Tools, and the forms of answers, as OpenAI's APIs describe them, checked and put into the engine's terms. */

import type { Reading } from "./answer.js";
import { unsupported, withoutNulls } from "./params.js";
import type {
  EngineChatOptions,
  EngineChatTool,
  EngineGenerateOptions,
  EngineTool,
  EngineToolChoice,
} from "./protocol.js";
import * as validate from "./validate.js";
import type { Untrusted } from "./validate.js";

/** What a request adds to the prompt, to the generation, and to how its answer is read. */
export interface Extras {
  readonly chat: Pick<EngineChatOptions, "tools" | "responseFormat">;
  readonly engine: Pick<EngineGenerateOptions, "tools" | "toolChoice" | "parallelToolCalls" | "constraint">;
  readonly reading: Omit<Reading, "isHarmony">;
}

const NAME = /^[a-zA-Z0-9_-]{1,64}$/;

/** The schema of a function that takes nothing. */
const NO_PARAMETERS = { type: "object", properties: {} };

/** A function that a request offers; `place` is where it stands, for errors. */
export function functionTool(value: unknown, place: string): EngineChatTool {
  const { name, description, parameters, strict, ...others } = withoutNulls(validate.object(value, place));
  for (const other of Object.keys(others)) throw unsupported(`${place}.${other}`);
  const isStrict = validate.boolean(strict, `${place}.strict`);
  return {
    type: "function",
    function: {
      name: functionName(name, `${place}.name`),
      ...(description === undefined ? {} : { description: validate.text(description, `${place}.description`) }),
      ...(parameters === undefined ? {} : { parameters: schema(parameters, `${place}.parameters`) }),
      ...(isStrict === undefined ? {} : { strict: isStrict }),
    },
  };
}

/** A function's name. */
export function functionName(value: unknown, place: string): string {
  if (typeof value === "string" && NAME.test(value)) return value;
  throw validate.badArgument(place, "1 to 64 letters, digits, underscores and hyphens", value);
}

/** A JSON schema: a copy, with what JSON has no form for left out. */
export function schema(value: unknown, place: string): object {
  const given = validate.object(value, place);
  try {
    return JSON.parse(JSON.stringify(given)) as object;
  } catch {
    throw validate.badArgument(place, "a JSON schema", value);
  }
}

/** The tools of a chat request, `[{ type: "function", function: { … } }]`. */
export function chatTools(value: unknown): readonly EngineChatTool[] {
  return list(value, "tools").map((tool, index) => {
    const place = `tools[${index}]`;
    const { type, function: described, ...others } = withoutNulls(validate.object(tool, place));
    if (type !== "function") throw badType(type, place);
    for (const other of Object.keys(others)) throw unsupported(`${place}.${other}`);
    return functionTool(described, `${place}.function`);
  });
}

/** A list, empty where it is left out. */
export function list(value: unknown, place: string): readonly unknown[] {
  if (value === undefined) return [];
  if (Array.isArray(value)) return value;
  throw validate.badArgument(place, "a list", value);
}

/** The error of a tool that is not a function. */
export function badType(type: unknown, place: string): Error {
  if (typeof type !== "string") return validate.badArgument(`${place}.type`, '"function"', type);
  return unsupported(`${place}.type ${JSON.stringify(type)}`, '"function"');
}

/** Which tool is to be called; `nested` gets what names it, from an object of `type: "function"`. */
export function toolChoice(
  value: unknown,
  tools: readonly EngineChatTool[],
  nested: (choice: Untrusted) => { readonly name: unknown; readonly place: string },
): EngineToolChoice | undefined {
  if (value === undefined) return undefined;
  if (tools.length === 0) throw validate.badArgument("tool_choice", "left out where there are no tools", value);
  if (typeof value === "string") {
    return validate.oneOf(value, "tool_choice", ["none", "auto", "required"] as const);
  }
  const choice = validate.object(value, "tool_choice");
  if (choice.type !== "function") throw badType(choice.type, "tool_choice");
  const { name, place } = nested(choice);
  const isOffered = tools.some((tool) => tool.function.name === name);
  if (!isOffered) throw validate.badArgument(place, "the name of one of tools", name);
  return { name: name as string };
}

/** A JSON schema that an answer has to follow; `strict` must be a boolean, and bears on nothing: all are followed. */
export function schemaFormat(value: unknown, place: string): NonNullable<EngineChatOptions["responseFormat"]> {
  const { name, description, schema: given, strict, ...others } = withoutNulls(validate.object(value, place));
  for (const other of Object.keys(others)) throw unsupported(`${place}.${other}`);
  validate.boolean(strict, `${place}.strict`);
  return {
    name: functionName(name, `${place}.name`),
    ...(description === undefined ? {} : { description: validate.text(description, `${place}.description`) }),
    schema: schema(given, `${place}.schema`),
  };
}

/** The form of an answer: any, JSON, or what a schema says. */
export type Format = "text" | "json_object" | NonNullable<EngineChatOptions["responseFormat"]>;

/** The form that a chat request asks for. */
export function chatFormat(value: unknown): Format {
  if (value === undefined) return "text";
  const place = "response_format";
  const { type, json_schema, ...others } = withoutNulls(validate.object(value, place));
  for (const other of Object.keys(others)) throw unsupported(`${place}.${other}`);
  const known = formatType(type, place);
  return known === "json_schema" ? schemaFormat(json_schema, `${place}.json_schema`) : known;
}

/** The name of a form. */
export function formatType(type: unknown, place: string): "text" | "json_object" | "json_schema" {
  const known = ["text", "json_object", "json_schema"] as const;
  if (typeof type === "string" && !known.some((name) => name === type)) {
    throw unsupported(`${place}.type ${JSON.stringify(type)}`, '"text", "json_object" or "json_schema"');
  }
  const name = validate.oneOf(type, `${place}.type`, known);
  if (name === undefined) throw validate.badArgument(`${place}.type`, "the name of a format", type);
  return name;
}

/** What tools and form of a request come to. */
export function extras(
  tools: readonly EngineChatTool[],
  choice: EngineToolChoice | undefined,
  format: Format,
  hasParallelCalls: boolean,
): Extras {
  // A model that is to call nothing is told of nothing that it could call.
  const offered = choice === "none" ? [] : tools;
  const hasTools = offered.length > 0;
  const isSchema = typeof format === "object";
  return {
    chat: {
      ...(hasTools ? { tools: offered } : {}),
      ...(isSchema ? { responseFormat: format } : {}),
    },
    engine: {
      ...(hasTools ? { tools: offered.map(engineTool) } : {}),
      ...(tools.length > 0 ? { toolChoice: choice ?? "auto" } : {}),
      ...(hasTools && !hasParallelCalls ? { parallelToolCalls: false } : {}),
      ...(isSchema ? { constraint: { kind: "json_schema", value: JSON.stringify(format.schema) } } : {}),
      ...(format === "json_object" ? { constraint: { kind: "json_object" } } : {}),
    },
    reading: { hasTools, hasParallelCalls, isStructured: format !== "text" },
  };
}

function engineTool({ function: { name, parameters, strict } }: EngineChatTool): EngineTool {
  return { name, parameters: JSON.stringify(parameters ?? NO_PARAMETERS), strict: strict ?? false };
}
