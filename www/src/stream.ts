/** Answers that are streamed: what makes them, and what whoever asked iterates over. */

import type { Call } from "./connection.js";
import { abortedError } from "./errors.js";
import { AsyncQueue } from "./queue.js";

/** A streamed answer: iterate over it once for its chunks. Leaving the loop early cancels the answer. */
export class ApiStream<T> implements AsyncIterable<T> {
  /** Aborting it cancels the answer and ends the iteration. */
  readonly controller: AbortController;
  readonly #chunks: AsyncQueue<T>;

  /** @internal */
  constructor(chunks: AsyncQueue<T>, controller: AbortController) {
    this.#chunks = chunks;
    this.controller = controller;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<T, undefined, undefined> {
    return this.#chunks;
  }
}

/** What a stream's chunks are given to as they are made. */
export interface Producer<T> {
  /** Adds a chunk. */
  push(chunk: T): void;
  /** Says that the answer has begun: failures are from now on thrown by the iteration. */
  begin(): void;
  /** Waits for a generation, which is cancelled where nobody takes the chunks any more. */
  follow<R>(call: Call<R>): Promise<R>;
  /** Whether nobody takes the chunks any more. */
  readonly isLeft: boolean;
}

/** Starts a stream. The promise resolves once `produce` has begun, and rejects where it fails before. */
export function openStream<T>(
  signal: AbortSignal | undefined,
  produce: (out: Producer<T>) => Promise<void>,
): Promise<ApiStream<T>> {
  return new Promise((resolve, reject) => {
    let current: Call<unknown> | undefined;
    let isLeft = false;
    const chunks = new AsyncQueue<T>(() => {
      isLeft = true;
      current?.cancel();
    }, signal);
    const controller = new AbortController();
    // As in OpenAI's clients, aborting through the stream's own controller ends the iteration without a throw.
    controller.signal.addEventListener("abort", () => void chunks.return());
    const stream = new ApiStream(chunks, controller);
    const out: Producer<T> = {
      push: (chunk) => chunks.push(chunk),
      begin: () => resolve(stream),
      follow: (call) => {
        current = call;
        return call.result;
      },
      get isLeft() {
        return isLeft;
      },
    };
    produce(out).then(
      () => {
        // Between two generations no call is there to fail.
        if (signal?.aborted) chunks.fail(abortedError(signal));
        else chunks.end();
        resolve(stream);
      },
      (error: unknown) => {
        chunks.fail(error);
        // Rejects only where the answer had not begun; afterwards the iteration throws.
        reject(error);
      },
    );
  });
}
