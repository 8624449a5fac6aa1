/** A page that asks the default model; what other makers' clients take is loaded where `#clients` asks for it. */

import { load } from "pesi";

const model = await load("/models/SmolLM2-135M-Instruct.Q4_1.gguf", { device: "cpu" });
const question = "What is the capital of France?";
const stream = await model.chat.completions.create({
  messages: [{ role: "user", content: question }],
  temperature: 0,
  max_tokens: 12,
  stream: true,
});
let answer = "";
for await (const { choices } of stream) answer += choices[0]?.delta.content ?? "";
const answers = [answer];
if (location.hash === "#clients") {
  const { askThroughClients } = await import("./clients.js");
  answers.push(...(await askThroughClients(model, question)));
}
document.body.append(JSON.stringify(answers));
document.title = "answered";
