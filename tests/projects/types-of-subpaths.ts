/** The subpaths' types, beside the one package whose types they name: compiled, and never run. */

import type { LanguageModelV3, ProviderV3 } from "@ai-sdk/provider";
import type { Model } from "pesi";
import { createPesi, languageModel } from "pesi/ai-sdk";
import { bedrockHandler, sagemakerHandler } from "pesi/aws";
import { serve, type Service } from "pesi/service-worker";

declare const model: Model;

export const language: LanguageModelV3 = languageModel(model);
export const provider: ProviderV3 = createPesi({ oss: model });
export const handlers = [bedrockHandler(model), sagemakerHandler({ oss: model })];
export const service: Promise<Service> = serve(model, { script: "/pesi-service-worker.js" });

// @ts-expect-error: no model
bedrockHandler(1);
// @ts-expect-error: no model
languageModel({});
// @ts-expect-error: no script
void serve(model, {});
