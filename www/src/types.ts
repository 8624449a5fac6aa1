/** The types of the public surface. Sizes are in bytes, times in milliseconds unless a name says otherwise. */

/**
 * Where a model comes from:
 *
 * - an absolute `http(s)` URL of a `.gguf` file, or a relative one (`"/models/a.gguf"`, `"./a.gguf"`); of a split set
 *   (`…-00001-of-00003.gguf`) that of its first file;
 * - a URL of a folder with `config.json` and safetensors (`"/models/gpt-oss-20b/"`); the final slash may be left out
 *   where the folder's name does not end like a file's;
 * - a repository on the Hugging Face hub with those files in it, `"owner/repo"`, or one `.gguf` file of a repository,
 *   `"owner/repo/file.gguf"`; each optionally with `"@revision"` at its end or after the repository;
 * - a `.gguf` `File` that the user chose, or all the `File`s of a split set, or of a folder with `config.json` and
 *   safetensors, in any order; files that no model is read from are passed over;
 * - the handle of a folder with such files directly in it.
 */
export type ModelSource = string | URL | File | readonly File[] | FileList | FileSystemDirectoryHandle;

/** Settings of `load`. */
export interface LoadOptions {
  /**
   * What computes. `"auto"`, the default, takes WebGPU on a real GPU, and the CPU (WebAssembly SIMD) where
   * the browser has no adapter or only a software one. `"webgpu"` takes any adapter, `"cpu"` asks for none.
   */
  device?: "auto" | "webgpu" | "cpu";
  /**
   * `"compact"`, the default, holds 16-bit dense weights as 8-bit blocks; `"exact"` keeps them as published.
   * Weights that the file stores quantized are the same in both.
   */
  precision?: "compact" | "exact";
  /**
   * What keys and values of the context are held as. `"full"`, the default: 16-bit floats on WebGPU (32-bit with
   * `precision: "exact"`), 32-bit floats on the CPU. `"int8"`: 8-bit integers with a scale for each 32, half and a quarter
   * of the memory, for long contexts; answers change a little.
   */
  kvCache?: "full" | "int8";
  /**
   * Tokens of prompt and answer together that memory is reserved for. At most the model's own limit; by default the
   * smaller of that limit and 4096.
   */
  contextLength?: number;
  /**
   * Whether to keep the packed weights in browser storage, so that the next load needs no network, and on a GPU what a
   * trial of a few seconds finds to be the fastest sizes of kernels. Default `true`.
   */
  cache?: boolean;
  /** Called as loading goes on, a few times a second. */
  onProgress?: (progress: Progress) => void;
  /** Cancels loading: `load` then rejects with a {@link PesiError} of kind `aborted`. */
  signal?: AbortSignal;
}

/** How far loading or verifying has come. */
export interface Progress {
  /**
   * `download`: reading the model's files; `load`: from browser storage to the device; `compile`: preparing to run;
   * `verify`: comparing what is stored with its digests.
   */
  phase: "download" | "load" | "compile" | "verify";
  /** The name of the file being read; during `compile` the model's identity, {@link ModelInfo.id}. */
  file: string;
  /** Bytes done of `totalBytes`. `compile` counts no bytes: it reports 0 of 1 as it begins, 1 of 1 once it is over. */
  loadedBytes: number;
  /** Bytes in all, 0 where unknown; 1 during `compile`. */
  totalBytes: number;
  /** Speed over the last moments, in bytes a second. */
  bytesPerSecond: number;
  /** Time left at that speed, in seconds. */
  etaSeconds: number;
}

/** What a loaded model is and where it runs. */
export interface ModelInfo {
  /** The model's identity: what it was loaded from. */
  id: string;
  /** The architecture's name in the model's metadata, such as `"llama"`. */
  architecture: string;
  /** The model's name, where its metadata give one. */
  name?: string;
  /** Number of weights. */
  parameters: number;
  /** Tokens of prompt and answer together that fit. */
  contextLength: number;
  /** Number of distinct tokens: the last dimension of the logits. */
  vocabularySize: number;
  /** What computes. */
  device: "webgpu" | "cpu";
  /** The device by name, such as `"Apple metal-3"` or `"CPU (WebAssembly SIMD)"`. */
  deviceName: string;
  /** Why this device, as a sentence for people. */
  deviceReason: string;
  /** Memory the model holds on its device. */
  memory: {
    /** Packed weights. */
    weightsBytes: number;
    /** Keys and values of the context. */
    cacheBytes: number;
    /** Intermediate results. */
    scratchBytes: number;
    /** All of it. */
    totalBytes: number;
    /** The WebAssembly module's own memory once loaded: also the most that loading took of it. */
    heapBytes: number;
  };
  /** Whether the weights came from browser storage, with no request for them. */
  fromStorage: boolean;
  /** Why the model is not in browser storage though it was to be, for people: the next load downloads it again. */
  storageError?: string;
  /** Whether the model can chat, which `chat.completions` needs. */
  chatTemplate: boolean;
  /**
   * How the model takes a conversation: `"harmony"`, the format of gpt-oss, in which it reasons before it answers;
   * `"template"`, a chat template of its own; `"none"`, not at all.
   */
  chatFormat: "harmony" | "template" | "none";
  /** Number of layers. */
  layers: number;
  /** Number of values that stand for a token between two layers: the last dimension of the hidden states. */
  hiddenSize: number;
}

/** Settings of `models.list`. */
export interface ListOptions {
  /** Whether downloads that were interrupted are listed as well. Default `false`. */
  incomplete?: boolean;
}

/** Settings of `models.remove`. */
export interface RemoveOptions {
  /** Removes the model in this precision alone. Left out: in each that is stored. */
  precision?: "compact" | "exact";
}

/** Settings of `models.verify`. */
export interface VerifyOptions {
  /** Verifies the model in this precision alone. Left out: in each that is stored. */
  precision?: "compact" | "exact";
  /** Whether damaged pieces are fetched again from where the model came from. Default `true`. */
  repair?: boolean;
  /** Called as verifying goes on, a few times a second, with phase `verify`, and `download` for repairs. */
  onProgress?: (progress: Progress) => void;
  /** Cancels: `verify` then rejects with a {@link PesiError} of kind `aborted`. What was repaired stays so. */
  signal?: AbortSignal;
}

/** Settings of `forecast`; each means what it does in {@link LoadOptions}, and has the same default. */
export type ForecastOptions = Pick<LoadOptions, "device" | "precision" | "kvCache" | "contextLength" | "signal">;

/** A model in browser storage, whole or in part. */
export interface StoredModel {
  /** The model's identity, {@link ModelInfo.id}: `load` takes it where `fromFiles` is `false`. */
  id: string;
  /** How its dense weights are held. */
  precision: "compact" | "exact";
  /** The model's name, where its metadata give one. */
  name?: string;
  /** The architecture's name in the model's metadata. */
  architecture: string;
  /** Number of weights. */
  parameters: number;
  /** Whether all of it is there. */
  complete: boolean;
  /** Bytes it takes in browser storage now. */
  storedBytes: number;
  /** Bytes it takes in browser storage when whole. */
  totalBytes: number;
  /** Bytes of the published files that need not be fetched again. */
  downloadedBytes: number;
  /** Bytes of the published files. */
  downloadBytes: number;
  /** Whether every file matched a SHA-256 that is published with it. */
  verified: boolean;
  /** Whether it came from files picked on this device: those have to be picked again to load it. */
  fromFiles: boolean;
  /** When its download began, in milliseconds since 1970. */
  createdAt: number;
}

/** What verifying a stored model found. */
export interface Verification {
  /** The model's identity, {@link ModelInfo.id}. */
  id: string;
  /** Whether the model is whole and sound now, after repairs. */
  ok: boolean;
  /** Bytes in browser storage that were checked. */
  checkedBytes: number;
  /** Pieces that were not as they had been written. */
  damagedPieces: number;
  /** Those of them that were fetched again. */
  repairedPieces: number;
}

/** What a model would take on this device, before it is downloaded. */
export interface Forecast {
  /** The model's identity, {@link ModelInfo.id}. */
  id: string;
  /** The architecture's name in the model's metadata. */
  architecture: string;
  /** The model's name, where its metadata give one. */
  name?: string;
  /** Number of weights. */
  parameters: number;
  /** Whether the model is expected to fit the device. Only loading it shows for certain. */
  fits: boolean;
  /** Why it does not fit, as a sentence for people. */
  reason?: string;
  /** Bytes of the model's files. */
  totalBytes: number;
  /** Those of them that are here already. */
  storedBytes: number;
  /** Those of them that are still to be fetched. */
  downloadBytes: number;
  /** Memory the model would hold on the device; absent where that is not known. */
  memory?: Omit<ModelInfo["memory"], "heapBytes">;
  /** Tokens of prompt and answer together that this is the forecast for. */
  contextLength: number;
  /** The largest context with which the model would fit; 0 where it fits with none. */
  largestContextLength: number;
  /** An estimate of the tokens of an answer per second; absent where there is nothing to estimate it by. */
  tokensPerSecond?: number;
  /** What would compute. */
  device: "webgpu" | "cpu";
  /** The device by name. */
  deviceName: string;
  /** Why this device, as a sentence for people. */
  deviceReason: string;
}

/** Memory that a model takes at some moment. */
export interface MemoryInUse {
  /** On the device: what {@link ModelInfo.memory} says of it, and what came since. */
  deviceBytes: number;
  /** Of these, keys and values of conversations that are set aside while another goes on. */
  setAsideBytes: number;
  /** The WebAssembly modules' own memory, which does not shrink. */
  heapBytes: number;
}

/** Settings of `Model.generate` beside its input. A setting left out, or `undefined`, takes its default. */
export interface GenerateOptions {
  /** Tokens to generate at most. Default: until the context is full. */
  maxTokens?: number;
  /** Divides the logits before sampling; 0 takes the most likely token. From 0, default 1. */
  temperature?: number;
  /** Sample only among the most likely tokens that together reach this probability. Above 0 to 1, default 1: all. */
  topP?: number;
  /** Sample only among this many most likely tokens. Default 0: all. */
  topK?: number;
  /** Sample only among tokens at least this share as likely as the most likely one. 0 to below 1, default 0: all. */
  minP?: number;
  /** Divides positive and multiplies negative logits of tokens seen before. Above 0, default 1: none. */
  repetitionPenalty?: number;
  /** Subtracted from a token's logit for each time the answer holds it. -2 to 2, default 0. */
  frequencyPenalty?: number;
  /** Subtracted from a token's logit if the answer holds it. -2 to 2, default 0. */
  presencePenalty?: number;
  /** Makes sampling repeatable on one device. A whole number from 0; by default a new one each time. */
  seed?: number;
  /** Texts that end the answer; they are not part of it. */
  stop?: string | readonly string[];
  /** Whether each token comes with the natural logarithm of its probability. Default `false`. */
  logprobs?: boolean;
  /** Whether to go on past the model's end-of-text tokens: for measurements. Default `false`. */
  ignoreEos?: boolean;
  /** Whether to reuse what the context already holds of the prompt's beginning. Default `true`. */
  reusePrefix?: boolean;
  /** Cancels: iteration then throws a {@link PesiError} of kind `aborted`. */
  signal?: AbortSignal;
}

/**
 * What `Model.generate` continues, and how: text, without the chat template but after the token that begins a text
 * where the model wants one; or token ids exactly as they are.
 */
export type GenerateParams = GenerateOptions &
  ({ prompt: string; tokens?: undefined } | { tokens: ArrayLike<number>; prompt?: undefined });

/** One token of an answer. */
export interface GeneratedToken {
  /** The token's id. */
  token: number;
  /**
   * The text this token completes. Empty while a character is still incomplete or while the text could be the
   * beginning of a stop text; all texts joined are the answer.
   */
  text: string;
  /** Natural logarithm of the token's probability, where `logprobs` was asked for. */
  logprob?: number;
  /**
   * The bytes that the token itself stands for, where `logprobs` was asked for: possibly a part of a character, and none
   * where it is no text, such as a token that ends a text.
   */
  bytes?: readonly number[];
}

/** How a generation went. */
export interface GenerationResult {
  /**
   * `stop`: the model or a stop text ended it; `length`: `maxTokens` or the context was reached; `aborted`: it was
   * cancelled.
   */
  finishReason: "stop" | "length" | "aborted";
  /** Tokens of the prompt. */
  promptTokens: number;
  /** Tokens of the prompt that the context held already. */
  cachedTokens: number;
  /** Tokens generated. */
  completionTokens: number;
  /** Time spent on the prompt, in milliseconds. */
  prefillMs: number;
  /** Time spent on the answer's tokens, in milliseconds. */
  decodeMs: number;
  /** From the call to the first token, in milliseconds. */
  timeToFirstTokenMs: number;
}
