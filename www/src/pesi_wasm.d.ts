/**
 * The WebAssembly module's bindings as the worker uses them. The module itself is built from `src/wasm/`
 * into dist/pesi_wasm.js and dist/pesi_wasm_bg.wasm.
 *
 * Everything that fails throws an object with `name: "PesiError"`, `kind`, `message` and `details`.
 */

import type { Board } from "./board.js";
import type { Target } from "./device.js";
import type { GenerationResult, MemoryInUse, Progress, StoredModel, Verification } from "./types.js";
import type {
  AnswerToken,
  EngineChatOptions,
  EngineForecast,
  EngineForecastOptions,
  EngineGenerateOptions,
  EngineLoadOptions,
  EngineMessage,
  EngineModelInfo,
  EngineSource,
  StoredPlace,
} from "./protocol.js";

/** Starts the module; by default it is fetched from pesi_wasm_bg.wasm beside the bindings. */
export default function init(options?: { module_or_path: WebAssembly.Module }): Promise<unknown>;

/** The models in browser storage; with `incomplete` also those that are there in part. */
export function listModels(options: { incomplete: boolean }): Promise<StoredModel[]>;

/** Removes a model from browser storage; nothing, where it is not there. Fails while somebody loads it. */
export function removeModel(options: StoredPlace): Promise<{ removedBytes: number }>;

/** Compares a stored model with the digests kept with it; fetches what is damaged where `repair` says so. */
export function verifyModel(
  options: StoredPlace & { repair: boolean; signal: AbortSignal; onProgress: (progress: Progress) => void },
): Promise<Verification>;

/** What a model would take, from the beginnings of its files; makes no request for a model that is stored whole. */
export function forecast(
  source: EngineSource,
  options: EngineForecastOptions & Target & { signal: AbortSignal },
): Promise<EngineForecast>;

/** A model in memory. One call that returns a promise may run at a time. */
export class Model {
  private constructor();
  static load(
    source: EngineSource,
    options: EngineLoadOptions & Target & { signal: AbortSignal; onProgress: (progress: Progress) => void },
  ): Promise<Model>;
  info(): EngineModelInfo;
  encode(text: string): Uint32Array<ArrayBuffer>;
  /** The token ids of a text to continue: as `encode`, after the token that begins a text where the model wants one. */
  encodePrompt(text: string): Uint32Array<ArrayBuffer>;
  decode(ids: Uint32Array): string;
  /** The token ids of `messages` in the model's chat format, up to where its answer begins. */
  renderChat(messages: readonly EngineMessage[], options: EngineChatOptions): Uint32Array<ArrayBuffer>;
  /** Logits at every position, `[n_tokens, n_vocab]`. */
  logits(tokens: Uint32Array, signal: AbortSignal): Promise<Float32Array<ArrayBuffer>>;
  /** The residual stream ahead of the first layer and after each, `[n_layers + 1, n_tokens, hidden_size]`. */
  hiddenStates(tokens: Uint32Array, signal: AbortSignal): Promise<Float32Array<ArrayBuffer>>;
  /**
   * What answers `tokens`. `chat`: the answer is one to `renderChat`'s tokens, and is read as the model's chat format has
   * it. `tools`: those that `renderChat` was given; calls are looked for where there are any.
   */
  begin(options: EngineGenerateOptions & { tokens: Uint32Array; chat: boolean }): Generation;
  /** Whether `begin` would hold the answer to a grammar, which it needs the module of grammars for. */
  isGuided(options: EngineGenerateOptions & { tokens: Uint32Array; chat: boolean }): boolean;
  /** Of WebAssembly's memory the engine's own module's. */
  memoryInUse(): MemoryInUse;
  dispose(): Promise<{ freedBytes: number }>;
}

/** A thread's share of a model. */
export class Follower {
  /** Allocates what `program`, which the engine gave to a team, needs. */
  constructor(program: unknown, contextLength: number, board: Board);
  /** Carries out an order that the engine gave to a team. Waits for other threads. */
  obey(words: Uint32Array, bytes: Uint8Array): void;
}

/** An answer under way. */
export class Generation {
  private constructor();
  /**
   * Goes on with it. Where `isAwaited` says that others wait, it gives way after a while, and gives `undefined`: run it
   * again for the rest.
   */
  run(
    signal: AbortSignal,
    isAwaited: () => boolean,
    onTokens: (batch: AnswerToken[]) => void,
  ): Promise<GenerationResult | undefined>;
  /** Frees what it holds; it is not to be used any more. */
  free(): void;
}
