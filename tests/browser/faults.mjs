/**
 * What goes wrong between a web server and a load: the kinds of faults, and plans of them drawn at random for the
 * server of `fault-server.mjs`.
 *
 * A fault stands at a byte of a file, drawn from all bytes of the model. It fires once, at the first answer that has
 * this byte to send, wherever in that answer it is.
 *
 * @typedef {object} Fault
 * @property {"drop" | "stall" | "truncate" | "short" | "flip" | "status" | "total" | "whole" | "changed"} what
 *   - `drop`: the connection is reset before the byte;
 *   - `stall`: nothing is sent from the byte on, and the connection stays;
 *   - `truncate`: the connection ends in order before the byte, though more was announced;
 *   - `short`: the answer ends before the byte and announces no more, but for its `Content-Range`;
 *   - `flip`: one bit of the byte is another;
 *   - `status`: the answer is an error;
 *   - `total`: `Content-Range` tells another size of the file;
 *   - `whole`: the range is ignored, and all of the file is sent;
 *   - `changed`: from this answer on the file has another ETag.
 * @property {string} file
 * @property {number} at the byte's offset in the file.
 * @property {number} [bit] of the byte, for `flip`.
 * @property {number} [status] for `status`; with `retryAfter` in seconds, as the answer states it.
 * @property {number} [extra] bytes that `total` adds to the size.
 */

/** Statuses of servers that have too much to do, and how long they say to wait, in seconds. */
const REFUSALS = {
  429: { status: 429 },
  "429 with Retry-After": { status: 429, retryAfter: 1 },
  500: { status: 500 },
  503: { status: 503 },
};

/** One interruption, after which the same bytes can be had. */
const INTERRUPTIONS = ["drop", "stall", "truncate", ...Object.keys(REFUSALS)];

/**
 * Kinds of plans.
 *
 * `isHarmless`: the load gets over it; else it may also fail with an error of `errors`.
 * `isSingle`: it interrupts one answer, so that hardly any byte is sent twice.
 * `hasSums`: the file `SHA256SUMS` is there; elsewhere it is at random.
 */
export const KINDS = {
  ...Object.fromEntries(INTERRUPTIONS.map((kind) => [kind, { isHarmless: true, isSingle: true }])),
  "several interruptions": { isHarmless: true },
  "expired signature": { isHarmless: true },
  "ranges ignored": { isHarmless: true },
  "one range ignored": { isHarmless: true },
  "short answer": { errors: ["network"] },
  "wrong size": { errors: ["network", "invalid_model"] },
  "wrong byte": { errors: ["invalid_model", "unsupported", "network"], hasSums: true },
  "changed ETag": { errors: ["network"] },
};

/**
 * Draws a plan.
 *
 * @param {string} kind one of {@link KINDS}.
 * @param {Map<string, Buffer>} files the model's.
 * @param {import("./random.mjs").Random} random
 * @returns {object} what `publish` of the server takes beside the files.
 */
export function drawPlan(kind, files, random) {
  const sums = KINDS[kind].hasSums || random.below(2) === 0 ? "right" : "absent";
  const server = { sums, isCacheable: random.below(2) === 0 };
  const one = (fault) => ({ ...server, faults: [{ ...fault, ...drawPlace(files, random) }] });
  if (INTERRUPTIONS.includes(kind)) return one(interruption(kind));
  switch (kind) {
    case "several interruptions": {
      const quick = INTERRUPTIONS.filter((name) => name !== "stall");
      const faults = Array.from({ length: 2 + random.below(3) }, () => ({
        ...interruption(random.pick(quick)),
        ...drawPlace(files, random),
      }));
      return { ...server, faults };
    }
    case "expired signature":
      return { ...server, signature: { requests: 1 + random.below(8), exposesTag: random.below(2) === 0 } };
    case "ranges ignored":
      return { ...server, ignoresRanges: true };
    case "one range ignored":
      return one({ what: "whole" });
    case "short answer":
      return one({ what: "short" });
    case "wrong size":
      return one({ what: "total", extra: random.pick([-1, 1]) * (1 + random.below(100_000)) });
    case "wrong byte":
      return one({ what: "flip", bit: random.below(8) });
    case "changed ETag":
      return one({ what: "changed" });
    default:
      throw new Error(`no such kind: ${kind}`);
  }
}

function interruption(kind) {
  return kind in REFUSALS ? { what: "status", ...REFUSALS[kind] } : { what: kind };
}

function drawPlace(files, random) {
  const total = [...files.values()].reduce((sum, { length }) => sum + length, 0);
  let at = random.below(total);
  for (const [file, { length }] of files) {
    if (at < length) return { file, at };
    at -= length;
  }
  throw new Error("a model without bytes");
}
