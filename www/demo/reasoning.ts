/** What a model thinks before it answers, and how the panel that shows it stands. Knows no document. */

import * as format from "./format.js";

/** The reasoning of one answer. Times are in milliseconds of one clock. */
export class Reasoning {
  /** What was thought so far. */
  text = "";
  #thoughtMs = 0;
  #since: number | undefined;
  #hasAnswer = false;
  #chosen: boolean | undefined;

  /** Adds what is thought; the time goes on from here. */
  add(text: string, now: number): void {
    this.text += text;
    this.#since ??= now;
  }

  /** The model says something: its thought is over, at least for now. */
  answer(now: number): void {
    this.#hasAnswer = true;
    this.pause(now);
  }

  /** Stops the time: the answer is over, or goes on with something else. */
  pause(now: number): void {
    if (this.#since === undefined) return;
    this.#thoughtMs += now - this.#since;
    this.#since = undefined;
  }

  /** The reader opened or closed the panel; that holds from then on. */
  choose(open: boolean): void {
    this.#chosen = open;
  }

  get isThinking(): boolean {
    return this.#since !== undefined;
  }

  /** Whether the panel is open: until there is an answer, unless the reader chose otherwise. */
  get isOpen(): boolean {
    return this.#chosen ?? !this.#hasAnswer;
  }

  /** The panel's heading. */
  title(now: number): string {
    if (this.#since !== undefined) {
      const spent = this.#thoughtMs + now - this.#since;
      return spent < 1000 ? "Thinking" : `Thinking for ${format.span(spent)}`;
    }
    return this.#thoughtMs < 1000 ? "Thought for a moment" : `Thought for ${format.span(this.#thoughtMs)}`;
  }
}
