/**
 * A `fetch` over a model in the page and a server elsewhere: the model answers what it can, and nothing leaves the
 * device unless `allow` says so.
 */

import { apiError } from "./api-error.js";
import { absolute, API_PATH, failure } from "./fetch.js";
import type { ErrorObject } from "./openai-others.js";
import type { Model } from "./model.js";
import * as validate from "./validate.js";

/** Why a request would leave the device. */
export interface RouteReason {
  /**
   * - `asked`: its header `x-pesi-route` is `remote`;
   * - `no_model`: `local` gave none;
   * - `unsupported`: the model cannot honour something that the request asks for;
   * - `too_long`: the conversation does not fit its context;
   * - `failed`: it failed before its answer began.
   */
  readonly kind: "asked" | "no_model" | "unsupported" | "too_long" | "failed";
  /** What the model answered, where there is one. */
  readonly error?: ErrorObject;
}

/** A request that would leave the device. */
export interface RoutedRequest {
  readonly method: string;
  /** What follows the base URL, such as `/chat/completions`. */
  readonly path: string;
  /** Its body, where it has one that is JSON. */
  readonly params: unknown;
  readonly reason: RouteReason;
  readonly signal: AbortSignal;
}

/** A server that speaks OpenAI's API. */
export interface RemoteServer {
  /** The base of its paths, such as `https://api.example/v1`. */
  readonly baseURL: string;
  /** Sent as a bearer token. What the client has as its key is not sent. */
  readonly apiKey?: string;
  /** Sent beside; the client's own headers are not. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The model's name there, in the place of the one in requests. */
  readonly model?: string;
}

/** What `createRouter` takes. */
export interface RouterOptions {
  /** The model, or what gives it once there is one. */
  local?: RoutedModel | (() => RoutedModel | undefined | Promise<RoutedModel | undefined>);
  /** Where requests go that the model does not answer. */
  remote?: RemoteServer;
  /** Asked about each request that would leave the device; it does only where the answer is `true`. Default: never. */
  allow?: (request: RoutedRequest) => boolean | Promise<boolean>;
}

/** The part of a model that is routed to. */
export type RoutedModel = Pick<Model, "fetch">;

const OPTIONS: ReadonlySet<string> = new Set(["local", "remote", "allow"]);

/** In requests who is to answer, in answers who did: `local`, which errors of the router's own are too, or `remote`. */
const ROUTE_HEADER = "x-pesi-route";

/**
 * A `fetch` for clients of OpenAI's API. A request that the model cannot honour, that does not fit it or that fails
 * before its answer begins goes to `remote`, where `allow` lets it, as does one whose header `x-pesi-route` is `remote`;
 * otherwise the model's own answer stands. What is malformed is refused here, and never sent. The same header of each
 * answer says where it comes from: `local` or `remote`.
 *
 * @throws {PesiError} of kind `invalid_argument` where an option cannot be used
 */
export function createRouter(options: RouterOptions): typeof globalThis.fetch {
  const given = validate.object(options, "options");
  validate.onlyKnown(given, "options", OPTIONS);
  const { local, remote, allow } = options;
  if (remote !== undefined) validate.text((remote as RemoteServer | null)?.baseURL, "remote.baseURL");
  if (allow !== undefined && typeof allow !== "function") throw validate.badArgument("allow", "a function", allow);
  return async (input, init) => {
    const request = new Request(input instanceof Request ? input : absolute(input), init);
    const signal = init?.signal ?? (input instanceof Request ? input.signal : request.signal);
    signal.throwIfAborted();
    const { method, headers } = request;
    const body = method === "GET" ? undefined : await request.text();
    const [path] = API_PATH.exec(new URL(request.url).pathname) ?? [];
    const askRemote = async (reason: RouteReason): Promise<Response | undefined> => {
      if (path === undefined || remote === undefined) return undefined;
      const asked = { method, path, params: parsed(body), reason, signal };
      if ((await allow?.(asked)) !== true) return undefined;
      return marked(await ask(remote, asked, body), "remote");
    };

    const isAsked = headers.get(ROUTE_HEADER) === "remote";
    const asked = isAsked ? await askRemote({ kind: "asked" }) : undefined;
    if (asked !== undefined) return asked;
    const model = typeof local === "function" ? await local() : local;
    const answer = await model?.fetch(request.url, { method, body: body ?? null, signal });
    const reason: RouteReason | undefined = answer === undefined ? { kind: "no_model" } : await reasonOf(answer);
    const routed = reason === undefined || isAsked ? undefined : await askRemote(reason);
    return routed ?? marked(answer ?? unavailable(), "local");
  };
}

/** The answer with the header that says who gave it; those of `fetch` take no further headers themselves. */
function marked({ body, status, statusText, headers }: Response, route: "local" | "remote"): Response {
  const answer = new Response(body, { status, statusText, headers });
  answer.headers.set(ROUTE_HEADER, route);
  return answer;
}

/** Why the model's answer may be sought elsewhere; `undefined` where it stands. */
async function reasonOf(answer: Response): Promise<RouteReason | undefined> {
  if (answer.ok || answer.headers.get("content-type") !== "application/json") return undefined;
  const { error } = (await answer.clone().json()) as { error: ErrorObject };
  if (answer.status >= 500) return { kind: "failed", error };
  switch (error.code) {
    case "unsupported_parameter":
    case "unsupported_value":
      return { kind: "unsupported", error };
    case "context_length_exceeded":
      return { kind: "too_long", error };
    default:
      return undefined;
  }
}

function parsed(body: string | undefined): unknown {
  try {
    return JSON.parse(body ?? "") as unknown;
  } catch {
    return undefined;
  }
}

function ask(remote: RemoteServer, { method, path, params, signal }: RoutedRequest, body?: string): Promise<Response> {
  const { baseURL, apiKey, headers = {}, model } = remote;
  const isNamed = model !== undefined && typeof params === "object" && params !== null;
  return globalThis.fetch(baseURL.replace(/\/$/, "") + path, {
    method,
    signal,
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
      ...headers,
    },
    body: isNamed ? JSON.stringify({ ...params, model }) : (body ?? null),
  });
}

function unavailable(): Response {
  const message = "There is no model in the page, and no server that this may be sent to";
  return failure({ status: 503, error: { ...apiError(message).error, code: "model_not_loaded" } });
}
