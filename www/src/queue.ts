/** A queue between a producer that is called with items and a consumer that iterates over them. */

import { abortedError } from "./errors.js";

interface Waiting<T> {
  readonly resolve: (result: IteratorResult<T, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * An async iterator over pushed items. It holds whatever the consumer has not taken yet; `onReturn` runs when the
 * consumer leaves before the end, as `break` and a throw in a `for await` loop do. Once `signal` is aborted, unless
 * the end came first, nothing is taken any more: the iteration throws an error of kind `aborted`.
 */
export class AsyncQueue<T> implements AsyncIterableIterator<T, undefined, undefined> {
  readonly #items: T[] = [];
  readonly #waiting: Waiting<T>[] = [];
  readonly #onReturn: () => void;
  readonly #signal: AbortSignal | undefined;
  #end: { readonly error?: unknown } | undefined;

  constructor(onReturn: () => void, signal?: AbortSignal) {
    this.#onReturn = onReturn;
    this.#signal = signal;
  }

  /** Adds an item; ignored after the end. */
  push(item: T): void {
    if (this.#end !== undefined) return;
    const consumer = this.#waiting.shift();
    if (consumer === undefined) this.#items.push(item);
    else consumer.resolve({ done: false, value: item });
  }

  /** Ends the iteration once what is queued has been taken. */
  end(): void {
    if (this.#end !== undefined) return;
    this.#end = {};
    for (const consumer of this.#waiting.splice(0)) consumer.resolve({ done: true, value: undefined });
  }

  /** Makes the iteration throw, once what is queued has been taken. */
  fail(error: unknown): void {
    if (this.#end !== undefined) return;
    const consumers = this.#waiting.splice(0);
    // The error is thrown once; whoever was already waiting has it now.
    this.#end = consumers.length === 0 ? { error } : {};
    for (const consumer of consumers) consumer.reject(error);
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#signal?.aborted && (this.#end === undefined || "error" in this.#end)) {
      this.#items.length = 0;
      this.#end = { error: abortedError(this.#signal) };
    }
    if (this.#items.length > 0) {
      return Promise.resolve({ done: false, value: this.#items.shift() as T });
    }
    if (this.#end === undefined) {
      return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    }
    if ("error" in this.#end) {
      const { error } = this.#end;
      this.#end = {};
      return Promise.reject(error);
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#items.length = 0;
    if (this.#end === undefined) {
      this.end();
      this.#onReturn();
    }
    this.#end = {};
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
