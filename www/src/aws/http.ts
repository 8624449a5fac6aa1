/** What a request handler of AWS's clients takes and gives, and how both are made here. */

import { PesiError, type PesiErrorKind } from "../errors.js";
import type { Model } from "../model.js";
import { encodeMessage } from "./codec.js";

/** A request as AWS's clients make it: the part that is read here. */
export interface AwsRequest {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

/** A response as AWS's clients read it. */
export interface AwsResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: Uint8Array | ReadableStream<Uint8Array>;
}

/** A `requestHandler` for a client of the AWS SDK for JavaScript. */
export interface AwsRequestHandler {
  readonly metadata: { readonly handlerProtocol: string };
  handle(request: AwsRequest, options?: { abortSignal?: unknown }): Promise<{ response: AwsResponse }>;
  updateHttpClientConfig(key: string, value: unknown): void;
  httpHandlerConfigs(): Record<string, unknown>;
  /** Does nothing: models are disposed of by whoever loaded them. */
  destroy(): void;
}

/** A loaded model, which answers whatever id a client asks for; or models by the ids that clients ask for. */
export type AwsModels = AwsModel | Readonly<Record<string, AwsModel>>;

/** A model of `load`. */
export type AwsModel = Pick<Model, "info" | "chat" | "fetch">;

/** A request that is understood. */
export interface Asked {
  readonly model: AwsModel;
  readonly body: string;
  readonly signal: AbortSignal;
}

/** An operation: a path with the model's id in brackets, and what answers it. */
export interface Operation {
  readonly path: RegExp;
  readonly answer: (asked: Asked) => Promise<AwsResponse>;
}

/** How a service's errors are made: by PesiError's kinds, and of the paths and models that are not there. */
export interface Errors {
  of(thrown: unknown): AwsResponse;
  notFound(message: string): AwsResponse;
}

const text = { encoder: new TextEncoder(), decoder: new TextDecoder() };

/** A handler that answers operations from models. */
export function handlerOf(models: AwsModels, operations: readonly Operation[], errors: Errors): AwsRequestHandler {
  return {
    metadata: { handlerProtocol: "http/1.1" },
    async handle(request, options = {}) {
      const signal = (options.abortSignal as AbortSignal | undefined) ?? new AbortController().signal;
      if (signal.aborted) throw abortError();
      return { response: await route(request, signal, models, operations, errors) };
    },
    updateHttpClientConfig() {},
    httpHandlerConfigs: () => ({}),
    destroy() {},
  };
}

async function route(
  request: AwsRequest,
  signal: AbortSignal,
  models: AwsModels,
  operations: readonly Operation[],
  errors: Errors,
): Promise<AwsResponse> {
  for (const { path, answer } of operations) {
    const [, id] = path.exec(request.path) ?? [];
    if (id === undefined || request.method !== "POST") continue;
    const name = decodeURIComponent(id);
    const model = find(models, name);
    if (model === undefined) return errors.notFound(`There is no model called ${JSON.stringify(name)}`);
    try {
      return await answer({ model, body: textOf(request.body), signal });
    } catch (error) {
      if (signal.aborted) throw abortError();
      return errors.of(error);
    }
  }
  return errors.notFound(`${request.method} ${request.path} is no operation of this handler`);
}

function find(models: AwsModels, name: string): AwsModel | undefined {
  if (isModel(models)) return models;
  return Object.hasOwn(models, name) ? models[name] : undefined;
}

function isModel(models: AwsModels): models is AwsModel {
  return typeof models.fetch === "function";
}

function textOf(body: unknown): string {
  if (typeof body === "string") return body;
  if (body instanceof Uint8Array) return text.decoder.decode(body);
  throw new PesiError("unsupported", "Only bodies of text or bytes are supported", { parameter: "body" });
}

/** A request's body. */
export function parsed(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Refused below, as other values are.
  }
  throw new PesiError("invalid_argument", "The body of the request must be a JSON object", { parameter: "body" });
}

/** As AWS's own handlers have it. */
export function abortError(): Error {
  const error = new Error("Request aborted");
  error.name = "AbortError";
  return error;
}

/** A whole answer. */
export function json(value: object, statusCode = 200, headers: Record<string, string> = {}): AwsResponse {
  return { statusCode, headers: { "content-type": "application/json", ...headers }, body: bytesOf(value) };
}

/** A value as JSON, in bytes. */
export function bytesOf(value: unknown): Uint8Array {
  return text.encoder.encode(JSON.stringify(value));
}

/** An event of a stream; its payload is JSON, unless it is bytes. */
export function event(type: string, payload: object | Uint8Array): Uint8Array {
  const isBytes = payload instanceof Uint8Array;
  return encodeMessage(
    {
      ":event-type": type,
      ":content-type": isBytes ? "application/octet-stream" : "application/json",
      ":message-type": "event",
    },
    isBytes ? payload : bytesOf(payload),
  );
}

/** The event of a failure within a stream. */
export function exceptionEvent(type: string, payload: object): Uint8Array {
  const headers = { ":exception-type": type, ":content-type": "application/json", ":message-type": "exception" };
  return encodeMessage(headers, bytesOf(payload));
}

/** A streamed answer. Failures are told by `failed`, aborts end the stream with an error. */
export function streamed(
  events: AsyncGenerator<Uint8Array, void, undefined>,
  signal: AbortSignal,
  failed: (thrown: unknown) => Uint8Array,
  headers: Record<string, string> = {},
): AwsResponse {
  let isOver = false;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      signal.addEventListener?.("abort", () => controller.error(abortError()), { once: true });
    },
    async pull(controller) {
      if (isOver) return controller.close();
      try {
        const { done, value } = await events.next();
        if (signal.aborted) return;
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        if (signal.aborted) return;
        isOver = true;
        controller.enqueue(failed(error));
      }
    },
    async cancel() {
      await events.return();
    },
  });
  return { statusCode: 200, headers: { "content-type": "application/vnd.amazon.eventstream", ...headers }, body };
}

const REFUSED: readonly PesiErrorKind[] = ["invalid_argument", "unsupported", "context_exceeded", "template"];
const UNAVAILABLE: readonly PesiErrorKind[] = ["out_of_memory", "device_lost", "disposed"];

/** Whose fault a failure is. */
export function blame(thrown: unknown): "caller" | "device" | "model" {
  if (!(thrown instanceof PesiError)) return "model";
  if (REFUSED.includes(thrown.kind)) return "caller";
  return UNAVAILABLE.includes(thrown.kind) ? "device" : "model";
}

/** A failure in words. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
