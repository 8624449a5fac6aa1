/** AWS's client of Amazon Bedrock, with the model behind its Converse API. */

import { BedrockRuntimeClient, ConverseStreamCommand } from "@aws-sdk/client-bedrock-runtime";
import { load } from "pesi";
import { bedrockHandler } from "pesi/aws";
import { onAsk, onProgress, source, write } from "./page.js";

const model = await load(source, { onProgress });
const client = new BedrockRuntimeClient({
  // The client wants a region and credentials. They are used for nothing.
  region: "us-west-2",
  credentials: { accessKeyId: "none", secretAccessKey: "none" },
  requestHandler: bedrockHandler(model),
});

onAsk(async (question, abortSignal) => {
  const command = new ConverseStreamCommand({
    modelId: "openai.gpt-oss-20b-1:0",
    messages: [{ role: "user", content: [{ text: question }] }],
    inferenceConfig: { temperature: 0, maxTokens: 60 },
  });
  const { stream = [] } = await client.send(command, { abortSignal });
  for await (const event of stream) {
    if (event.contentBlockDelta) write(event.contentBlockDelta.delta?.text ?? "");
    if (event.messageStop) write(`\n\n(${event.messageStop.stopReason})`);
  }
});
