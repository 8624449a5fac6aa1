/** Turns of what computes: one at a time, in the order in which they were asked for. */

import { PesiError } from "./errors.js";

/** Those that wait, and whether somebody has a turn. */
export class Turns {
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;

  /** Whether somebody waits. */
  get isAwaited(): boolean {
    return this.#waiting.length > 0;
  }

  /**
   * Does `work` once those before have had their turns, and gives what it gives.
   *
   * @throws {PesiError} of kind `aborted`, at once, where `signal` is aborted while it waits
   */
  async take<T>(signal: AbortSignal | undefined, work: () => T | Promise<T>): Promise<T> {
    if (this.#isTaken) await this.#wait(signal);
    else refuseAborted(signal);
    this.#isTaken = true;
    try {
      return await work();
    } finally {
      this.#isTaken = false;
      this.#waiting.shift()?.();
    }
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        signal?.removeEventListener("abort", leave);
        // Nobody comes in between here and where the turn is taken.
        this.#isTaken = true;
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(begin), 1);
        reject(aborted());
      };
      if (signal?.aborted) return reject(aborted());
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.push(begin);
    });
  }
}

function refuseAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted();
}

function aborted(): PesiError {
  return new PesiError("aborted", "The operation was cancelled before it began");
}
