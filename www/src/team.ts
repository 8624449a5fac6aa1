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

/**
 * Does `work` for the CPU, with a team if there can be one. It stays for a model that has come to use it.
 *
 * @returns also how many threads were used
 */
export async function withTeam<T>(
  work: (team: Team | undefined) => Promise<T>,
): Promise<{ readonly result: T; readonly threads: number }> {
  const team = Team.forThisMachine();
  let threads = 1;
  try {
    const result = await work(team);
    threads = team?.threads ?? 1;
    return { result, threads };
  } finally {
    if (threads === 1) team?.close();
  }
}

/** What the engine calls to have more threads. It starts them as soon as it is made, which takes a while. */
export class Team {
  /** Threads that there may be, this one among them. */
  readonly size: number;
  #others: Thread[];
  #threads = 1;

  private constructor(size: number) {
    this.size = size;
    this.#others = startThreads(size - 1);
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
    this.#others.push(...startThreads(programs.length - this.#others.length));
    for (const { worker } of this.#others.splice(programs.length)) worker.terminate();
    const board = planBoard(programs.length + 1, mostShown);
    await Promise.all(
      this.#others.map((thread, index) => {
        const place = { board, rank: index + 1 };
        post(thread, { type: "join", module, program: programs[index], contextLength, ...place });
        return thread.joined;
      }),
    );
    this.#threads = board.size;
    return new Board(board, 0);
  }

  /** Has the worker `rank` carry out an order; both arrays are copied. */
  tell(rank: number, words: Uint32Array, bytes: Uint8Array): void {
    const copies = { words: words.slice(), bytes: bytes.slice() };
    post(this.#others[rank - 1]!, { type: "order", ...copies }, [copies.words.buffer, copies.bytes.buffer]);
  }

  /** Ends the workers. */
  close(): void {
    for (const { worker } of this.#others.splice(0)) worker.terminate();
  }
}

interface Thread {
  readonly worker: Worker;
  /** Settles when it has its share, or has failed before. */
  readonly joined: Promise<void>;
}

function startThreads(count: number): Thread[] {
  return Array.from({ length: Math.max(count, 0) }, startThread);
}

function startThread(): Thread {
  const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module", name: "pesi-thread" });
  const joined = new Promise<void>((resolve, reject) => {
    const fail = (reason: string): void => reject(new PesiError("unsupported", `A thread failed: ${reason}`));
    worker.onmessage = ({ data }: MessageEvent<FromThread>): void => {
      if (data.type === "ready") resolve();
      else fail(data.error.message);
    };
    worker.onerror = (event): void => {
      // Else it would count as a failure of this worker, which goes on without.
      event.preventDefault();
      fail(event.message || "its script could not be loaded");
    };
  });
  // It may fail before anybody waits for it.
  joined.catch(() => {});
  return { worker, joined };
}

function post({ worker }: Thread, message: ToThread, transfer: Transferable[] = []): void {
  worker.postMessage(message, transfer);
}
