/** A model that calls a function of the page and goes on with what it returns. */

import { load } from "pesi";
import { onAsk, onProgress, parameters, source, write } from "./page.js";

const model = await load(source, { onProgress });

/** What the model may call, as it is told of it. */
const tools = /** @type {import("pesi").ChatCompletionTool[]} */ ([
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather in a city, now",
      parameters: {
        type: "object",
        properties: { city: { enum: ["Rome", "Paris", "Berlin"] } },
        required: ["city"],
        additionalProperties: false,
      },
      // Arguments follow the schema, whatever the model would write.
      strict: true,
    },
  },
]);

/** A program would ask a sensor, a database or another page here. */
function weather(/** @type {{ city: string }} */ { city }) {
  return { city, sky: "clear", celsius: 21 };
}

const MOST_ROUNDS = 4;

onAsk(async (question, signal) => {
  /** @type {import("pesi").ChatCompletionMessageParam[]} */
  const messages = [{ role: "user", content: question }];
  for (let round = 1; round <= MOST_ROUNDS; round += 1) {
    // The first answer has to be a call, so that the page has something to show.
    const tool_choice = /** @type {"required" | "auto"} */ (round === 1 ? "required" : "auto");
    const params = { messages, tools, tool_choice, ...parameters };
    const { choices } = await model.chat.completions.create(params, { signal });
    const message = choices[0]?.message;
    if (message === undefined) return;
    messages.push(message);
    if (message.tool_calls === undefined) return write(`answer: ${message.content}`);
    for (const { id, function: called } of message.tool_calls) {
      const result = JSON.stringify(weather(JSON.parse(called.arguments)));
      write(`${called.name}(${called.arguments}) returned ${result}\n`);
      messages.push({ role: "tool", tool_call_id: id, content: result });
    }
  }
});
