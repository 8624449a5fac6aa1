/**
 * A worker that answers every generation by itself, with the answers it was given in their order: lists of pieces, or
 * `{ pieces, finishReason, error }`. Whoever cancels in between gets no more of them.
 */
import { ScriptedWorker, generationResult } from "./scripted-worker.mjs";

const utf8 = new TextEncoder();

/** What the model thinks, a token for each text. */
export const think = (...texts) => ({ texts, channel: "analysis" });

/** What the model says, a token for each text. */
export const say = (...texts) => ({ texts, channel: "final" });

/** A call of a function, a token for each text of its arguments. */
export const call = (name, ...texts) => ({
  texts,
  channel: "commentary",
  recipient: `functions.${name}`,
  contentType: "json",
});

/** The tokens that pieces come to, as a worker posts them. */
export function tokensOf(pieces) {
  return pieces.flatMap(({ texts, ...fields }, messageIndex) =>
    (texts ?? [fields.text]).map((text) => {
      return { token: 1, logprob: -0.5, bytes: [...utf8.encode(text)], messageIndex, ...fields, text };
    }),
  );
}

export class AnsweringWorker extends ScriptedWorker {
  #answers;
  #cancelled = new Set();

  constructor(answers) {
    super();
    this.#answers = [...answers];
  }

  postMessage(message) {
    super.postMessage(message);
    if (message.type === "cancel") this.#cancelled.add(message.id);
    if (message.method === "generate") void this.#answer(message.id);
  }

  async #answer(id) {
    const next = this.#answers.shift();
    if (next === undefined) throw new Error("the worker was asked more often than it has answers");
    const { pieces, finishReason = "stop", error, wait = 0 } = Array.isArray(next) ? { pieces: next } : next;
    const tokens = tokensOf(pieces);
    for (const token of tokens) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (this.#cancelled.has(id)) return this.result(id, generationResult(0, "aborted"));
      this.event(id, [token]);
    }
    await undefined;
    if (error !== undefined) return this.error(id, error.kind, error);
    return this.result(id, generationResult(tokens.length, finishReason));
  }
}
