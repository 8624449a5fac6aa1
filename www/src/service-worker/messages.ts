/** What the service worker and a page that holds a model say to each other. */

const LOCK = /^pesi:serving:([^:]+):/;

/**
 * The name of the lock that a page holds while it answers. By them the service worker, which forgets everything when it
 * is stopped, finds the pages; and who is granted such a lock knows that its page has gone. Browsers do not agree on
 * what a lock's own `clientId` is, hence the page's is in the name.
 */
export function lockName(clientId: string, serviceId: string): string {
  return `pesi:serving:${clientId}:${serviceId}`;
}

/** The page that holds a lock of this name; `undefined` where it is none of these locks. */
export function clientOfLock(name: string): string | undefined {
  return LOCK.exec(name)?.[1];
}

/** To the page, with a port for the answer. */
export interface AskMessage {
  readonly type: "pesi:ask";
  /** The lock of whom the message is for. */
  readonly lock: string;
  readonly method: string;
  readonly url: string;
  /** `null` where the method has none. */
  readonly body: ArrayBuffer | null;
}

/** From the page, through the port: the head, then a message for each `pull`. */
export type FromPage =
  | { readonly type: "head"; readonly status: number; readonly headers: readonly (readonly [string, string])[] }
  | { readonly type: "chunk"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: "end" }
  | { readonly type: "failed"; readonly message: string };

/** To the page, through the port. */
export type ToPage = { readonly type: "pull" } | { readonly type: "cancel" };

/**
 * To the service worker: to take the place of its predecessor, to take charge of pages that it has not loaded, and to
 * tell a page through the port which client it is.
 */
export interface Command {
  readonly type: "pesi:skip-waiting" | "pesi:claim" | "pesi:identify";
}
