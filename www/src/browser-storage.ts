/**
 * What a page asks the browser about its storage. Not every browser answers, and none in a worker; nothing here fails
 * or holds up what it is asked for.
 */

import { PesiError } from "./errors.js";
import { defined } from "./validate.js";

let asked = false;

/** Asks the browser, once, not to clear this site's storage when space runs low. */
export function askToPersist(): void {
  if (asked) return;
  asked = true;
  void persist();
}

async function persist(): Promise<void> {
  try {
    const { storage } = navigator;
    if (!(await storage.persisted())) await storage.persist();
  } catch {
    // A browser without it, or a page that may not: storage is then kept as long as the browser sees fit.
  }
}

/** An error of kind `quota_exceeded` with the browser's estimate among its details; any other as it is. */
export async function withEstimate(error: unknown): Promise<unknown> {
  if (!(error instanceof PesiError) || error.kind !== "quota_exceeded") return error;
  try {
    const { quota, usage } = await navigator.storage.estimate();
    return new PesiError(error.kind, error.message, { ...error.details, ...defined({ quota, usage }) });
  } catch {
    return error;
  }
}
