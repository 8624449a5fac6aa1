/** Workers, each started with a request: one that loads a model and stays, or one that is over with the answer. */

import { Connection } from "./connection.js";
import { abortedError, PesiError } from "./errors.js";
import type { Method, Methods } from "./protocol.js";

/** How long a cancelled request may take to close its files before its worker is ended, in milliseconds. */
const CANCEL_DEADLINE_MS = 2_000;

interface Options<M extends Method> {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: Methods[M]["event"]) => void) | undefined;
}

/**
 * Starts a worker with a request, and ends it where the request fails.
 *
 * @throws {PesiError} with which the request failed; of kind `aborted` where `signal` was
 */
export async function launch<M extends Method>(
  method: M,
  params: Methods[M]["params"],
  { signal, onEvent }: Options<M> = {},
): Promise<{ readonly connection: Connection; readonly value: Methods[M]["result"] }> {
  if (signal?.aborted) throw abortedError(signal);
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "pesi-worker" });
  const connection = new Connection(worker);
  const call = connection.call(
    method,
    params,
    onEvent === undefined ? {} : { onEvent: (event) => void (signal?.aborted || onEvent(event)) },
  );

  // The worker is given a moment to close its files, so that the next one does not find them locked.
  let deadline: ReturnType<typeof setTimeout> | undefined;
  const onAbort = (): void => {
    call.cancel();
    deadline = setTimeout(() => connection.close(abortedError(signal)), CANCEL_DEADLINE_MS);
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const value = await call.result;
    if (signal?.aborted) throw abortedError(signal);
    return { connection, value };
  } catch (error) {
    const reason = signal?.aborted ? abortedError(signal) : error;
    connection.close(reason instanceof PesiError ? reason : new PesiError("internal", String(reason)));
    throw reason;
  } finally {
    clearTimeout(deadline);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** The answer of a worker that is started for one request and ended after it; fails as {@link launch} does. */
export async function ask<M extends Method>(
  method: M,
  params: Methods[M]["params"],
  options?: Options<M>,
): Promise<Methods[M]["result"]> {
  const { connection, value } = await launch(method, params, options);
  connection.close(new PesiError("disposed", "The worker has answered"));
  return value;
}
