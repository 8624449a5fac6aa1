/**
 * A `fetch` that answers OpenAI's REST paths from a model, for clients that take one: whatever the base URL, nothing is
 * sent anywhere.
 */

import { apiError, badBody, notFound, type ApiError } from "./api-error.js";
import { randomId } from "./ids.js";
import type { ModelList, ModelObject } from "./openai-others.js";
import type { ApiStream } from "./stream.js";

/** What requests are answered from. */
export interface Backend {
  readonly chat: Create;
  readonly completions: Create;
  readonly responses: Create & {
    retrieve(id: string): Promise<object>;
    delete(id: string): Promise<void>;
  };
  /** The models there are: the one. */
  readonly models: () => ModelList;
}

interface Create {
  create(params: never, options: { signal: AbortSignal }): Promise<object>;
}

type Answer = globalThis.Response;

/** A request that is understood. */
interface Asked {
  readonly backend: Backend;
  readonly request: Request;
  readonly signal: AbortSignal;
  /** What the pattern of its path has in brackets. */
  readonly id: string;
}

interface Route {
  readonly path: RegExp;
  readonly methods: Readonly<Record<string, (asked: Asked) => Promise<Answer>>>;
}

const ROUTES: readonly Route[] = [
  { path: /\/chat\/completions\/?$/, methods: { POST: (asked) => create(asked, asked.backend.chat, chunks) } },
  { path: /\/completions\/?$/, methods: { POST: (asked) => create(asked, asked.backend.completions, chunks) } },
  { path: /\/responses\/?$/, methods: { POST: (asked) => create(asked, asked.backend.responses, events) } },
  { path: /\/responses\/([^/]+)\/?$/, methods: { GET: retrieveResponse, DELETE: deleteResponse } },
  { path: /\/models\/?$/, methods: { GET: async ({ backend }) => json(backend.models()) } },
  // The ids of models have slashes, which not every client escapes.
  { path: /\/models\/(.+)$/, methods: { GET: retrieveModel } },
];

/** OpenAI's paths, after whatever base. */
export const API_PATH = /\/(chat\/completions|completions|responses(\/[^/]+)?|models(\/.+)?)\/?$/;

/** Any base will do where there is no page whose address relative ones are completed with. */
const NO_PAGE = "http://localhost";

/** The `fetch` of a model. */
export function fetchFrom(backend: Backend): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input instanceof Request ? input : absolute(input), init);
    // That of a request follows the caller's only as long as the request itself is held.
    const signal = init?.signal ?? (input instanceof Request ? input.signal : request.signal);
    signal.throwIfAborted();
    try {
      return await route(backend, request, signal);
    } catch (error) {
      // As `fetch` itself does, whoever aborts gets the reason of that.
      signal.throwIfAborted();
      return failure(apiError(error));
    }
  };
}

/** The address that a page means. */
export function absolute(address: string | URL): URL {
  return new URL(address, (globalThis.location as Location | undefined)?.href ?? NO_PAGE);
}

async function route(backend: Backend, request: Request, signal: AbortSignal): Promise<Answer> {
  const { pathname } = new URL(request.url);
  for (const { path, methods } of ROUTES) {
    const [found, id = ""] = path.exec(pathname) ?? [];
    if (found === undefined) continue;
    const method = methods[request.method];
    if (method !== undefined) return method({ backend, request, signal, id: unescaped(id) });
    const message = `Not allowed to ${request.method} on ${pathname}`;
    return failure({ status: 405, error: { ...badBody(message).error, code: "method_not_supported" } });
  }
  return failure(notFound(`Invalid URL (${request.method} ${pathname})`, "unknown_url"));
}

function unescaped(id: string): string {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

async function create(
  { request, signal }: Asked,
  api: Create,
  format: (stream: ApiStream<object>) => Lines,
): Promise<Answer> {
  let params: unknown;
  try {
    params = await request.json();
  } catch {
    return failure(badBody("The body of the request is not valid JSON"));
  }
  const answer = await api.create(params as never, { signal });
  if (!(Symbol.asyncIterator in answer)) return json(answer);
  return streamed(format(answer as ApiStream<object>), signal);
}

async function retrieveModel({ backend, id }: Asked): Promise<Answer> {
  const found = backend.models().data.find((model: ModelObject) => model.id === id);
  if (found !== undefined) return json(found);
  return failure(notFound(`The model ${JSON.stringify(id)} does not exist`, "model_not_found", "model"));
}

async function retrieveResponse({ backend, id }: Asked): Promise<Answer> {
  return ofStored(id, async () => json(await backend.responses.retrieve(id)));
}

async function deleteResponse({ backend, id }: Asked): Promise<Answer> {
  return ofStored(id, async () => {
    await backend.responses.delete(id);
    return json({ id, object: "response", deleted: true });
  });
}

async function ofStored(id: string, answer: () => Promise<Answer>): Promise<Answer> {
  try {
    return await answer();
  } catch {
    return failure(notFound(`Response with id ${JSON.stringify(id)} not found`, "response_not_found"));
  }
}

type Lines = AsyncGenerator<string, void, undefined>;

/** Chunks as server-sent events, with OpenAI's mark at their end. */
async function* chunks(stream: ApiStream<object>): Lines {
  try {
    for await (const chunk of stream) yield `data: ${JSON.stringify(chunk)}\n\n`;
  } catch (error) {
    yield `data: ${JSON.stringify({ error: apiError(error).error })}\n\n`;
    return;
  }
  yield "data: [DONE]\n\n";
}

/** Events of a response as server-sent events; that it has failed is the last of them. */
async function* events(stream: ApiStream<object>): Lines {
  try {
    for await (const event of stream) {
      yield `event: ${(event as { type: string }).type}\ndata: ${JSON.stringify(event)}\n\n`;
    }
  } catch {
    // Said by the event.
  }
}

function streamed(lines: Lines, signal: AbortSignal): Answer {
  const utf8 = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // Chunks that nobody has read yet are lost with an abort, as those on a network are.
      signal.addEventListener("abort", () => controller.error(signal.reason), { once: true });
    },
    async pull(controller) {
      const { done, value } = await lines.next();
      if (signal.aborted) return;
      if (done) controller.close();
      else controller.enqueue(utf8.encode(value));
    },
    async cancel() {
      await lines.return();
    },
  });
  return new Response(body, { headers: headers("text/event-stream; charset=utf-8") });
}

function json(value: object, status = 200): Answer {
  return new Response(JSON.stringify(value), { status, headers: headers("application/json") });
}

/** An answer that says what went wrong. */
export function failure({ status, error }: ApiError): Answer {
  const answer = json({ error }, status);
  // What fails here fails again: nothing is gained by the retries that OpenAI's clients would make.
  answer.headers.set("x-should-retry", "false");
  return answer;
}

function headers(type: string): Record<string, string> {
  return { "content-type": type, "x-request-id": randomId("req_") };
}
