/**
 * Models for the Vercel AI SDK, `pesi/ai-sdk`:
 *
 * ```ts
 * import { load } from "pesi";
 * import { languageModel } from "pesi/ai-sdk";
 * import { streamText } from "ai";
 *
 * const model = languageModel(await load("openai/gpt-oss-20b"));
 * for await (const text of streamText({ model, prompt: "Hello!" }).textStream) write(text);
 * ```
 */

import type { LanguageModelV3, ProviderV3 } from "@ai-sdk/provider";

import { PesiError } from "../errors.js";
import type { Model } from "../model.js";
import { PesiLanguageModel } from "./language-model.js";

export type { PesiProviderOptions } from "./params.js";

/** A model as the AI SDK takes it: text, streams, tools, structured output, reasoning, aborts. */
export function languageModel(model: Pick<Model, "chat" | "info">): LanguageModelV3 {
  return new PesiLanguageModel(model);
}

/** A provider of models by the names that they are given here. */
export interface PesiProvider extends ProviderV3 {
  (modelId: string): LanguageModelV3;
}

/**
 * A provider of loaded models, for the AI SDK's registries.
 *
 * @throws {PesiError} from the provider, of kind `invalid_argument` where it has no model of a name, and of kind
 *   `unsupported` where it is asked for anything but a language model
 */
export function createPesi(models: Readonly<Record<string, Pick<Model, "chat" | "info">>>): PesiProvider {
  const find = (modelId: string): LanguageModelV3 => {
    const model = Object.hasOwn(models, modelId) ? models[modelId] : undefined;
    if (model !== undefined) return languageModel(model);
    const names = Object.keys(models).join(", ");
    throw new PesiError("invalid_argument", `There is no model called ${JSON.stringify(modelId)}, only ${names}`, {
      parameter: "modelId",
      expected: names,
      found: modelId,
    });
  };
  const refuse = (what: string) => (): never => {
    throw new PesiError("unsupported", `Pesi has no ${what}`);
  };
  return Object.assign(find, {
    specificationVersion: "v3" as const,
    languageModel: find,
    embeddingModel: refuse("embedding models"),
    imageModel: refuse("image models"),
  });
}
