/** Answers of chat completions → those of Bedrock's Converse, whole and streamed. */

import type { ChatCompletion, ChatCompletionChunk, ChatCompletionFinishReason, CompletionUsage } from "../openai.js";
import { event } from "./http.js";

/** What `Converse` answers. `startedAt` is when it was asked, by `performance.now()`. */
export function converseOutput({ choices, usage }: ChatCompletion, startedAt: number): object {
  const [{ message, finish_reason }] = choices as [ChatCompletion["choices"][0]];
  const content: object[] = [];
  if (message.reasoning_content) {
    content.push({ reasoningContent: { reasoningText: { text: message.reasoning_content } } });
  }
  if (message.content) content.push({ text: message.content });
  let isMalformed = false;
  for (const { id, function: called } of message.tool_calls ?? []) {
    const input = objectOf(called.arguments);
    if (input === undefined) isMalformed = true;
    else content.push({ toolUse: { toolUseId: id, name: called.name, input } });
  }
  return {
    output: { message: { role: "assistant", content } },
    stopReason: isMalformed && finish_reason === "tool_calls" ? "malformed_tool_use" : stopReason(finish_reason),
    usage: tokenUsage(usage),
    metrics: metrics(startedAt),
  };
}

/** The input of a tool, which Converse has as a value. */
function objectOf(written: string): unknown {
  try {
    return JSON.parse(written) as unknown;
  } catch {
    return undefined;
  }
}

/** The events of `ConverseStream`. */
export async function* converseEvents(
  chunks: AsyncIterable<ChatCompletionChunk>,
  startedAt: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const blocks = new Blocks();
  let reason: ChatCompletionFinishReason | null = null;
  let usage: CompletionUsage | null | undefined;
  yield event("messageStart", { role: "assistant" });
  for await (const chunk of chunks) {
    usage = chunk.usage ?? usage;
    const [choice] = chunk.choices;
    reason = choice?.finish_reason ?? reason;
    if (choice !== undefined) yield* blocks.of(choice.delta);
  }
  yield* blocks.end();
  yield event("messageStop", { stopReason: stopReason(reason) });
  if (usage) yield event("metadata", { usage: tokenUsage(usage), metrics: metrics(startedAt) });
}

/** Deltas → the events of content blocks, of which one is open at a time. */
class Blocks {
  #open: string | undefined;
  #index = -1;

  *of(delta: ChatCompletionChunk["choices"][0]["delta"]): Generator<Uint8Array> {
    const thought = delta.reasoning_content;
    if (thought) yield* this.#delta("reasoning", { reasoningContent: { text: thought } });
    if (delta.content) yield* this.#delta("text", { text: delta.content });
    for (const { index, id, function: called } of delta.tool_calls ?? []) {
      const key = `tool ${index}`;
      if (id !== undefined) {
        yield* this.#begin(key);
        const start = { toolUse: { toolUseId: id, name: called.name } };
        yield event("contentBlockStart", { start, contentBlockIndex: this.#index });
      }
      if (called.arguments !== "") yield* this.#delta(key, { toolUse: { input: called.arguments } });
    }
  }

  *end(): Generator<Uint8Array> {
    if (this.#open === undefined) return;
    this.#open = undefined;
    yield event("contentBlockStop", { contentBlockIndex: this.#index });
  }

  *#begin(key: string): Generator<Uint8Array> {
    yield* this.end();
    this.#open = key;
    this.#index += 1;
  }

  *#delta(key: string, delta: object): Generator<Uint8Array> {
    if (this.#open !== key) yield* this.#begin(key);
    yield event("contentBlockDelta", { delta, contentBlockIndex: this.#index });
  }
}

function stopReason(reason: ChatCompletionFinishReason | null): string {
  switch (reason) {
    case "length":
      return "max_tokens";
    case "tool_calls":
      return "tool_use";
    default:
      return "end_turn";
  }
}

function tokenUsage(usage: CompletionUsage): object {
  return {
    inputTokens: usage.prompt_tokens,
    outputTokens: usage.completion_tokens,
    totalTokens: usage.total_tokens,
    cacheReadInputTokens: usage.prompt_tokens_details.cached_tokens,
  };
}

function metrics(startedAt: number): object {
  return { latencyMs: Math.round(performance.now() - startedAt) };
}
