/** OpenAI's own client, with the model in the place of the network. */

import OpenAI from "openai";
import { load } from "pesi";
import { onAsk, onProgress, source, write } from "./page.js";

const model = await load(source, { onProgress });
// The client wants a key, and a word that it may run in a browser. Nothing leaves the page.
const client = new OpenAI({ apiKey: "none", fetch: model.fetch, dangerouslyAllowBrowser: true });

onAsk(async (question, signal) => {
  const stream = client.chat.completions.stream(
    {
      model: model.info.id,
      messages: [{ role: "user", content: question }],
      temperature: 0,
      max_completion_tokens: 60,
      stream_options: { include_usage: true },
    },
    { signal },
  );
  stream.on("content", write);
  const { usage } = await stream.finalChatCompletion();
  write(`\n\n(${usage?.prompt_tokens} tokens read, ${usage?.completion_tokens} written)`);
});
