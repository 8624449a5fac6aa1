/** Random numbers that a seed repeats. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
    // Neighbouring seeds are far apart after a few steps.
    for (let step = 0; step < 4; step++) this.unit();
  }

  /** From 0 to below 1: mulberry32. */
  unit() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to below `n`. */
  below(n) {
    return Math.floor(this.unit() * n);
  }

  pick(list) {
    return list[this.below(list.length)];
  }
}
