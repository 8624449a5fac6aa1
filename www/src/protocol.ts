/**
 * Messages between the page and the worker, the whole of the conversation:
 *
 *     page → worker   request { id, method, params }    cancel { id }
 *     worker → page   event { id, event }*, then result { id, value } or error { id, error, fatal }
 *
 * Every request gets exactly one result or error, cancelled ones included. Either the first request is `load`, and the
 * worker holds that model for its lifetime; or the worker gets a single request of those that need no model
 * (`listModels`, `removeModel`, `verifyModel`, `forecast`), and is ended after it.
 */

import type { WireError } from "./errors.js";
import type {
  Forecast,
  GeneratedToken,
  GenerationResult,
  MemoryInUse,
  ModelInfo,
  Progress,
  StoredModel,
  Verification,
} from "./types.js";

/**
 * Where the SHA-256 of a model's files are published, if they are.
 *
 * - `hub`: the list of a repository's files in the hub's own form;
 * - `sha256sums`: lines as `sha256sum` writes them.
 */
export interface Sums {
  readonly kind: "hub" | "sha256sums";
  readonly url: string;
  /** What stands before a file's name there: the path of its folder with a slash at its end, or nothing. */
  readonly prefix: string;
}

/**
 * Where the engine reads a model from. `id` names it in browser storage.
 *
 * - `url`: a `.gguf` file, or the first of a split set, whose others lie beside it;
 * - `folder`: a folder with `config.json` and safetensors; its URL ends in a slash and has no query;
 * - `files`: one `.gguf` file, or a whole split set in its order, or `config.json` and the others of its folder.
 */
export type EngineSource =
  | { readonly kind: "url"; readonly url: string; readonly id: string; readonly sums?: Sums }
  | { readonly kind: "folder"; readonly url: string; readonly id: string; readonly sums?: Sums }
  | { readonly kind: "files"; readonly files: readonly File[]; readonly id: string };

/** Settings of a load that the engine takes as they are. */
export interface EngineLoadOptions {
  readonly precision: "compact" | "exact";
  readonly kvCache: "full" | "int8";
  readonly contextLength?: number;
  readonly cache: boolean;
}

/** What the engine says of a model; the worker adds the device's name and the reason for it. */
export type EngineModelInfo = Omit<ModelInfo, "deviceName" | "deviceReason">;

/** Settings of a forecast that the engine takes as they are. */
export type EngineForecastOptions = Omit<EngineLoadOptions, "cache">;

/** What the engine says of a model before it is loaded; the worker adds the device. */
export type EngineForecast = Omit<Forecast, "device" | "deviceName" | "deviceReason">;

/** A model in browser storage: in one precision, or in each that is there. */
export interface StoredPlace {
  readonly id: string;
  readonly precision?: "compact" | "exact";
}

/** A chat message in OpenAI's shape, as the chat template sees it. */
export interface EngineMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  /** `null` where an assistant only calls tools. */
  readonly content: string | null;
  readonly name?: string;
  /** What an assistant thought before it said `content`. */
  readonly reasoning_content?: string;
  /** The tools that an assistant calls. */
  readonly tool_calls?: readonly EngineToolCall[];
  /** Of a tool's answer, the id of the call that it answers. */
  readonly tool_call_id?: string;
}

/** A call of a tool in OpenAI's shape; `arguments` is JSON as the model wrote it. */
export interface EngineToolCall {
  readonly id: string;
  readonly type: "function";
  readonly function: { readonly name: string; readonly arguments: string };
}

/** A tool in OpenAI's shape, as a prompt describes it. */
export interface EngineChatTool {
  readonly type: "function";
  readonly function: {
    readonly name: string;
    readonly description?: string;
    readonly parameters?: object;
    readonly strict?: boolean;
  };
}

/** Settings of a chat prompt. */
export interface EngineChatOptions {
  /** How much the model is to reason. Left out: as the model has it. */
  readonly reasoningEffort?: "low" | "medium" | "high";
  /** The tools that the model is told of. */
  readonly tools?: readonly EngineChatTool[];
  /** The form of the answer that the model is told of; a constraint holds it to that. */
  readonly responseFormat?: { readonly name: string; readonly description?: string; readonly schema: object };
}

/** What the text of an answer must be; what the model thinks and calls is not bound by it. */
export type EngineConstraint =
  | { readonly kind: "json_schema" | "regex" | "lark"; readonly value: string }
  | { readonly kind: "json_object" };

/** A tool that may be called; with `strict`, calls follow `parameters`, a JSON schema as text. */
export interface EngineTool {
  readonly name: string;
  readonly parameters: string;
  readonly strict: boolean;
}

/** Whether tools are called: at will, not at all, at least one, or that one. */
export type EngineToolChoice = "none" | "auto" | "required" | { readonly name: string };

/** Settings of a generation that the engine takes as they are. */
export interface EngineGenerateOptions {
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  /** Added to the logits of tokens, by their ids; -100 rules a token out. */
  readonly logitBias?: readonly (readonly [id: number, bias: number])[];
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly logprobs?: boolean;
  /** How many of the likeliest tokens come with each. */
  readonly topLogprobs?: number;
  readonly constraint?: EngineConstraint;
  readonly tools?: readonly EngineTool[];
  readonly toolChoice?: EngineToolChoice;
  /** Whether an answer may call several tools; it may where this is left out. */
  readonly parallelToolCalls?: boolean;
  readonly ignoreEos?: boolean;
  readonly reusePrefix?: boolean;
}

/** One of the likeliest tokens, with the natural logarithm of its probability and the bytes it stands for. */
export interface AnswerLogprob {
  readonly token: number;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

/**
 * A token of an answer. In a chat `text` is that of messages alone: tokens of headers, of markers, and of calls around
 * their arguments have none. The other fields say which message the text belongs to, and are absent elsewhere. A token
 * that completes text of several messages comes several times.
 */
export interface AnswerToken extends GeneratedToken {
  /** The likeliest tokens here, where they were asked for. */
  readonly topLogprobs?: readonly AnswerLogprob[];
  /** `analysis` is thought, `final` said; `commentary` is said unless it has a recipient. */
  readonly channel?: "analysis" | "commentary" | "final";
  /**
   * The tool that the message calls: the text is the arguments. Where the message has something malformed, or `maxTokens`
   * ends it, it is no call that can be made.
   */
  readonly recipient?: string;
  /** The form of the message's text, such as `json`. */
  readonly contentType?: string;
  /** The message's number in the answer, from 0. */
  readonly messageIndex?: number;
  /** Whether the model wrote the message in the name of another: of a user, or of a tool. */
  readonly otherAuthor?: boolean;
  /**
   * A phrase on what is not in the model's format in what it wrote. `text` carries it, but no words of headers of
   * harmony.
   */
  readonly malformed?: string;
  /** Whether it is the token before once more, with the text that it completed of a further message. */
  readonly continues?: boolean;
}

/** What a generation continues. */
export type GenerateInput =
  | { readonly kind: "prompt"; readonly prompt: string }
  | { readonly kind: "tokens"; readonly tokens: Uint32Array }
  | {
      readonly kind: "messages";
      readonly messages: readonly EngineMessage[];
      readonly options: EngineChatOptions;
    };

/** Each method's parameters, result, and the events before the result. */
export interface Methods {
  load: {
    params: {
      readonly source: EngineSource;
      readonly device: "auto" | "webgpu" | "cpu";
      readonly options: EngineLoadOptions;
    };
    result: ModelInfo;
    event: Progress;
  };
  encode: { params: { readonly text: string }; result: Uint32Array<ArrayBuffer>; event: never };
  decode: { params: { readonly ids: Uint32Array }; result: string; event: never };
  logits: { params: { readonly tokens: Uint32Array }; result: Float32Array<ArrayBuffer>; event: never };
  hiddenStates: { params: { readonly tokens: Uint32Array }; result: Float32Array<ArrayBuffer>; event: never };
  generate: {
    params: { readonly input: GenerateInput; readonly options: EngineGenerateOptions };
    result: GenerationResult;
    event: readonly AnswerToken[];
  };
  listModels: { params: { readonly incomplete: boolean }; result: StoredModel[]; event: never };
  removeModel: { params: StoredPlace; result: { removedBytes: number }; event: never };
  verifyModel: { params: StoredPlace & { readonly repair: boolean }; result: Verification; event: Progress };
  forecast: {
    params: {
      readonly source: EngineSource;
      readonly device: "auto" | "webgpu" | "cpu";
      readonly options: EngineForecastOptions;
    };
    result: Forecast;
    event: never;
  };
  memory: { params: Record<string, never>; result: MemoryInUse; event: never };
  dispose: { params: Record<string, never>; result: { readonly freedBytes: number }; event: never };
}

export type Method = keyof Methods;

/** A request for one method, as a union over all of them. */
export type Request = {
  [M in Method]: {
    readonly type: "request";
    readonly id: number;
    readonly method: M;
    readonly params: Methods[M]["params"];
  };
}[Method];

/** What the page sends. */
export type ToWorker = Request | { readonly type: "cancel"; readonly id: number };

/** What the worker sends. After a `fatal` error the worker answers nothing any more. */
export type FromWorker =
  | { readonly type: "event"; readonly id: number; readonly event: unknown }
  | { readonly type: "result"; readonly id: number; readonly value: unknown }
  | { readonly type: "error"; readonly id: number; readonly error: WireError; readonly fatal: boolean };
