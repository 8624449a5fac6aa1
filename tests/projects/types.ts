/** The main entry's types without any other package: compiled, and never run. */

import { createRouter, forecast, load, models, PesiError, type Generation, type LoadOptions, type Model } from "pesi";

const options: LoadOptions = { device: "auto", precision: "compact", onProgress: ({ loadedBytes }) => void loadedBytes };

export async function used(): Promise<string[]> {
  const model: Model = await load("owner/repo", options);
  const texts: string[] = [];
  const messages = [{ role: "user" as const, content: "Hi" }];
  const whole = await model.chat.completions.create({ messages });
  texts.push(whole.choices[0]?.message.content ?? "");
  for await (const chunk of await model.chat.completions.create({ messages, stream: true })) {
    texts.push(chunk.choices[0]?.delta.content ?? "");
  }
  const response = await model.responses.create({ input: "Hi" });
  texts.push(response.output_text);
  const generation: Generation = model.generate({ prompt: "Hi", maxTokens: 1 });
  for await (const { text } of generation) texts.push(text);
  const router: typeof fetch = createRouter({ local: model, allow: ({ reason }) => reason.kind === "too_long" });
  const { status }: Response = await router("/v1/models");
  for (const { id } of await models.list()) texts.push(id);
  const { freedBytes } = await model.dispose();
  const { fits } = await forecast("owner/repo");
  return [...texts, String(status + freedBytes), String(fits)];
}

export function kindOf(error: unknown): string {
  return error instanceof PesiError ? error.kind : "none";
}

// Whatever could not be resolved would be `any`, which takes everything.
// @ts-expect-error: no source
void load(1);
// @ts-expect-error: no device
void load("owner/repo", { device: "gpu" });
