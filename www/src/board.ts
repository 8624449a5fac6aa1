/** Memory in which workers that hold a model together show each other numbers. */

/** What a worker needs to take its place. */
export interface BoardPlan {
  readonly memory: SharedArrayBuffer;
  /** Number of workers. */
  readonly size: number;
  /** Most numbers that one shows at once. */
  readonly mostShown: number;
}

/** 32-bit words between counters, so that each is in a cache line of its own. */
const LINE = 16;

/** Looks at another worker's counter between looks at the clock: some 25 microseconds. */
const LOOKS = 2_000;

/** How long a worker looks on before it sleeps, if it has the patience for it, in milliseconds. */
const LONGEST_LOOK_MS = 0.5;

/** Time that may be lost by looking on before a worker sleeps at once, in milliseconds. */
const MOST_PATIENCE_MS = 20;

/** The part of time that comes back as patience. */
const PATIENCE_SHARE = 0.01;

/** How long it sleeps at most before it looks whether all is over, in milliseconds. */
const NAP_MS = 100;

/** Makes the memory for a board. */
export function planBoard(size: number, mostShown: number): BoardPlan {
  const words = LINE * (size + 1) + 2 * size * mostShown;
  return { memory: new SharedArrayBuffer(4 * words), size, mostShown };
}

/**
 * One worker's place at the board.
 *
 * Each worker writes its two pages in turn: by the time it comes back to one, all have shown theirs of the turn
 * between, and so have read this.
 */
export class Board {
  readonly rank: number;
  readonly size: number;
  /** A word that is set when a worker has failed, then how often each has shown something. */
  readonly #counters: Int32Array;
  /** Of each worker, two pages. */
  readonly #pages: readonly (readonly [Float32Array, Float32Array])[];
  #turn = 0;
  /** Milliseconds that this worker may yet lose by looking on. */
  #patience = MOST_PATIENCE_MS;
  /** When that was so. */
  #asOf = performance.now();

  constructor({ memory, size, mostShown }: BoardPlan, rank: number) {
    this.rank = rank;
    this.size = size;
    const first = LINE * (size + 1);
    this.#counters = new Int32Array(memory, 0, first);
    const page = (index: number): Float32Array => new Float32Array(memory, 4 * (first + index * mostShown), mostShown);
    this.#pages = Array.from({ length: size }, (_, rank) => [page(2 * rank), page(2 * rank + 1)] as const);
  }

  /** Shows `values` to the others, and waits until all have shown theirs; false where one has failed. */
  show(values: Float32Array): boolean {
    const turn = (this.#turn + 1) | 0;
    this.#turn = turn;
    this.#page(this.rank).set(values);
    Atomics.store(this.#counters, LINE * (this.rank + 1), turn);
    Atomics.notify(this.#counters, LINE * (this.rank + 1));
    for (let rank = 0; rank < this.size; rank += 1) {
      if (rank !== this.rank && !this.#await(LINE * (rank + 1), turn)) return false;
    }
    return true;
  }

  /** Copies the first numbers of what worker `rank` has shown last. */
  read(rank: number, out: Float32Array): void {
    out.set(this.#page(rank).subarray(0, out.length));
  }

  /** Has every wait end: this worker has failed. */
  fail(): void {
    Atomics.store(this.#counters, 0, 1);
  }

  #page(rank: number): Float32Array {
    return this.#pages[rank]![(this.#turn & 1) as 0 | 1];
  }

  /**
   * Waits for a counter to come to `turn`; others are at most a turn ahead.
   *
   * A system that finds one of the workers asleep whenever the other computes leaves both on one core. It gives them a
   * core each when both want one for a while: hence they look on at first. Where that comes to nothing, since others
   * have the cores, they sleep.
   */
  #await(counter: number, turn: number): boolean {
    let since: number | undefined;
    for (let looks = 1; ; looks += 1) {
      const found = Atomics.load(this.#counters, counter);
      if (found === turn || found === ((turn + 1) | 0)) return true;
      if (looks % LOOKS !== 0) continue;
      if (Atomics.load(this.#counters, 0) !== 0) return false;
      const now = performance.now();
      since ??= now;
      if (now - since < this.#patienceAt(now)) continue;
      this.#patience -= now - since;
      Atomics.wait(this.#counters, counter, found, NAP_MS);
      since = undefined;
    }
  }

  /** For how long this worker looks on at the time `now`. */
  #patienceAt(now: number): number {
    this.#patience = Math.min(MOST_PATIENCE_MS, this.#patience + PATIENCE_SHARE * (now - this.#asOf));
    this.#asOf = now;
    return Math.min(LONGEST_LOOK_MS, this.#patience);
  }
}
