/**
 * The one error type callers see. Errors cross the worker boundary as plain {@link WireError}
 * objects, because a structured clone keeps neither the class nor its own properties.
 */

/**
 * What went wrong, as a stable name to branch on.
 *
 * - `invalid_model`: a model file, tokenizer or configuration contradicts itself or its size.
 * - `unsupported`: well-formed, but something this version does not do.
 * - `invalid_argument`: a value passed by the caller cannot be used.
 * - `context_exceeded`: the prompt and the tokens asked for do not fit the context.
 * - `template`: the model's chat template failed or exceeded its budget.
 * - `network`: a request failed or was answered with an error.
 * - `storage`: reading a file or using browser storage failed.
 * - `quota_exceeded`: browser storage cannot hold the model: `cache: false` loads it without. `details` has the bytes
 *   that the model takes when whole, `needed`, those `stored` so far, and the browser's own estimate of its `quota` and
 *   its `usage`, where it gives one.
 * - `no_adapter`: there is no GPU adapter that can run the model.
 * - `out_of_memory`: the device has less memory than the model needs.
 * - `device_lost`: the GPU device was lost.
 * - `gpu`: the GPU rejected work, a defect in Pesi or in a driver.
 * - `aborted`: the caller cancelled.
 * - `disposed`: the model was disposed of.
 * - `internal`: the worker failed in a way it should not; the model cannot be used any more.
 */
export type PesiErrorKind =
  | "invalid_model"
  | "unsupported"
  | "invalid_argument"
  | "context_exceeded"
  | "template"
  | "network"
  | "storage"
  | "quota_exceeded"
  | "no_adapter"
  | "out_of_memory"
  | "device_lost"
  | "gpu"
  | "aborted"
  | "disposed"
  | "internal";

/** The facts behind an error by name, such as `needed`, `limit`, `tensor`, `offset` in bytes, `parameter`. */
export type PesiErrorDetails = Readonly<Record<string, number | string>>;

/** Every failure of this package: a stable `kind`, a sentence, and the numbers behind it. */
export class PesiError extends Error {
  override readonly name = "PesiError";
  /** What went wrong, as a stable name. */
  readonly kind: PesiErrorKind;
  /** The facts behind the error. */
  readonly details: PesiErrorDetails;

  constructor(kind: PesiErrorKind, message: string, details: PesiErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.details = details;
  }
}

/** An error as it is posted between the worker and the page. */
export interface WireError {
  readonly kind: PesiErrorKind;
  readonly message: string;
  readonly details: PesiErrorDetails;
}

const KINDS: ReadonlySet<string> = new Set<PesiErrorKind>([
  "invalid_model",
  "unsupported",
  "invalid_argument",
  "context_exceeded",
  "template",
  "network",
  "storage",
  "quota_exceeded",
  "no_adapter",
  "out_of_memory",
  "device_lost",
  "gpu",
  "aborted",
  "disposed",
  "internal",
]);

/**
 * Describes anything thrown in the worker: a {@link PesiError}, the error objects of the WebAssembly
 * module (which carry the same `kind`, `message` and `details`), a DOM exception, or a defect.
 */
export function toWire(thrown: unknown): WireError {
  if (typeof thrown !== "object" || thrown === null) {
    return { kind: "internal", message: String(thrown), details: {} };
  }
  const { name, kind, message, details } = thrown as Record<string, unknown>;
  const text = typeof message === "string" && message !== "" ? message : String(thrown);
  if (typeof kind === "string" && KINDS.has(kind)) {
    return { kind: kind as PesiErrorKind, message: text, details: plainDetails(details) };
  }
  if (name === "AbortError") return { kind: "aborted", message: text, details: {} };
  if (name === "QuotaExceededError") return { kind: "quota_exceeded", message: text, details: {} };
  return { kind: "internal", message: text, details: typeof name === "string" ? { name } : {} };
}

/** The inverse of {@link toWire}, on the page's side. */
export function fromWire(error: WireError): PesiError {
  return new PesiError(error.kind, error.message, error.details);
}

/** The error of an operation that its caller cancelled; `signal.reason`, where there is one, is its cause. */
export function abortedError(signal?: AbortSignal): PesiError {
  const options = signal?.reason === undefined ? undefined : { cause: signal.reason };
  return new PesiError("aborted", "The operation was cancelled", {}, options);
}

function plainDetails(details: unknown): PesiErrorDetails {
  if (typeof details !== "object" || details === null) return {};
  const entries: Iterable<[unknown, unknown]> = details instanceof Map ? details : Object.entries(details);
  const plain: Record<string, number | string> = {};
  for (const [name, value] of entries) {
    plain[String(name)] = typeof value === "number" ? value : String(value);
  }
  return plain;
}
