/** OpenAI's API at addresses of the page's own origin, for code that only knows how to `fetch`. */

import { load } from "pesi";
import { serve } from "pesi/service-worker";
import { onAsk, onProgress, source, write } from "./page.js";

const model = await load(source, { onProgress });
// The script is a copy of the package's dist/service-worker/script.js.
await serve(model, { script: "pesi-service-worker.js" });

onAsk(async (question, signal) => {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "any",
      messages: [{ role: "user", content: question }],
      temperature: 0,
      max_completion_tokens: 60,
      stream: true,
    }),
    signal,
  });
  if (!response.ok || response.body === null) throw new Error((await response.json()).error.message);
  for await (const data of events(response.body)) {
    if (data !== "[DONE]") write(JSON.parse(data).choices[0]?.delta.content ?? "");
  }
});

/**
 * The data of server-sent events.
 *
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const whole = (text + read.value).split("\n\n");
    text = whole.pop() ?? "";
    for (const event of whole) yield event.replace(/^data: /, "");
  }
}
