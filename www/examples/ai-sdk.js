/** The Vercel AI SDK, with the model as its provider. */

import { streamText } from "ai";
import { load } from "pesi";
import { languageModel } from "pesi/ai-sdk";
import { onAsk, onProgress, source, write } from "./page.js";

const model = languageModel(await load(source, { onProgress }));

onAsk(async (question, abortSignal) => {
  const { textStream } = streamText({ model, prompt: question, temperature: 0, maxOutputTokens: 60, abortSignal });
  for await (const text of textStream) write(text);
});
