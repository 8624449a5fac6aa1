/**
 * The WebAssembly modules beside the engine's own, which many a page never needs: each is fetched when an answer first
 * does, and stays. From then on the engine calls it without the worker's help.
 */

import { abortedError, PesiError } from "./errors.js";
import startGrammars from "./pesi_grammars.js";
import startTemplates from "./pesi_templates.js";

/** What the bindings of a module give once it is started. */
interface Started {
  readonly memory: WebAssembly.Memory;
}

class LazyModule {
  readonly #name: string;
  readonly #start: () => Promise<Started>;
  #started: Started | undefined;

  /** `start` makes one request for all who wait, and another after one that failed. */
  constructor(name: string, start: () => Promise<Started>) {
    this.#name = name;
    this.#start = start;
  }

  /** Bytes of its memory. */
  get heapBytes(): number {
    return this.#started?.memory.buffer.byteLength ?? 0;
  }

  /**
   * Has it ready.
   *
   * @throws {PesiError} of kind `network` where it cannot be fetched or started, which the next call tries again; of
   *   kind `aborted`, at once, where `signal` is aborted meanwhile
   */
  async ready(signal: AbortSignal): Promise<void> {
    if (this.#started !== undefined) return;
    try {
      this.#started = await unlessAborted(this.#start(), signal);
    } catch (error) {
      if (error instanceof PesiError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      const message = `The part of the package for ${this.#name} could not be loaded: ${reason}`;
      throw new PesiError("network", message, { file: `pesi_${this.#name}_bg.wasm` });
    }
  }
}

/** Holds answers to what is demanded of them: forms of answers, calls of tools. */
export const grammars = new LazyModule("grammars", startGrammars);

/** Makes prompts of conversations by the model's own template. */
export const templates = new LazyModule("templates", startTemplates);

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(abortedError(signal));
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}
