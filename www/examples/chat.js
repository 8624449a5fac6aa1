/** A conversation whose answers are shown as they are written. */

import { load } from "pesi";
import { onAsk, onProgress, source, write } from "./page.js";

const model = await load(source, { onProgress });

/** @type {import("pesi").ChatCompletionMessageParam[]} */
const messages = [];

onAsk(async (question, signal) => {
  messages.push({ role: "user", content: question });
  const stream = await model.chat.completions.create(
    { messages, temperature: 0, max_completion_tokens: 60, stream: true },
    { signal },
  );
  let answer = "";
  for await (const { choices } of stream) {
    const piece = choices[0]?.delta.content ?? "";
    answer += piece;
    write(piece);
  }
  // What was said before is part of the next question; the model does not compute it again.
  messages.push({ role: "assistant", content: answer });
});
