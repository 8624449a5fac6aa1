/**
 * What an answer's tokens are to whoever asked: what the model says, what it thinks, and what is neither, which are
 * the headers of its messages, calls of tools, and what it writes in the name of users or tools.
 */

import type { EngineToken } from "./protocol.js";

/** What one token adds to an answer. */
export interface AnswerPiece {
  readonly kind: "content" | "reasoning" | "neither";
  /** The text; a blank line comes first where it begins another message of its kind. */
  readonly text: string;
}

const MESSAGE_BREAK = "\n\n";

/** Reads the tokens of one answer in their order. */
export class AnswerReader {
  /** What the model has said and thought so far. */
  readonly texts = { content: "", reasoning: "" };
  /** Of the tokens so far, those of what it thought. */
  reasoningTokens = 0;
  /** The first phrase on what is malformed. */
  malformed: string | undefined;
  /** Whether tokens of no message, without text, are those of headers. Elsewhere text is held back that they begin. */
  readonly isHarmony: boolean;
  /** By kind, the number of the message that its last text came from. */
  readonly #messages = new Map<AnswerPiece["kind"], number | undefined>();

  constructor(isHarmony: boolean) {
    this.isHarmony = isHarmony;
  }

  read(token: EngineToken): AnswerPiece {
    this.malformed ??= token.malformed;
    const kind = kindOf(token, this.isHarmony);
    if (kind === "neither") return { kind, text: "" };
    if (kind === "reasoning" && token.continues !== true) this.reasoningTokens += 1;
    if (token.text === "") return { kind, text: "" };
    const isFurther = this.#messages.has(kind) && this.#messages.get(kind) !== token.messageIndex;
    this.#messages.set(kind, token.messageIndex);
    const text = isFurther ? MESSAGE_BREAK + token.text : token.text;
    this.texts[kind] += text;
    return { kind, text };
  }
}

/** Stop strings end what is content here: `is_told` in src/session/text.rs decides alike. */
function kindOf({ text, channel, recipient, otherAuthor }: EngineToken, isHarmony: boolean): AnswerPiece["kind"] {
  if (otherAuthor === true || recipient !== undefined) return "neither";
  if (channel === "analysis") return "reasoning";
  // Text outside of any channel is malformed, and shown rather than lost; without text it is a header's.
  return isHarmony && channel === undefined && text === "" ? "neither" : "content";
}
