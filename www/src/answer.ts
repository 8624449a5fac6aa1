/**
 * What an answer's tokens are to whoever asked: what the model says, what it thinks, which tools it calls, and what is
 * none of these, which are the headers of its messages and what it writes in the name of users or tools.
 */

import { randomId } from "./ids.js";
import type { AnswerToken } from "./protocol.js";

/**
 * What one token adds to an answer. `begins` says that it is the first of a message or call; `gap` is a blank line
 * where others of its kind came before, for those to whom they are one text.
 */
export type AnswerPiece =
  | { readonly kind: "content" | "reasoning"; readonly text: string; readonly begins: boolean; readonly gap: string }
  | { readonly kind: "call"; readonly text: string; readonly begins: boolean; readonly call: AnswerCall }
  | { readonly kind: "neither"; readonly text: "" };

/** A tool that the model calls. */
export interface AnswerCall {
  readonly index: number;
  readonly id: string;
  readonly name: string;
  /** JSON, as far as the model has written it. */
  arguments: string;
  /** Whether what the model wrote cannot be a call. */
  isMalformed: boolean;
}

/** How an answer is to be read. */
export interface Reading {
  /** Whether tokens without a channel are markers; elsewhere they are said. */
  readonly isHarmony: boolean;
  /** Whether tools were offered; calls of others are not passed on. */
  readonly hasTools: boolean;
  /** Whether the model may call several tools at once. */
  readonly hasParallelCalls: boolean;
  /** Whether the answer has to have a form, so that remarks on the way to it are no part of it. */
  readonly isStructured: boolean;
}

const MESSAGE_BREAK = "\n\n";

const FUNCTIONS = "functions.";

const NEITHER: AnswerPiece = { kind: "neither", text: "" };

/** Reads the tokens of one answer in their order. */
export class AnswerReader {
  /** What the model has said and thought so far. */
  readonly texts = { content: "", reasoning: "" };
  /** Of the tokens so far, those of what it thought; `undefined` while nothing tells the two apart. */
  reasoningTokens: number | undefined;
  /** The first phrase on what is malformed. */
  malformed: string | undefined;
  /** Whether what follows is beyond what was asked for. */
  isOver = false;
  readonly #reading: Reading;
  readonly #calls: AnswerCall[] = [];
  /** By kind, the number of the message that its last text came from. */
  readonly #messages = new Map<AnswerPiece["kind"], number | undefined>();

  constructor(reading: Reading) {
    this.#reading = reading;
    if (reading.isHarmony) this.reasoningTokens = 0;
  }

  /** The calls so far, without those that cannot be any. */
  get calls(): readonly AnswerCall[] {
    return this.#calls.filter(({ isMalformed }) => !isMalformed);
  }

  read(token: AnswerToken): AnswerPiece {
    if (this.isOver) return NEITHER;
    this.malformed ??= token.malformed;
    const kind = this.#kindOf(token);
    if (kind === "neither") return NEITHER;
    if (kind === "call") return this.#readCall(token);
    if (token.channel !== undefined) {
      const isThought = token.channel === "analysis" && token.continues !== true;
      this.reasoningTokens = (this.reasoningTokens ?? 0) + (isThought ? 1 : 0);
    }
    if (token.text === "") return { kind, text: "", begins: false, gap: "" };
    const begins = this.#begins(kind, token);
    const gap = begins && this.texts[kind] !== "" ? MESSAGE_BREAK : "";
    this.texts[kind] += gap + token.text;
    return { kind, text: token.text, begins, gap };
  }

  #readCall(token: AnswerToken): AnswerPiece {
    const begins = this.#begins("call", token);
    if (begins) {
      if (this.#calls.length > 0 && !this.#reading.hasParallelCalls) {
        this.isOver = true;
        return NEITHER;
      }
      this.#calls.push({
        index: this.#calls.length,
        id: randomId("call_"),
        name: (token.recipient as string).slice(FUNCTIONS.length),
        arguments: "",
        isMalformed: false,
      });
    }
    const call = this.#calls.at(-1) as AnswerCall;
    call.arguments += token.text;
    if (token.malformed !== undefined) call.isMalformed = true;
    return { kind: "call", text: token.text, begins, call };
  }

  #begins(kind: AnswerPiece["kind"], { messageIndex }: AnswerToken): boolean {
    const begins = !this.#messages.has(kind) || this.#messages.get(kind) !== messageIndex;
    this.#messages.set(kind, messageIndex);
    return begins;
  }

  /** Stop strings end what is content here: `is_told` in src/session/text.rs decides alike. */
  #kindOf({ text, channel, recipient, otherAuthor }: AnswerToken): AnswerPiece["kind"] {
    const { isHarmony, hasTools, isStructured } = this.#reading;
    if (otherAuthor === true) return "neither";
    if (recipient !== undefined) return hasTools && recipient.startsWith(FUNCTIONS) ? "call" : "neither";
    if (channel === "analysis") return "reasoning";
    if (channel === "commentary" && isStructured) return "reasoning";
    // Text outside of any channel is malformed, and shown rather than lost; without text it is a header's.
    return isHarmony && channel === undefined && text === "" ? "neither" : "content";
  }
}
