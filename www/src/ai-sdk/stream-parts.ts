/** Deltas of a streamed answer → the AI SDK's parts, in blocks with a start and an end. */

import type { LanguageModelV3StreamPart } from "@ai-sdk/provider";

import type { ChatCompletionChunkDelta } from "../openai.js";

type Block =
  | { readonly kind: "text" | "reasoning"; readonly id: string }
  | { readonly kind: "tool-input"; readonly id: string; readonly toolName: string; input: string };

/** Follows one answer. */
export class StreamParts {
  #open: Block | undefined;
  #count = 0;

  /** The parts that a delta comes to. */
  *of(delta: ChatCompletionChunkDelta): Generator<LanguageModelV3StreamPart> {
    if (delta.reasoning_content) yield* this.#text("reasoning", delta.reasoning_content);
    if (delta.content) yield* this.#text("text", delta.content);
    for (const { id, function: called } of delta.tool_calls ?? []) {
      if (id !== undefined) {
        yield* this.end();
        const toolName = called.name as string;
        this.#open = { kind: "tool-input", id, toolName, input: "" };
        yield { type: "tool-input-start", id, toolName };
      }
      if (this.#open?.kind !== "tool-input" || called.arguments === "") continue;
      this.#open.input += called.arguments;
      yield { type: "tool-input-delta", id: this.#open.id, delta: called.arguments };
    }
  }

  /** The parts that end what is open. */
  *end(): Generator<LanguageModelV3StreamPart> {
    const open = this.#open;
    this.#open = undefined;
    if (open === undefined) return;
    yield { type: `${open.kind}-end`, id: open.id };
    if (open.kind !== "tool-input") return;
    yield { type: "tool-call", toolCallId: open.id, toolName: open.toolName, input: open.input };
  }

  *#text(kind: "text" | "reasoning", delta: string): Generator<LanguageModelV3StreamPart> {
    if (this.#open?.kind !== kind) {
      yield* this.end();
      this.#open = { kind, id: `${kind}-${this.#count}` };
      this.#count += 1;
      yield { type: `${kind}-start`, id: this.#open.id };
    }
    yield { type: `${kind}-delta`, id: this.#open.id, delta };
  }
}
