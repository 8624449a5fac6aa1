/**
 * Checks of what callers pass in, done before anything is posted to the worker. Each throws a
 * {@link PesiError} that names the parameter, what was expected and what was found.
 */

import { PesiError, type PesiErrorKind } from "./errors.js";
import type {
  EngineForecastOptions,
  EngineGenerateOptions,
  EngineLoadOptions,
  GenerateInput,
  StoredPlace,
} from "./protocol.js";
import type { GenerateParams, LoadOptions, VerifyOptions } from "./types.js";

/** An object of unchecked values. */
export type Untrusted = Readonly<Record<string, unknown>>;

/** The bounds of a number, both included unless `above` replaces `min` or `below` replaces `max`. */
export interface Range {
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
  readonly below?: number;
  readonly whole?: boolean;
}

const MAX_U32 = 2 ** 32 - 1;

/** The error of a parameter that cannot be used. */
export function badArgument(parameter: string, expected: string, value: unknown): PesiError {
  return refuse("invalid_argument", parameter, expected, value);
}

function refuse(kind: PesiErrorKind, parameter: string, expected: string, value: unknown): PesiError {
  const found = describe(value);
  return new PesiError(kind, `${parameter} must be ${expected}, but was ${found}`, { parameter, expected, found });
}

/** A value in a few words: `"text"`, `-1`, `null`, `an array of 3`, `an object`. */
function describe(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
    case "object":
      if (value === null) return "null";
      return Array.isArray(value) ? `an array of ${value.length}` : "an object";
    case "function":
      return "a function";
    default:
      return String(value);
  }
}

/** An object that is neither null nor an array; `undefined` counts as empty where `optional`. */
export function object(value: unknown, parameter: string, optional = false): Untrusted {
  if (value === undefined && optional) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badArgument(parameter, "an object", value);
  }
  return value as Untrusted;
}

/** Refuses properties that nobody would read: usually a misspelt name. */
export function onlyKnown(value: Untrusted, parameter: string, known: ReadonlySet<string>): void {
  for (const name of Object.keys(value)) {
    if (known.has(name) || value[name] === undefined) continue;
    throw new PesiError("invalid_argument", `${parameter} has no setting called ${JSON.stringify(name)}`, {
      parameter: name,
      expected: [...known].join(", "),
      found: describe(value[name]),
    });
  }
}

/** A finite number within `range`, or `undefined`. */
export function number(value: unknown, parameter: string, range: Range): number | undefined {
  if (value === undefined) return undefined;
  const { min, above, max, below, whole } = range;
  const fits =
    typeof value === "number" &&
    Number.isFinite(value) &&
    (!whole || Number.isSafeInteger(value)) &&
    (min === undefined || value >= min) &&
    (above === undefined || value > above) &&
    (max === undefined || value <= max) &&
    (below === undefined || value < below);
  if (fits) return value;
  const from = above === undefined ? (min === undefined ? "" : ` from ${min}`) : ` above ${above}`;
  throw badArgument(parameter, `a ${whole ? "whole " : ""}number${from}${upTo(range, from !== "")}`, value);
}

/** The upper bound in words, after the lower one where there is one. */
function upTo({ max, below }: Range, hasStart: boolean): string {
  const to = hasStart ? " to" : " up to";
  if (below !== undefined) return hasStart ? `${to} below ${below}` : ` below ${below}`;
  return max === undefined || max === Number.MAX_SAFE_INTEGER ? "" : `${to} ${max}`;
}

/** A boolean, or `undefined`. */
export function boolean(value: unknown, parameter: string): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  throw badArgument(parameter, "true or false", value);
}

/** A text. */
export function text(value: unknown, parameter: string): string {
  if (typeof value === "string") return value;
  throw badArgument(parameter, "a string", value);
}

/** One of some texts, or `undefined`. */
export function oneOf<T extends string>(value: unknown, parameter: string, choices: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const choice = choices.find((candidate) => candidate === value);
  if (choice !== undefined) return choice;
  throw badArgument(parameter, `one of ${choices.map((candidate) => JSON.stringify(candidate)).join(", ")}`, value);
}

/** An `AbortSignal`, of this realm or another, or `undefined`. */
export function abortSignal(value: unknown, parameter: string): AbortSignal | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "object" && value !== null) {
    const { aborted, addEventListener } = value as Partial<AbortSignal>;
    if (typeof aborted === "boolean" && typeof addEventListener === "function") return value as AbortSignal;
  }
  throw badArgument(parameter, "an AbortSignal", value);
}

/** Token ids, from an array or typed array of whole numbers below `vocabularySize`; always a copy. */
export function tokenIds(value: unknown, parameter: string, vocabularySize: number, allowEmpty = false): Uint32Array {
  const length = typeof value === "object" && value !== null ? (value as ArrayLike<unknown>).length : undefined;
  if (typeof length !== "number" || !Number.isSafeInteger(length) || length < 0 || length > MAX_U32) {
    throw badArgument(parameter, "an array of token ids", value);
  }
  if (length === 0 && !allowEmpty) throw badArgument(parameter, "at least one token id", value);
  const items = value as ArrayLike<unknown>;
  const ids = new Uint32Array(length);
  for (let index = 0; index < length; index += 1) {
    const id = items[index];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= vocabularySize) {
      throw badArgument(`${parameter}[${index}]`, `a token id from 0 to ${vocabularySize - 1}`, id);
    }
    ids[index] = id;
  }
  return ids;
}

/** Stop texts as a list, or `undefined` where there are none. */
export function stopTexts(value: unknown, parameter: string): readonly string[] | undefined {
  if (value === undefined) return undefined;
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  const stops = list.map((stop, index) => {
    const name = Array.isArray(value) ? `${parameter}[${index}]` : parameter;
    if (typeof stop === "string" && stop !== "") return stop;
    throw badArgument(name, Array.isArray(value) ? "a text that is not empty" : "a text or a list of texts", stop);
  });
  return stops.length === 0 ? undefined : stops;
}

/** A function to be told of progress, or `undefined`. */
function progressListener(value: unknown): LoadOptions["onProgress"] {
  if (value === undefined || typeof value === "function") return value as LoadOptions["onProgress"];
  throw badArgument("onProgress", "a function", value);
}

const PRECISIONS = ["compact", "exact"] as const;
const KV_CACHES = ["full", "int8"] as const;
const FORECAST_OPTIONS = new Set(["device", "precision", "kvCache", "contextLength", "signal"]);
const LOAD_OPTIONS = new Set([...FORECAST_OPTIONS, "cache", "onProgress"]);

/** The settings of `load`, checked and with their defaults. */
export function loadOptions(value: unknown): {
  device: "auto" | "webgpu" | "cpu";
  options: EngineLoadOptions;
  onProgress: LoadOptions["onProgress"];
  signal: AbortSignal | undefined;
} {
  const given = object(value, "options", true);
  onlyKnown(given, "options", LOAD_OPTIONS);
  const { device, options, signal } = placement(given);
  return {
    device,
    options: { ...options, cache: boolean(given.cache, "cache") ?? true },
    onProgress: progressListener(given.onProgress),
    signal,
  };
}

/** The settings of `forecast`, checked and with their defaults. */
export function forecastOptions(value: unknown): {
  device: "auto" | "webgpu" | "cpu";
  options: EngineForecastOptions;
  signal: AbortSignal | undefined;
} {
  const given = object(value, "options", true);
  onlyKnown(given, "options", FORECAST_OPTIONS);
  return placement(given);
}

/** What decides how a model lies in memory. */
function placement(given: Untrusted): ReturnType<typeof forecastOptions> {
  const contextLength = number(given.contextLength, "contextLength", { min: 1, max: MAX_U32, whole: true });
  return {
    device: oneOf(given.device, "device", ["auto", "webgpu", "cpu"]) ?? "auto",
    options: {
      precision: oneOf(given.precision, "precision", PRECISIONS) ?? "compact",
      kvCache: oneOf(given.kvCache, "kvCache", KV_CACHES) ?? "full",
      ...(contextLength === undefined ? {} : { contextLength }),
    },
    signal: abortSignal(given.signal, "signal"),
  };
}

const LIST_OPTIONS = new Set(["incomplete"]);
const REMOVE_OPTIONS = new Set(["precision"]);
const VERIFY_OPTIONS = new Set(["precision", "repair", "onProgress", "signal"]);

/** The settings of `models.list`, checked and with their defaults. */
export function listOptions(value: unknown): { incomplete: boolean } {
  const given = object(value, "options", true);
  onlyKnown(given, "options", LIST_OPTIONS);
  return { incomplete: boolean(given.incomplete, "incomplete") ?? false };
}

/** Which stored model `models.remove` is to remove. */
export function removeParams(id: unknown, value: unknown): StoredPlace {
  const given = object(value, "options", true);
  onlyKnown(given, "options", REMOVE_OPTIONS);
  return storedPlace(id, given);
}

/** Which stored model `models.verify` is to verify, and how. */
export function verifyParams(
  id: unknown,
  value: unknown,
): {
  params: StoredPlace & { repair: boolean };
  onProgress: VerifyOptions["onProgress"];
  signal: AbortSignal | undefined;
} {
  const given = object(value, "options", true);
  onlyKnown(given, "options", VERIFY_OPTIONS);
  return {
    params: { ...storedPlace(id, given), repair: boolean(given.repair, "repair") ?? true },
    onProgress: progressListener(given.onProgress),
    signal: abortSignal(given.signal, "signal"),
  };
}

function storedPlace(id: unknown, given: Untrusted): StoredPlace {
  if (typeof id !== "string" || id === "") throw badArgument("id", "the id of a stored model", id);
  const precision = oneOf(given.precision, "precision", PRECISIONS);
  return { id, ...(precision === undefined ? {} : { precision }) };
}

/** The bounds of each sampling setting, by its name in {@link GenerateParams}. */
export const SAMPLING: Readonly<Record<string, Range>> = {
  maxTokens: { min: 1, max: MAX_U32, whole: true },
  temperature: { min: 0 },
  topP: { above: 0, max: 1 },
  topK: { min: 0, max: MAX_U32, whole: true },
  minP: { min: 0, below: 1 },
  repetitionPenalty: { above: 0 },
  frequencyPenalty: { min: -2, max: 2 },
  presencePenalty: { min: -2, max: 2 },
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
};

const SWITCHES = ["logprobs", "ignoreEos", "reusePrefix"];
const GENERATE_PARAMS = new Set([...Object.keys(SAMPLING), ...SWITCHES, "prompt", "tokens", "stop", "signal"]);

/** The parameters of `generate`, checked: what to continue, and the settings that were given. */
export function generateParams(
  value: unknown,
  vocabularySize: number,
): { input: GenerateInput; options: EngineGenerateOptions; signal: AbortSignal | undefined } {
  const given = object(value, "options");
  onlyKnown(given, "options", GENERATE_PARAMS);
  const options: Record<string, unknown> = {};
  for (const [name, range] of Object.entries(SAMPLING)) options[name] = number(given[name], name, range);
  for (const name of SWITCHES) options[name] = boolean(given[name], name);
  options.stop = stopTexts(given.stop, "stop");
  return {
    input: generateInput(given, vocabularySize),
    options: defined(options),
    signal: abortSignal(given.signal, "signal"),
  };
}

function generateInput(given: Untrusted, vocabularySize: number): GenerateInput {
  if (given.prompt !== undefined && given.tokens !== undefined) {
    throw badArgument("tokens", "left out where there is a prompt", given.tokens);
  }
  if (given.tokens !== undefined) {
    return { kind: "tokens", tokens: tokenIds(given.tokens, "tokens", vocabularySize) };
  }
  return { kind: "prompt", prompt: text(given.prompt, "prompt") };
}

/** `value` without the properties that are `undefined`. */
export function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
