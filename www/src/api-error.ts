/** Errors as OpenAI's API answers with them. */

import { PesiError, type PesiErrorKind } from "./errors.js";
import type { ErrorObject } from "./openai-others.js";

/** An answer that says what went wrong. */
export interface ApiError {
  readonly status: number;
  readonly error: ErrorObject;
}

/** The status that clients know for a request that its caller gave up. */
const CLIENT_CLOSED_REQUEST = 499;

const INVALID_REQUEST = "invalid_request_error";
const SERVER = "server_error";

const BY_KIND: Readonly<Partial<Record<PesiErrorKind, { status: number; type: string; code: string }>>> = {
  invalid_argument: { status: 400, type: INVALID_REQUEST, code: "invalid_value" },
  unsupported: { status: 400, type: INVALID_REQUEST, code: "unsupported_parameter" },
  context_exceeded: { status: 400, type: INVALID_REQUEST, code: "context_length_exceeded" },
  template: { status: 400, type: INVALID_REQUEST, code: "invalid_prompt" },
  aborted: { status: CLIENT_CLOSED_REQUEST, type: INVALID_REQUEST, code: "request_cancelled" },
  out_of_memory: { status: 503, type: SERVER, code: "out_of_memory" },
  device_lost: { status: 503, type: SERVER, code: "device_lost" },
  disposed: { status: 503, type: SERVER, code: "model_disposed" },
};

/** What a failure is to a client of OpenAI's API. */
export function apiError(thrown: unknown): ApiError {
  const kind = thrown instanceof PesiError ? thrown.kind : "internal";
  const { status, type, code } = BY_KIND[kind] ?? { status: 500, type: SERVER, code: kind };
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { status, error: { message, type, param: paramOf(thrown), code: codeOf(thrown) ?? code } };
}

/** The parameter at fault; OpenAI names the conversation where it is too long. */
function paramOf(thrown: unknown): string | null {
  if (!(thrown instanceof PesiError)) return null;
  const { parameter } = thrown.details;
  if (parameter === undefined) return thrown.kind === "context_exceeded" ? "messages" : null;
  // What follows the name is the value that is not supported.
  return String(parameter).replace(/ .*$/s, "");
}

function codeOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof PesiError)) return undefined;
  const { parameter } = thrown.details;
  if (parameter === "previous_response_id") return "previous_response_not_found";
  const isValue = thrown.kind === "unsupported" && ("expected" in thrown.details || /\s/.test(String(parameter)));
  return isValue ? "unsupported_value" : undefined;
}

/** The error of what is not there. */
export function notFound(message: string, code: string, param: string | null = null): ApiError {
  return { status: 404, error: { message, type: INVALID_REQUEST, param, code } };
}

/** The error of a body that cannot be read. */
export function badBody(message: string): ApiError {
  return { status: 400, error: { message, type: INVALID_REQUEST, param: null, code: null } };
}
