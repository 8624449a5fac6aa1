/** An answer in a form that a program can rely on: JSON by a schema. */

import { load } from "pesi";
import { onAsk, onProgress, source, write } from "./page.js";

const model = await load(source, { onProgress });

const schema = {
  type: "object",
  properties: {
    customer: { type: "string", maxLength: 30 },
    item: { enum: ["lamp", "chair", "table"] },
    quantity: { type: "integer", minimum: 1, maximum: 99 },
  },
  required: ["customer", "item", "quantity"],
  additionalProperties: false,
};

onAsk(async (question, signal) => {
  const { choices } = await model.chat.completions.create(
    {
      messages: [
        { role: "system", content: "Extract customer, item and quantity of the order as JSON." },
        { role: "user", content: question },
      ],
      // Tokens that lead away from the schema are not drawn at all.
      response_format: { type: "json_schema", json_schema: { name: "order", schema, strict: true } },
      temperature: 0,
    },
    { signal },
  );
  const order = JSON.parse(choices[0]?.message.content ?? "");
  for (const [name, value] of Object.entries(order)) write(`${name}: ${value}\n`);
});
