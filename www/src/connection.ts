/** The page's end of the worker: requests with their answers, cancellation, and what happens when the worker dies. */

import { abortedError, fromWire, PesiError } from "./errors.js";
import type { FromWorker, Method, Methods, Request, ToWorker } from "./protocol.js";

/** The part of `Worker` that a connection uses. */
export interface WorkerLike {
  postMessage(message: unknown): void;
  addEventListener(type: string, listener: (event: Event) => void): void;
  terminate(): void;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: PesiError) => void;
  readonly onEvent: ((event: unknown) => void) | undefined;
}

/** A request under way. */
export interface Call<T> {
  /** The answer. Once the request's signal is aborted it rejects at once with kind `aborted`, and events stop. */
  readonly result: Promise<T>;
  /** Asks the worker to stop early; the answer still comes. */
  cancel(): void;
}

/** One worker, from its start to its end. */
export class Connection {
  readonly #worker: WorkerLike;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #closed: PesiError | undefined;

  constructor(worker: WorkerLike) {
    this.#worker = worker;
    worker.addEventListener("message", (event) => this.#receive((event as MessageEvent<FromWorker>).data));
    worker.addEventListener("error", (event) => {
      // The event of a script that could not be fetched carries no message.
      const reason = (event as Partial<ErrorEvent>).message || "its script could not be loaded";
      this.close(new PesiError("internal", `The model's worker failed: ${reason}`));
    });
    worker.addEventListener("messageerror", () => {
      this.close(new PesiError("internal", "A message from the model's worker could not be read"));
    });
  }

  /** Posts a request. `onEvent` is called for each of its events, in order, before the result. */
  call<M extends Method>(
    method: M,
    params: Methods[M]["params"],
    options: { signal?: AbortSignal | undefined; onEvent?: (event: Methods[M]["event"]) => void } = {},
  ): Call<Methods[M]["result"]> {
    const { signal, onEvent } = options;
    if (this.#closed !== undefined) return settled(this.#closed);
    if (signal?.aborted) return settled(abortedError(signal));
    const id = this.#nextId;
    this.#nextId += 1;
    const cancel = (): void => {
      if (this.#pending.has(id)) this.#post({ type: "cancel", id });
    };
    const result = new Promise<Methods[M]["result"]>((resolve, reject) => {
      const onAbort = (): void => {
        cancel();
        this.#take(id)?.reject(abortedError(signal));
      };
      const finish = <V>(settle: (value: V) => void) => {
        return (value: V): void => {
          signal?.removeEventListener("abort", onAbort);
          settle(value);
        };
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#pending.set(id, {
        resolve: finish(resolve as (value: unknown) => void),
        reject: finish(reject),
        onEvent: onEvent as Pending["onEvent"],
      });
    });
    this.#post({ type: "request", id, method, params } as Request);
    return { result, cancel };
  }

  /**
   * Frees the model and ends the worker. Other requests, pending and later ones, reject with `reason`. A worker that
   * does not answer within `deadlineMs` is ended by force; how much it freed is then unknown and counts as 0.
   */
  async dispose(reason: PesiError, deadlineMs: number): Promise<{ readonly freedBytes: number }> {
    if (this.#closed !== undefined) return { freedBytes: 0 };
    const others = [...this.#pending.keys()];
    const { result } = this.call("dispose", {});
    for (const id of others) this.#take(id)?.reject(reason);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise<{ freedBytes: number }>((resolve) => {
      timer = setTimeout(() => resolve({ freedBytes: 0 }), deadlineMs);
    });
    try {
      return await Promise.race([result, deadline]);
    } finally {
      clearTimeout(timer);
      this.close(reason);
    }
  }

  /** Ends the worker. Whatever is pending and every later call reject with `reason`. */
  close(reason: PesiError): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#worker.terminate();
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(reason);
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case "event":
        this.#pending.get(message.id)?.onEvent?.(message.event);
        break;
      case "result":
        this.#take(message.id)?.resolve(message.value);
        break;
      case "error": {
        const error = fromWire(message.error);
        this.#take(message.id)?.reject(error);
        if (message.fatal) this.close(error);
        break;
      }
    }
  }
}

function settled(error: PesiError): Call<never> {
  const result = Promise.reject<never>(error);
  return { result, cancel: () => {} };
}
