/** Bedrock Runtime's operations, answered from a model. */

import type { ChatCompletionChunk, ChatCompletionCreateParams } from "../openai.js";
import { converseEvents, converseOutput } from "./converse.js";
import { chatParams } from "./converse-params.js";
import {
  blame,
  event,
  exceptionEvent,
  handlerOf,
  json,
  messageOf,
  parsed,
  streamed,
  type Asked,
  type AwsModels,
  type AwsRequestHandler,
  type AwsResponse,
  type Errors,
  type Operation,
} from "./http.js";

const OPERATIONS: readonly Operation[] = [
  { path: /^\/model\/([^/]+)\/converse$/, answer: converse },
  { path: /^\/model\/([^/]+)\/converse-stream$/, answer: converseStream },
  { path: /^\/model\/([^/]+)\/invoke$/, answer: invoke },
  { path: /^\/model\/([^/]+)\/invoke-with-response-stream$/, answer: invokeStream },
];

/** Errors by whose fault they are. Those of a model are of a kind that clients do not try again. */
const EXCEPTIONS = {
  caller: { status: 400, type: "ValidationException", event: "validationException" },
  device: { status: 503, type: "ServiceUnavailableException", event: "serviceUnavailableException" },
  model: { status: 424, type: "ModelErrorException", event: "modelStreamErrorException" },
} as const;

const ERRORS: Errors = {
  of(thrown) {
    const { status, type } = EXCEPTIONS[blame(thrown)];
    return json({ message: messageOf(thrown) }, status, { "x-amzn-errortype": type });
  },
  notFound: (message) => json({ message }, 404, { "x-amzn-errortype": "ResourceNotFoundException" }),
};

/**
 * A `requestHandler` for `BedrockRuntimeClient` that answers from models and sends nothing anywhere: `Converse`,
 * `ConverseStream`, and `InvokeModel` with and without a stream, whose bodies are those of chat completions.
 */
export function bedrockHandler(models: AwsModels): AwsRequestHandler {
  return handlerOf(models, OPERATIONS, ERRORS);
}

function failed(thrown: unknown): Uint8Array {
  return exceptionEvent(EXCEPTIONS[blame(thrown)].event, { message: messageOf(thrown) });
}

async function converse({ model, body, signal }: Asked): Promise<AwsResponse> {
  const startedAt = performance.now();
  const params = { ...chatParams(parsed(body)), n: 1, stream: false as const };
  return json(converseOutput(await model.chat.completions.create(params, { signal }), startedAt));
}

async function converseStream({ model, body, signal }: Asked): Promise<AwsResponse> {
  const startedAt = performance.now();
  const params = { ...chatParams(parsed(body)), n: 1, stream: true as const, stream_options: { include_usage: true } };
  const chunks = await model.chat.completions.create(params, { signal });
  return streamed(converseEvents(chunks, startedAt), signal, failed);
}

async function invoke({ model, body, signal }: Asked): Promise<AwsResponse> {
  const params = { ...parsed(body), stream: false } as unknown as ChatCompletionCreateParams & { stream: false };
  return json(await model.chat.completions.create(params, { signal }));
}

async function invokeStream({ model, body, signal }: Asked): Promise<AwsResponse> {
  const params = { ...parsed(body), stream: true } as unknown as ChatCompletionCreateParams & { stream: true };
  const chunks = await model.chat.completions.create(params, { signal });
  const headers = { "x-amzn-bedrock-content-type": "application/json" };
  return streamed(chunkEvents(chunks), signal, failed, headers);
}

async function* chunkEvents(
  chunks: AsyncIterable<ChatCompletionChunk>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const utf8 = new TextEncoder();
  for await (const chunk of chunks) {
    const bytes = utf8.encode(JSON.stringify(chunk));
    const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    yield event("chunk", { bytes: btoa(binary) });
  }
}
