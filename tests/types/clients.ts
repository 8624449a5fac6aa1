/** Other makers' types, and the package's: whoever has the one can take the other. Compiled, and never run. */

import { BedrockRuntimeClient } from "@aws-sdk/client-bedrock-runtime";
import { SageMakerRuntimeClient } from "@aws-sdk/client-sagemaker-runtime";
import { createProviderRegistry, generateText } from "ai";
import OpenAI from "openai";

import { createPesi, languageModel } from "../../dist/ai-sdk/index.js";
import { bedrockHandler, sagemakerHandler } from "../../dist/aws/index.js";
import type { Model } from "../../dist/pesi.js";

declare const model: Model;

export const clients = [
  new OpenAI({ apiKey: "none", fetch: model.fetch }),
  new BedrockRuntimeClient({ requestHandler: bedrockHandler(model) }),
  new SageMakerRuntimeClient({ requestHandler: sagemakerHandler({ oss: model }) }),
  createProviderRegistry({ pesi: createPesi({ oss: model }) }),
  generateText({ model: languageModel(model), prompt: "Hi" }),
];

export async function answers(): Promise<void> {
  const messages = [{ role: "user" as const, content: "Hi" }];
  const chat: OpenAI.ChatCompletion = await model.chat.completions.create({ messages });
  // What was answered can be sent back.
  await model.chat.completions.create({ messages: [...messages, ...chat.choices.map(() => messages[0]!)] });
  const chunks: AsyncIterable<OpenAI.ChatCompletionChunk> = await model.chat.completions.create({
    messages,
    stream: true,
  });
  const response: OpenAI.Responses.Response = await model.responses.create({ input: "Hi" });
  const events: AsyncIterable<OpenAI.Responses.ResponseStreamEvent> = await model.responses.create({
    input: "Hi",
    stream: true,
  });
  void [chunks, response, events];
}
