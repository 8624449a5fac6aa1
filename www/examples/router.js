/** The model first; a server only where the model cannot answer, and only with leave for the very request. */

import { createRouter, load } from "pesi";
import OpenAI from "openai";
import { address, onAsk, onProgress, source, write } from "./page.js";

const model = await load(source, { onProgress, contextLength: 256 });

const client = new OpenAI({
  apiKey: "none",
  dangerouslyAllowBrowser: true,
  fetch: createRouter({
    local: model,
    // Any server that speaks OpenAI's API; a key for it would be `apiKey` here.
    remote: { baseURL: new URL(address.get("remote") ?? "/remote/v1", location.href).href, model: "gpt-oss-120b" },
    allow: ({ reason }) => confirm(`The model cannot answer (${reason.kind}). Send the question to the server?`),
  }),
});

onAsk(async (question, signal) => {
  const completion = await client.chat.completions.create(
    {
      model: model.info.id,
      messages: [{ role: "user", content: question }],
      temperature: 0,
      max_completion_tokens: 60,
    },
    { signal },
  );
  write(`${completion.choices[0]?.message.content}\n\n(answered by ${completion.model})`);
});
