/** The items of the Responses API, checked and put into messages. */

import { textOf } from "./chat-messages.js";
import { unsupported, withoutNulls } from "./params.js";
import type { EngineMessage, EngineToolCall } from "./protocol.js";
import { functionName } from "./tool-params.js";
import * as validate from "./validate.js";
import type { Untrusted } from "./validate.js";

/** An item as it came in, or as it went out. */
export type Item = Untrusted;

/** Finds an item that went out by its id. */
export type FindItem = (id: string) => Item | undefined;

/** The items of a request's `input`: those it refers to in the place of the references. */
export function inputItems(value: unknown, find: FindItem): readonly Item[] {
  if (typeof value === "string") return [{ role: "user", content: value }];
  if (!Array.isArray(value) || value.length === 0) {
    throw validate.badArgument("input", "a text or a list of at least one item", value);
  }
  return value.map((each: unknown, index) => {
    const place = `input[${index}]`;
    const item = withoutNulls(validate.object(each, place));
    if (item.type !== "item_reference") return item;
    const id = validate.text(item.id, `${place}.id`);
    const found = find(id);
    if (found === undefined) throw validate.badArgument(`${place}.id`, "the id of a stored item", id);
    return found;
  });
}

const PREFIX = "pesi:";

/** What was thought, in a form that says nothing to whoever only passes it on. */
export function sealed(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return PREFIX + btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

function unsealed(value: unknown, place: string): string {
  const text = validate.text(value, place);
  try {
    if (!text.startsWith(PREFIX)) throw new Error("made elsewhere");
    const bytes = Uint8Array.from(atob(text.slice(PREFIX.length)), (letter) => letter.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw validate.badArgument(place, "what a response here had", value);
  }
}

interface Assistant {
  content: string | null;
  reasoning: string;
  readonly calls: EngineToolCall[];
}

/**
 * Items in messages. What an assistant thinks, says and calls between two messages of others is one message, unless it
 * says or thinks something after it has called.
 */
export function messagesOf(items: readonly Item[]): EngineMessage[] {
  const messages: EngineMessage[] = [];
  const callIds = new Set<string>();
  let open: Assistant | undefined;
  const close = (): void => {
    if (open !== undefined) messages.push(closed(open));
    open = undefined;
  };
  const assistant = (fits: (current: Assistant) => boolean): Assistant => {
    if (open !== undefined && !fits(open)) close();
    open ??= { content: null, reasoning: "", calls: [] };
    return open;
  };
  items.forEach((item, index) => {
    const place = `input[${index}]`;
    switch (item.type ?? "message") {
      case "message": {
        const message = readMessage(item, place);
        if (message.role !== "assistant") {
          close();
          messages.push(message);
          break;
        }
        assistant(({ content, calls }) => content === null && calls.length === 0).content = message.content;
        break;
      }
      case "reasoning":
        assistant(({ content, calls }) => content === null && calls.length === 0).reasoning += thought(item, place);
        break;
      case "function_call": {
        const call = readCall(item, place);
        callIds.add(call.id);
        assistant(() => true).calls.push(call);
        break;
      }
      case "function_call_output": {
        close();
        const id = validate.text(item.call_id, `${place}.call_id`);
        if (!callIds.has(id)) throw validate.badArgument(`${place}.call_id`, "the id of a call before", id);
        const content = textOf(item.output, `${place}.output`, ["input_text"]);
        messages.push({ role: "tool", tool_call_id: id, content });
        break;
      }
      default:
        throw unsupported(`${place}.type ${JSON.stringify(item.type)}`);
    }
  });
  close();
  return messages;
}

function closed({ content, reasoning, calls }: Assistant): EngineMessage {
  return {
    role: "assistant",
    content: content === null && calls.length === 0 ? "" : content,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function readMessage({ role, content }: Item, place: string): EngineMessage {
  const known = validate.oneOf(role, `${place}.role`, ["developer", "system", "user", "assistant"] as const);
  if (known === undefined) throw validate.badArgument(`${place}.role`, "a role", role);
  return {
    role: known === "developer" ? "system" : known,
    content: textOf(content, `${place}.content`, known === "assistant" ? ["output_text"] : ["input_text"]),
  };
}

function readCall(item: Item, place: string): EngineToolCall {
  return {
    id: validate.text(item.call_id, `${place}.call_id`),
    type: "function",
    function: {
      name: functionName(item.name, `${place}.name`),
      arguments: validate.text(item.arguments, `${place}.arguments`),
    },
  };
}

function thought({ content, encrypted_content }: Item, place: string): string {
  if (Array.isArray(content) && content.length > 0) return textOf(content, `${place}.content`, ["reasoning_text"]);
  return encrypted_content === undefined ? "" : unsealed(encrypted_content, `${place}.encrypted_content`);
}
