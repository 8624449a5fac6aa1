/** The same question through AWS's client of Bedrock and through the Vercel AI SDK. */

import { BedrockRuntimeClient, ConverseCommand } from "@aws-sdk/client-bedrock-runtime";
import { generateText } from "ai";
import type { Model } from "pesi";
import { languageModel } from "pesi/ai-sdk";
import { bedrockHandler } from "pesi/aws";

export async function askThroughClients(model: Model, question: string): Promise<string[]> {
  const bedrock = new BedrockRuntimeClient({
    region: "us-west-2",
    credentials: { accessKeyId: "none", secretAccessKey: "none" },
    requestHandler: bedrockHandler(model),
  });
  const { output } = await bedrock.send(
    new ConverseCommand({
      modelId: "openai.gpt-oss-20b-1:0",
      messages: [{ role: "user", content: [{ text: question }] }],
      inferenceConfig: { temperature: 0, maxTokens: 12 },
    }),
  );
  const { text } = await generateText({
    model: languageModel(model),
    prompt: question,
    temperature: 0,
    maxOutputTokens: 12,
  });
  return [output?.message?.content?.[0]?.text ?? "", text];
}
