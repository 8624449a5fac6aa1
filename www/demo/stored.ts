/** Which models browser storage holds, whole and in part, as far as the page has asked. */

import { models, type StoredModel } from "../pesi.js";
import { lastPart } from "./address.js";

let known: readonly StoredModel[] = [];
let failure: string | undefined;
let asked = 0;
const listeners = new Set<() => void>();

/** Every model that is stored, the last one written first. */
export function all(): readonly StoredModel[] {
  return known;
}

/** Why the page does not know, where it does not. */
export function problem(): string | undefined {
  return failure;
}

/** The model with this id, as the page loads it. */
export function withId(id: string | undefined): StoredModel | undefined {
  return known.find((model) => model.id === id && model.precision === "compact");
}

/** How much of its files is here, in whole percent; 100 only when whole. */
export function percentHere({ complete, downloadedBytes, downloadBytes }: StoredModel): number {
  if (complete) return 100;
  return downloadBytes > 0 ? Math.min(99, Math.floor((downloadedBytes / downloadBytes) * 100)) : 0;
}

/** What to call a model, whether it says a name itself or not. */
export function nameOf({ name, id }: StoredModel): string {
  return name ?? lastPart(id);
}

/** Asks anew. Fails never: without an answer nothing is taken to be stored. */
export async function refresh(): Promise<void> {
  asked += 1;
  const turn = asked;
  let list: StoredModel[] = [];
  let failed: string | undefined;
  try {
    list = await models.list({ incomplete: true });
  } catch (error) {
    failed = error instanceof Error ? error.message : String(error);
  }
  // Only the last to ask knows how things stand.
  if (turn !== asked) return;
  list.sort((a, b) => b.createdAt - a.createdAt);
  const isSame = JSON.stringify(list) === JSON.stringify(known) && failed === failure;
  known = list;
  failure = failed;
  if (!isSame) for (const listener of listeners) listener();
}

/** Calls `listener` whenever what is stored has changed. */
export function onChange(listener: () => void): void {
  listeners.add(listener);
}
