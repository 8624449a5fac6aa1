/** How answers are generated: the settings sheet, and keeping what was set for the next visit. */

import { byId } from "./dom.js";

/** How much a model reasons before it answers. */
type Effort = "low" | "medium" | "high";

/** What the sheet holds. Absent: the model's own, no limit, or nothing that the model knows. */
export interface Settings {
  readonly system: string;
  readonly temperature: number;
  readonly topP: number;
  readonly effort?: Effort;
  readonly maxTokens?: number;
  readonly seed?: number;
}

/** Sampling that suits a model. */
export interface Sampling {
  readonly temperature: number;
  readonly topP: number;
}

const KEY = "pesi.settings";
const DEFAULT: Sampling = { temperature: 0.7, topP: 0.95 };
const DEFAULT_EFFORT: Effort = "medium";

const sheet = byId("settings", HTMLDialogElement);
const system = byId("system", HTMLTextAreaElement);
const temperature = byId("temperature", HTMLInputElement);
const topP = byId("top-p", HTMLInputElement);
const effort = byId("effort", HTMLSelectElement);
const effortField = byId("effort-field", HTMLElement);
const maxTokens = byId("max-tokens", HTMLInputElement);
const seed = byId("seed", HTMLInputElement);
const fields = [system, temperature, topP, maxTokens, seed, effort];

let suggested = DEFAULT;

/** The settings as they stand. */
export function current(): Settings {
  const limit = wholeNumber(maxTokens);
  const fixedSeed = wholeNumber(seed);
  return {
    system: system.value.trim(),
    temperature: temperature.valueAsNumber,
    topP: topP.valueAsNumber,
    ...(effortField.hidden ? {} : { effort: effort.value as Effort }),
    ...(limit === undefined ? {} : { maxTokens: limit }),
    ...(fixedSeed === undefined ? {} : { seed: fixedSeed }),
  };
}

/** Takes over what suits the model at hand, unless somebody chose otherwise. */
export function suggest(sampling: Sampling | undefined): void {
  suggested = sampling ?? DEFAULT;
  if (stored() === undefined) reset();
}

/** Shows the effort where the model at hand knows of it. */
export function offerEffort(offered: boolean): void {
  effortField.hidden = !offered;
}

/** Makes the sheet work. */
export function startSettings(): void {
  byId("open-settings", HTMLButtonElement).addEventListener("click", () => sheet.showModal());
  sheet.addEventListener("click", (event) => {
    // A click on the dialog itself, outside its form, is one on the backdrop.
    if (event.target === sheet) sheet.close();
  });
  byId("reset-settings", HTMLButtonElement).addEventListener("click", () => {
    localStorageOr(undefined, (storage) => storage.removeItem(KEY));
    reset();
  });
  for (const field of fields) {
    field.addEventListener("input", () => {
      showValues();
      localStorageOr(undefined, (storage) => storage.setItem(KEY, JSON.stringify(fields.map(({ value }) => value))));
    });
  }
  reset();
  const values = stored();
  if (values !== undefined) fields.forEach((field, index) => (field.value = values[index] ?? ""));
  // A choice that is none of the list's leaves nothing chosen.
  if (effort.value === "") effort.value = DEFAULT_EFFORT;
  showValues();
}

function reset(): void {
  system.value = "";
  temperature.value = String(suggested.temperature);
  topP.value = String(suggested.topP);
  maxTokens.value = "";
  seed.value = "";
  effort.value = DEFAULT_EFFORT;
  showValues();
}

function showValues(): void {
  for (const field of [temperature, topP]) {
    const output = field.labels?.[0]?.parentElement?.querySelector("output");
    if (output) output.value = field.valueAsNumber.toFixed(2);
  }
}

function wholeNumber(field: HTMLInputElement): number | undefined {
  const value = field.valueAsNumber;
  return field.validity.valid && Number.isSafeInteger(value) ? value : undefined;
}

function stored(): string[] | undefined {
  const values: unknown = localStorageOr(null, (storage) => JSON.parse(storage.getItem(KEY) ?? "null"));
  const usable = Array.isArray(values) && values.length === fields.length && values.every((value) => typeof value === "string");
  return usable ? values : undefined;
}

/** Storage may be switched off, and what it holds may be anything. */
function localStorageOr<T>(otherwise: T, use: (storage: Storage) => T): T {
  try {
    return use(localStorage);
  } catch {
    return otherwise;
  }
}
