/** SageMaker Runtime's operations, answered from a model: endpoints that speak OpenAI's API. */

import { PesiError } from "../errors.js";
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
  { path: /^\/endpoints\/([^/]+)\/invocations$/, answer: invoke },
  { path: /^\/endpoints\/([^/]+)\/invocations-response-stream$/, answer: invokeStream },
];

const HEADERS = { "x-amzn-invoked-production-variant": "pesi" };

const ERRORS: Errors = {
  of(thrown) {
    const who = blame(thrown);
    if (who === "device") return error(503, "ServiceUnavailable", { Message: messageOf(thrown) });
    if (who === "caller") return error(400, "ValidationError", { Message: messageOf(thrown) });
    return error(424, "ModelError", { Message: messageOf(thrown), OriginalStatusCode: 500 });
  },
  notFound: (message) => error(400, "ValidationError", { Message: message }),
};

/**
 * A `requestHandler` for `SageMakerRuntimeClient` that answers from models and sends nothing anywhere: `InvokeEndpoint`
 * and `InvokeEndpointWithResponseStream`, with the bodies of OpenAI's chat completions, completions or responses.
 */
export function sagemakerHandler(models: AwsModels): AwsRequestHandler {
  return handlerOf(models, OPERATIONS, ERRORS);
}

function error(status: number, type: string, body: object): AwsResponse {
  return json(body, status, { "x-amzn-errortype": type });
}

async function invoke(asked: Asked): Promise<AwsResponse> {
  const answer = await ask(asked, false);
  if (!answer.ok) return failure(answer);
  const body = new Uint8Array(await answer.arrayBuffer());
  return { statusCode: 200, headers: headersOf(answer, "content-type"), body };
}

async function invokeStream(asked: Asked): Promise<AwsResponse> {
  const answer = await ask(asked, true);
  if (!answer.ok) return failure(answer);
  const body = answer.body as ReadableStream<Uint8Array>;
  return streamed(parts(body), asked.signal, failed, headersOf(answer, "x-amzn-sagemaker-content-type"));
}

/** Which of OpenAI's APIs a body is for. */
function pathOf(body: Readonly<Record<string, unknown>>): string {
  if ("messages" in body) return "/v1/chat/completions";
  if ("prompt" in body) return "/v1/completions";
  if ("input" in body) return "/v1/responses";
  throw new PesiError("invalid_argument", "The body must have messages, prompt or input", { parameter: "body" });
}

async function ask({ model, body, signal }: Asked, stream: boolean): Promise<Response> {
  const given = parsed(body);
  const init = { method: "POST", body: JSON.stringify({ ...given, stream }), signal };
  return model.fetch(new URL(pathOf(given), "http://localhost"), init);
}

/** A container's own error: clients get its status and its text. */
async function failure(answer: Response): Promise<AwsResponse> {
  const text = await answer.text();
  const { error: told } = JSON.parse(text) as { error: { message: string } };
  if (answer.status >= 500 && answer.status !== 500) return error(503, "ServiceUnavailable", { Message: told.message });
  const original = { OriginalStatusCode: answer.status, OriginalMessage: text };
  return error(424, "ModelError", { Message: told.message, ...original });
}

function headersOf(answer: Response, name: string): Record<string, string> {
  return { ...HEADERS, [name]: answer.headers.get("content-type") as string };
}

async function* parts(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield event("PayloadPart", value);
    }
  } finally {
    await reader.cancel();
  }
}

function failed(thrown: unknown): Uint8Array {
  return exceptionEvent("ModelStreamError", { Message: messageOf(thrown), ErrorCode: "ModelInvocationFailed" });
}
