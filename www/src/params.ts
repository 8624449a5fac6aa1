/** What the parameters of OpenAI's APIs share: checks, and the engine's terms for them. */

import { PesiError } from "./errors.js";
import type { EngineChatOptions, EngineGenerateOptions } from "./protocol.js";
import * as validate from "./validate.js";
import { SAMPLING, type Range, type Untrusted } from "./validate.js";

/** OpenAI's names of numeric settings: the engine's name, and the bounds where OpenAI's are narrower. */
export type NumberNames = Readonly<
  Record<string, { readonly engine: keyof EngineGenerateOptions; readonly range?: Range }>
>;

/** The settings of sampling that every API has. */
export const SAMPLING_NAMES: NumberNames = {
  temperature: { engine: "temperature", range: { min: 0, max: 2 } },
  top_p: { engine: "topP" },
  top_k: { engine: "topK" },
  min_p: { engine: "minP" },
  repetition_penalty: { engine: "repetitionPenalty" },
};

/** Those of both APIs of completions. */
export const COMPLETION_NAMES: NumberNames = {
  ...SAMPLING_NAMES,
  frequency_penalty: { engine: "frequencyPenalty" },
  presence_penalty: { engine: "presencePenalty" },
  seed: { engine: "seed" },
};

/** Values of a parameter that can be honoured, and how to tell them. */
export type OnlyValues = Readonly<Record<string, { readonly value: string; readonly is: (given: unknown) => boolean }>>;

/** A single value that can be honoured. */
export function only(value: string | number | boolean): OnlyValues[string] {
  return { value: JSON.stringify(value), is: (given) => given === value };
}

/** The tier that all of it runs in here. */
export const SERVICE_TIER: OnlyValues[string] = {
  value: '"auto" or "default"',
  is: (given) => given === "auto" || given === "default",
};

/** Parameters that bear on no answer: they are checked to be texts. */
export const NOTES = ["model", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

const MAX_STOPS = 4;
const MAX_CHOICES = 128;
const MAX_BIAS = 100;
const MAX_METADATA = 16;

/**
 * A request's parameters without those that are left out, every one of them known.
 *
 * @throws {PesiError} of kind `unsupported` for the first that cannot be honoured
 */
export function known(value: unknown, names: Iterable<string>, onlyValues: OnlyValues): Untrusted {
  const given = withoutNulls(validate.object(value, "parameters"));
  const all = new Set([...names, ...Object.keys(onlyValues), ...NOTES, "metadata"]);
  for (const name of Object.keys(given)) if (!all.has(name)) throw unsupported(name);
  for (const [name, { value: expected, is }] of Object.entries(onlyValues)) {
    if (given[name] !== undefined && !is(given[name])) throw unsupported(name, expected);
  }
  for (const name of NOTES) if (given[name] !== undefined) validate.text(given[name], name);
  metadata(given.metadata);
  return given;
}

/** Notes on a request for whoever made it. */
export function metadata(value: unknown): Readonly<Record<string, string>> {
  const given = validate.object(value, "metadata", true);
  const entries = Object.entries(given);
  if (entries.length > MAX_METADATA) throw validate.badArgument("metadata", `at most ${MAX_METADATA} texts`, value);
  return Object.fromEntries(entries.map(([name, text]) => [name, validate.text(text, `metadata.${name}`)]));
}

/** The numeric settings in the engine's terms. */
export function numbers(given: Untrusted, names: NumberNames): EngineGenerateOptions {
  // OpenAI's default, stated so that it does not hang on the engine's.
  const engine: Record<string, unknown> = { temperature: 1 };
  for (const [name, { engine: engineName, range }] of Object.entries(names)) {
    const number = validate.number(given[name], name, range ?? SAMPLING[engineName] ?? {});
    if (number !== undefined) engine[engineName] = number;
  }
  return engine;
}

/** The texts that end an answer. */
export function stops(value: unknown): readonly string[] | undefined {
  const stop = validate.stopTexts(value, "stop");
  if (stop !== undefined && stop.length > MAX_STOPS) {
    throw validate.badArgument("stop", `at most ${MAX_STOPS} texts`, stop);
  }
  return stop;
}

/** How many answers there are to be. */
export function choices(value: unknown): number {
  return validate.number(value, "n", { min: 1, max: MAX_CHOICES, whole: true }) ?? 1;
}

/** Settings for the choice of that number: a seed would otherwise make all of them the same. */
export function optionsOfChoice(options: EngineGenerateOptions, index: number): EngineGenerateOptions {
  const { seed } = options;
  return index === 0 || seed === undefined ? options : { ...options, seed: (seed + index) % Number.MAX_SAFE_INTEGER };
}

/** Biases by token ids, which are the names in an object. */
export function logitBias(value: unknown, vocabularySize: number): EngineGenerateOptions["logitBias"] {
  if (value === undefined) return undefined;
  const biases = Object.entries(validate.object(value, "logit_bias")).map(([name, bias]) => {
    const id = /^\d+$/.test(name) ? Number(name) : NaN;
    if (!(id < vocabularySize)) throw validate.badArgument("logit_bias", `token ids below ${vocabularySize}`, name);
    const number = validate.number(bias, `logit_bias.${name}`, { min: -MAX_BIAS, max: MAX_BIAS });
    return [id, number ?? 0] as const;
  });
  return biases.length === 0 ? undefined : biases;
}

const EFFORTS = ["low", "medium", "high"] as const;

/** OpenAI's other efforts, which the models here have no words for. */
const OTHER_EFFORTS: readonly unknown[] = ["none", "minimal", "xhigh", "max"];

/** How much a model that reasons is to do so. */
export function reasoningEffort(value: unknown, parameter: string): EngineChatOptions["reasoningEffort"] {
  if (OTHER_EFFORTS.includes(value)) {
    throw unsupported(`${parameter} ${JSON.stringify(value)}`, '"low", "medium" or "high"');
  }
  return validate.oneOf(value, parameter, EFFORTS);
}

/** Whether a stream's last chunk is to tell the tokens used. */
export function includeUsage(value: unknown, stream: boolean): boolean {
  const given = streamOptions(value, stream, ["include_usage"]);
  return validate.boolean(given.include_usage, "stream_options.include_usage") ?? false;
}

/** The settings of a stream, those named and the one that pads chunks. */
export function streamOptions(value: unknown, stream: boolean, names: readonly string[]): Untrusted {
  if (value === undefined) return {};
  if (!stream) throw validate.badArgument("stream_options", "left out where stream is not true", value);
  const { include_obfuscation: obfuscation, ...others } = withoutNulls(validate.object(value, "stream_options"));
  for (const name of Object.keys(others)) if (!names.includes(name)) throw unsupported(`stream_options.${name}`);
  if (obfuscation !== undefined && obfuscation !== false) {
    throw unsupported("stream_options.include_obfuscation", "false");
  }
  return others;
}

const REQUEST_OPTIONS: ReadonlySet<string> = new Set(["signal"]);

/** The signal among a request's options. */
export function requestSignal(options: unknown): AbortSignal | undefined {
  const given = validate.object(options, "options", true);
  validate.onlyKnown(given, "options", REQUEST_OPTIONS);
  return validate.abortSignal(given.signal ?? undefined, "signal");
}

/** OpenAI's API takes `null` for "left out" everywhere. */
export function withoutNulls(value: Untrusted): Untrusted {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== null && item !== undefined));
}

/** The error of what is well-formed, and not done here. */
export function unsupported(parameter: string, expected?: string): PesiError {
  const hint = expected === undefined ? "" : `; only ${expected} is`;
  return new PesiError("unsupported", `The parameter ${parameter} is not supported${hint}`, {
    parameter,
    ...(expected === undefined ? {} : { expected }),
  });
}

/** The error of a model that no conversation can be put to. */
export function refuseWithoutChat(info: { readonly chatTemplate: boolean }): void {
  if (info.chatTemplate) return;
  throw new PesiError("unsupported", "The model has no chat format; use generate with a prompt instead");
}
