/**
 * `pesi/service-worker`: OpenAI's paths as addresses of the page's own origin, answered by its model. Code that is
 * given a base URL and no `fetch` works with them, as do `fetch` itself and other pages of the site.
 *
 * ```ts
 * import { serve } from "pesi/service-worker";
 *
 * await serve(model, { script: "/pesi-service-worker.js" });
 * const response = await fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ messages }) });
 * ```
 *
 * The script is a copy of the package's `dist/service-worker/script.js` on the page's origin. A browser lets it act for
 * pages in its own folder and below, hence it usually stands at the top; a service worker that a site has already can
 * take it in, with `importScripts` or by importing `pesi/service-worker/script`.
 */

import { PesiError } from "../errors.js";
import { randomId } from "../ids.js";
import type { Model } from "../model.js";
import * as validate from "../validate.js";
import { type AskMessage, type Command, type FromPage, lockName, type ToPage } from "./messages.js";

/** What answers: a model, or whatever has a `fetch` that answers OpenAI's paths, such as a router. */
export type ServedModel = Pick<Model, "fetch">;

/** How a model is served. */
export interface ServeOptions {
  /** The address of the service worker's script on the page's origin. */
  script: string | URL;
  /** What OpenAI's paths come after: begins with a slash and does not end with one. Default: `/v1`. */
  base?: string;
  /** The part of the site whose pages are answered. Default: the script's folder. */
  scope?: string;
}

/** A model that is served. */
export interface Service {
  /** The address of the base, for clients that take one: `new OpenAI({ baseURL: service.baseURL, … })`. */
  readonly baseURL: string;
  /**
   * Stops answering, and cancels the answers under way. The service worker stays, and answers with status 503 and the
   * code `model_not_loaded` while no page holds a model. The model is not disposed of.
   */
  close(): Promise<void>;
}

const DEFAULT_BASE = "/v1";
const BASE = /^(\/[\w.~-]+)+$/;
const OPTIONS: ReadonlySet<string> = new Set(["script", "base", "scope"]);

/**
 * Registers the service worker, waits until it is in charge of this page, and answers its requests from `model` until
 * the page or the service is closed.
 *
 * @throws {PesiError} of kind `invalid_argument` where an option cannot be used, this page is not in the scope or
 *   another service worker is in charge of it; `unsupported` where the browser has no service workers here, as in pages that
 *   did not come by https; `network` where the script cannot be fetched or started
 */
export async function serve(model: ServedModel, options: ServeOptions): Promise<Service> {
  const { script, base, scope } = checked(model, options);
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (workers === undefined) throw new PesiError("unsupported", "There are no service workers in this page");
  const worker = await takeCharge(workers, script, scope);

  const closing = new AbortController();
  const lock = lockName(await identify(worker), randomId(""));
  const onMessage = ({ data, ports: [port] }: MessageEvent<AskMessage | null>): void => {
    if (data?.type !== "pesi:ask" || data.lock !== lock || port === undefined) return;
    answer(model, data, port, closing.signal);
  };
  workers.addEventListener("message", onMessage);
  workers.startMessages();
  const { over } = await hold(lock, closing.signal);
  return {
    baseURL: new URL(base, location.href).href,
    close: async () => {
      workers.removeEventListener("message", onMessage);
      closing.abort();
      await over;
    },
  };
}

function checked(model: unknown, options: unknown): { script: URL; base: string; scope: string | undefined } {
  if (typeof (model as ServedModel | null)?.fetch !== "function") {
    throw validate.badArgument("model", "a model or an object with a fetch function", model);
  }
  const given = validate.object(options, "options");
  validate.onlyKnown(given, "options", OPTIONS);
  const address = given.script instanceof URL ? given.script.href : validate.text(given.script, "script");
  const base = given.base === undefined ? DEFAULT_BASE : validate.text(given.base, "base");
  if (!BASE.test(base)) throw validate.badArgument("base", "a path such as /v1", base);
  const scope = given.scope === undefined ? undefined : validate.text(given.scope, "scope");
  const script = new URL(address, location.href);
  if (script.origin !== location.origin) throw validate.badArgument("script", "on the page's origin", script.href);
  if (base !== DEFAULT_BASE) script.searchParams.set("base", base);
  return { script, base, scope };
}

/** Makes the script the service worker that this page's requests go to. */
async function takeCharge(
  workers: ServiceWorkerContainer,
  script: URL,
  scope: string | undefined,
): Promise<ServiceWorker> {
  const registration = await workers.register(script, scope === undefined ? {} : { scope }).catch((error: unknown) => {
    const { name, message } = error as Error;
    // Of a scope that the script may not have; all else is about fetching and running it.
    throw new PesiError(name === "SecurityError" ? "invalid_argument" : "network", message, { script: script.href });
  });
  const inCharge = await workers.getRegistration();
  if (inCharge?.scope !== registration.scope) {
    const details = { scope: registration.scope, page: location.href, found: inCharge?.scope ?? "none" };
    throw new PesiError("invalid_argument", "Another service worker, or none, has this page in its scope", details);
  }
  const { installing, waiting, active } = registration;
  const worker = [installing, waiting, active].find((each) => each?.scriptURL === script.href);
  if (!worker) throw new PesiError("network", "The service worker was replaced", { script: script.href });
  while (worker.state !== "activated") {
    if (worker.state === "redundant") {
      throw new PesiError("network", "The service worker could not be started", { script: script.href });
    }
    if (worker.state === "installed") send(worker, { type: "pesi:skip-waiting" });
    await happening(worker, "statechange");
  }
  while (workers.controller !== worker) {
    send(worker, { type: "pesi:claim" });
    await happening(workers, "controllerchange");
  }
  return worker;
}

/** The id by which the service worker knows this page. */
async function identify(worker: ServiceWorker): Promise<string> {
  const { port1, port2 } = new MessageChannel();
  const told = new Promise<string>((resolve) => {
    port1.onmessage = ({ data }: MessageEvent<string>) => resolve(data);
  });
  send(worker, { type: "pesi:identify" }, port2);
  return told.finally(() => port1.close());
}

function send(worker: ServiceWorker, command: Command, ...ports: MessagePort[]): void {
  worker.postMessage(command, ports);
}

function happening(target: EventTarget, type: string): Promise<unknown> {
  return new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
}

/** Resolves once the lock is held, with the promise of its end, which comes with `closing`. */
function hold(lock: string, closing: AbortSignal): Promise<{ readonly over: Promise<unknown> }> {
  return new Promise((resolve, reject) => {
    const over = navigator.locks.request(lock, () => {
      resolve({ over });
      return happening(closing, "abort");
    });
    over.catch(reject);
  });
}

/** Answers one request through its port, piece by piece as the pieces are asked for. */
function answer(model: ServedModel, { method, url, body }: AskMessage, port: MessagePort, closing: AbortSignal): void {
  const cancelling = new AbortController();
  const signal = AbortSignal.any([cancelling.signal, closing]);
  const post = (message: FromPage): void => port.postMessage(message);
  const fail = (error: unknown): void => post({ type: "failed", message: String(error) });
  const begin = async (): Promise<ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined> => {
    const response = await model.fetch(url, { method, body, signal });
    post({ type: "head", status: response.status, headers: [...response.headers] });
    return response.body?.getReader();
  };
  const begun = begin();
  const next = async (): Promise<void> => {
    const reader = await begun;
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) post({ type: "end" });
    else post({ type: "chunk", bytes: value });
  };
  port.onmessage = ({ data }: MessageEvent<ToPage>) => {
    if (data.type === "cancel") cancelling.abort();
    else next().catch(fail);
  };
  // A service worker that the browser has stopped cancels nothing.
  port.addEventListener("close", () => cancelling.abort());
  begun.catch(fail);
}
