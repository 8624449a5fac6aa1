/**
 * The service worker: requests to OpenAI's paths below a base on the page's origin are answered by a page that holds a
 * model, first of all by the one that asks. Everything else goes where it would go without it. The base is the
 * parameter `base` of the script's address, `/v1` where there is none.
 *
 * Built into one classic script without imports, to be copied to where its scope is to be.
 */

import { API_PATH, failure } from "../fetch.js";
import type { ErrorObject } from "../openai-others.js";
import { type AskMessage, clientOfLock, type Command, type FromPage, type ToPage } from "./messages.js";

/** The part of a service worker's global scope in use; the DOM's types describe a window's. */
interface ServiceWorkerScope {
  readonly location: Location;
  readonly clients: {
    get(id: string): Promise<Client | undefined>;
    claim(): Promise<void>;
  };
  skipWaiting(): Promise<void>;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  addEventListener(type: "message", listener: (event: CommandEvent) => void): void;
}

interface Client {
  postMessage(message: AskMessage, transfer: Transferable[]): void;
}

interface CommandEvent {
  readonly data: Command | null;
  readonly source: { readonly id: string };
  readonly ports: readonly MessagePort[];
  waitUntil(work: Promise<unknown>): void;
}

interface FetchEvent {
  readonly request: Request;
  /** Who asks; empty where a page is opened at the address. */
  readonly clientId: string;
  respondWith(response: Promise<Response>): void;
}

const DEFAULT_BASE = "/v1";

/**
 * How long an answer's head is waited for, in milliseconds. A browser says that a request was aborted only by giving up
 * the body of its answer, and a model's answer may take minutes to begin: later than this, the body is opened ahead of
 * the head, as that of an answer that succeeds.
 */
const HEAD_PATIENCE_MS = 500;

const scope = self as unknown as ServiceWorkerScope;
const base = new URL(scope.location.href).searchParams.get("base") ?? DEFAULT_BASE;

scope.addEventListener("message", (event) => {
  switch (event.data?.type) {
    case "pesi:skip-waiting":
      event.waitUntil(scope.skipWaiting());
      break;
    case "pesi:claim":
      event.waitUntil(scope.clients.claim());
      break;
    case "pesi:identify":
      event.ports[0]?.postMessage(event.source.id);
      break;
  }
});

scope.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const [path] = API_PATH.exec(pathname) ?? [];
  if (origin === scope.location.origin && path !== undefined && pathname === base + path) {
    event.respondWith(answer(event));
  }
});

async function answer(event: FetchEvent): Promise<Response> {
  const { request } = event;
  const page = await findPage(event.clientId);
  if (page === undefined) return noModel("No open page of this site holds a model");
  const { method, url } = request;
  const body = method === "GET" || method === "HEAD" ? null : await request.arrayBuffer();
  // Without `waitUntil`: Chromium stops a service worker in the middle of an event that takes five minutes, and keeps one
  // whose event is over for as long as the body of its answer is read.
  const relay = new Relay(asksForStream(body));
  return relay.ask(page.client, { type: "pesi:ask", lock: page.lock, method, url, body });
}

/** A page that holds a model: the one that asks, where it does. */
async function findPage(asking: string): Promise<{ readonly client: Client; readonly lock: string } | undefined> {
  const { held = [] } = await navigator.locks.query();
  const serving = held.flatMap(({ name = "" }) => {
    const clientId = clientOfLock(name);
    return clientId === undefined ? [] : [{ lock: name, clientId }];
  });
  const own = serving.filter(({ clientId }) => clientId === asking);
  for (const { lock, clientId } of [...own, ...serving]) {
    const client = await scope.clients.get(clientId);
    if (client !== undefined) return { client, lock };
  }
  return undefined;
}

function noModel(message: string): Response {
  const error: ErrorObject = { message, type: "server_error", param: null, code: "model_not_loaded" };
  return failure({ status: 503, error });
}

function asksForStream(body: ArrayBuffer | null): boolean {
  try {
    return (JSON.parse(new TextDecoder().decode(body ?? new ArrayBuffer())) as { stream?: unknown }).stream === true;
  } catch {
    return false;
  }
}

/** One request on its way through a page. */
class Relay {
  readonly #isStream: boolean;
  readonly #ended = new AbortController();
  #port: MessagePort | undefined;
  #body: ReadableStreamDefaultController<Uint8Array> | undefined;
  /** Whether the answer is an error that came after its body was opened as that of a stream of events. */
  #isLateError = false;

  constructor(isStream: boolean) {
    this.#isStream = isStream;
  }

  /** Resolves with the head of the answer, whose body follows as it is read. */
  ask(client: Client, message: AskMessage): Promise<Response> {
    return new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      this.#port = port1;
      port1.onmessage = ({ data }: MessageEvent<FromPage>) => this.#receive(data, resolve);
      client.postMessage(message, message.body === null ? [port2] : [port2, message.body]);

      const { signal } = this.#ended;
      const onGone = (): void => {
        const message = "The page that held the model has been closed";
        resolve(noModel(message));
        this.#fail(message);
      };
      // Refused once the answer is over.
      navigator.locks.request(message.lock, { mode: "shared", signal }, onGone).catch(() => {});
      const patience = setTimeout(() => {
        if (this.#body !== undefined) return;
        const type = this.#isStream ? "text/event-stream; charset=utf-8" : "application/json";
        resolve(new Response(this.#open(), { headers: { "content-type": type } }));
      }, HEAD_PATIENCE_MS);
      signal.addEventListener("abort", () => clearTimeout(patience));
    });
  }

  #receive(message: FromPage, resolve: (response: Response) => void): void {
    switch (message.type) {
      case "head":
        if (this.#body === undefined) resolve(new Response(this.#open(), headOf(message)));
        else if (message.status >= 400) this.#onLateError();
        break;
      case "chunk":
        this.#body?.enqueue(message.bytes);
        break;
      case "end":
        if (this.#isLateError) this.#write("\n\n");
        this.#body?.close();
        this.#end();
        break;
      case "failed":
        resolve(Response.error());
        this.#fail(message.message);
        break;
    }
  }

  #onLateError(): void {
    if (this.#isStream) {
      // As streams say it whose answers fail once they have begun.
      this.#isLateError = true;
      this.#write("data: ");
    } else {
      this.#cancel("The answer failed");
    }
  }

  #open(): ReadableStream<Uint8Array> {
    return new ReadableStream(
      {
        start: (controller) => {
          this.#body = controller;
        },
        pull: () => this.#post({ type: "pull" }),
        cancel: () => this.#cancel("The request was cancelled"),
      },
      // Nothing is fetched from the page that nobody reads.
      { highWaterMark: 0 },
    );
  }

  #write(text: string): void {
    this.#body?.enqueue(new TextEncoder().encode(text));
  }

  #cancel(message: string): void {
    this.#post({ type: "cancel" });
    this.#fail(message);
  }

  #fail(message: string): void {
    if (this.#ended.signal.aborted) return;
    this.#body?.error(new TypeError(message));
    this.#end();
  }

  #end(): void {
    this.#port?.close();
    this.#ended.abort();
  }

  #post(message: ToPage): void {
    this.#port?.postMessage(message);
  }
}

function headOf({ status, headers }: FromPage & { type: "head" }): ResponseInit {
  return { status, headers: headers.map(([name, value]): [string, string] => [name, value]) };
}
