/** The workers that hold a model together with the one that owns it, where the page may share memory with them. */

import { Board, planBoard } from "./board.js";
import { PesiError } from "./errors.js";
import type { FromThread, ToThread } from "./thread.js";

/** Threads that a model has at most. */
const MOST_THREADS = 8;

/** How many threads compute a model on a machine that runs `concurrency` at once: others run beside them. */
function threadsFor(concurrency: number): number {
  return concurrency <= 2 ? concurrency : Math.min(MOST_THREADS, concurrency >> 1);
}

/** What the engine calls to have more threads. It starts them as soon as it is made, which takes a while. */
export class Team {
  /** Threads that there may be, this one among them. */
  readonly size: number;
  #workers: Worker[];
  #threads = 1;

  private constructor(size: number) {
    this.size = size;
    this.#workers = startWorkers(size - 1);
  }

  /** A team as large as this machine has use for; none where memory may not be shared. */
  static forThisMachine(): Team | undefined {
    const size = threadsFor(navigator.hardwareConcurrency);
    return globalThis.crossOriginIsolated && size > 1 ? new Team(size) : undefined;
  }

  /** Threads that the last model has, or had. */
  get threads(): number {
    return this.#threads;
  }

  /**
   * Gives each of `programs` to a worker, and ends the others; returns this worker's place among them.
   *
   * @throws {PesiError} where a worker could not be started, or has no room for its share
   */
  async start(
    module: WebAssembly.Module,
    programs: readonly unknown[],
    contextLength: number,
    mostShown: number,
  ): Promise<Board> {
    this.#threads = 1;
    const missing = programs.length - this.#workers.length;
    if (missing > 0) this.#workers.push(...startWorkers(missing));
    for (const worker of this.#workers.splice(programs.length)) worker.terminate();
    const board = planBoard(programs.length + 1, mostShown);
    await Promise.all(
      this.#workers.map((worker, index) => {
        const ready = answerOf(worker);
        const place = { board, rank: index + 1 };
        post(worker, { type: "join", module, program: programs[index], contextLength, ...place });
        return ready;
      }),
    );
    this.#threads = board.size;
    return new Board(board, 0);
  }

  /** Has the worker `rank` carry out an order; both arrays are copied. */
  tell(rank: number, words: Uint32Array, bytes: Uint8Array): void {
    const copies = { words: words.slice(), bytes: bytes.slice() };
    const worker = this.#workers[rank - 1]!;
    post(worker, { type: "order", ...copies }, [copies.words.buffer, copies.bytes.buffer]);
  }

  /** Ends the workers. */
  close(): void {
    for (const worker of this.#workers.splice(0)) worker.terminate();
  }
}

function startWorkers(count: number): Worker[] {
  const start = (): Worker =>
    new Worker(new URL("./thread.js", import.meta.url), { type: "module", name: "pesi-thread" });
  return Array.from({ length: count }, start);
}

function post(worker: Worker, message: ToThread, transfer: Transferable[] = []): void {
  worker.postMessage(message, transfer);
}

function answerOf(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string): void => reject(new PesiError("unsupported", `A thread failed: ${reason}`));
    worker.onmessage = ({ data }: MessageEvent<FromThread>): void => {
      if (data.type === "ready") resolve();
      else fail(data.error.message);
    };
    worker.onerror = ({ message }): void => fail(message || "its script could not be loaded");
  });
}
