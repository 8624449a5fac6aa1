import { load } from "./node_modules/pesi/dist/pesi.js";

const model = await load("/models/SmolLM2-135M-Instruct.Q4_1.gguf", { device: "cpu" });
const answer = await model.chat.completions.create({
  messages: [{ role: "user", content: "What is the capital of France?" }],
  temperature: 0,
  max_tokens: 12,
});
document.body.append(JSON.stringify([answer.choices[0].message.content]));
document.title = "answered";
