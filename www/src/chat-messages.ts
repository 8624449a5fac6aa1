/** The messages of a chat request, checked and put into the engine's terms. */

import { unsupported, withoutNulls } from "./params.js";
import type { EngineMessage, EngineToolCall } from "./protocol.js";
import { badType, functionName, list } from "./tool-params.js";
import * as validate from "./validate.js";
import type { Untrusted } from "./validate.js";

const ROLES = ["developer", "system", "user", "assistant", "tool"] as const;

/** Reads a request's messages. */
export function chatMessages(value: unknown): EngineMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw validate.badArgument("messages", "a list of at least one message", value);
  }
  const callIds = new Set<string>();
  return value.map((message, index) => {
    const read = oneMessage(message, `messages[${index}]`, callIds);
    for (const { id } of read.tool_calls ?? []) callIds.add(id);
    return read;
  });
}

function oneMessage(value: unknown, place: string, callIds: ReadonlySet<string>): EngineMessage {
  const given = withoutNulls(validate.object(value, place));
  const { role, name } = given;
  if (role === "function") throw unsupported(`${place}.role "function"`);
  const known = validate.oneOf(role, `${place}.role`, ROLES);
  if (known === undefined) throw validate.badArgument(`${place}.role`, "a role", role);
  const speaker = name === undefined ? {} : { name: validate.text(name, `${place}.name`) };
  if (known === "assistant") return { ...assistant(given, place), ...speaker };
  const thought = reasoningText(given, place);
  if (thought !== undefined) {
    throw validate.badArgument(`${place}.reasoning_content`, "left out where the role is not assistant", thought);
  }
  const answers = known === "tool" ? ["tool_call_id"] : [];
  onlyThese(given, place, ["role", "content", "name", "annotations", ...answers]);
  return {
    role: known === "developer" ? "system" : known,
    content: textContent(given.content, `${place}.content`),
    ...speaker,
    ...(known === "tool" ? { tool_call_id: callId(given.tool_call_id, `${place}.tool_call_id`, callIds) } : {}),
  };
}

function assistant(given: Untrusted, place: string): EngineMessage {
  onlyThese(given, place, ["role", "content", "name", "annotations", "tool_calls", "reasoning_content", "reasoning"]);
  const calls = list(given.tool_calls, `${place}.tool_calls`).map((call, index) => {
    return toolCall(call, `${place}.tool_calls[${index}]`);
  });
  const thought = reasoningText(given, place);
  const isSilent = given.content === undefined && calls.length > 0;
  return {
    role: "assistant",
    content: isSilent ? null : textContent(given.content, `${place}.content`),
    ...(thought === undefined || thought === "" ? {} : { reasoning_content: thought }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

/** What answers carry beside their text may come back with them; the SDK of OpenAI adds what it has parsed. */
const PARSED = ["parsed"];

function onlyThese(given: Untrusted, place: string, names: readonly string[]): void {
  for (const name of Object.keys(given)) {
    if (!names.includes(name) && !PARSED.includes(name)) throw unsupported(`${place}.${name}`);
  }
  const { annotations } = given;
  if (annotations !== undefined && !(Array.isArray(annotations) && annotations.length === 0)) {
    throw unsupported(`${place}.annotations`, "[]");
  }
}

function toolCall(value: unknown, place: string): EngineToolCall {
  const { id, type, function: called } = withoutNulls(validate.object(value, place));
  if (type !== "function") throw badType(type, place);
  const { name, arguments: given } = validate.object(called, `${place}.function`);
  return {
    id: validate.text(id, `${place}.id`),
    type: "function",
    function: {
      name: functionName(name, `${place}.function.name`),
      arguments: validate.text(given, `${place}.function.arguments`),
    },
  };
}

function callId(value: unknown, place: string, callIds: ReadonlySet<string>): string {
  if (typeof value === "string" && callIds.has(value)) return value;
  throw validate.badArgument(place, "the id of a tool call in a message before", value);
}

/** What an assistant thought, which has two names in use: answers carry both, so that both may come back. */
function reasoningText({ reasoning_content, reasoning }: Untrusted, place: string): string | undefined {
  const [first, second] = Object.entries({ reasoning_content, reasoning })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => validate.text(value, `${place}.${name}`));
  if (second !== undefined && second !== first) {
    throw validate.badArgument(`${place}.reasoning`, "the same as reasoning_content, or left out", second);
  }
  return first;
}

function textContent(value: unknown, place: string): string {
  return textOf(value, place, ["text"]);
}

/** A text, or the parts of one of these types. */
export function textOf(value: unknown, place: string, types: readonly string[]): string {
  if (typeof value === "string") return value;
  if (!Array.isArray(value) || value.length === 0) {
    throw validate.badArgument(place, "a string or a list of text parts", value);
  }
  const expected = types.map((type) => JSON.stringify(type)).join(" or ");
  const parts = value.map((part: unknown, index) => {
    const name = `${place}[${index}]`;
    const { type, text } = validate.object(part, name);
    if (typeof type !== "string") throw validate.badArgument(`${name}.type`, expected, type);
    if (!types.includes(type)) throw unsupported(`${name}.type ${JSON.stringify(type)}`, expected);
    return validate.text(text, `${name}.text`);
  });
  return parts.join("\n");
}
