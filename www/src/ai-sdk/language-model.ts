/** A model behind the interface of the AI SDK's language models. */

import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3Content,
  LanguageModelV3FinishReason,
  LanguageModelV3GenerateResult,
  LanguageModelV3ResponseMetadata,
  LanguageModelV3StreamPart,
  LanguageModelV3StreamResult,
  LanguageModelV3Usage,
  SharedV3Warning,
} from "@ai-sdk/provider";

import { PesiError } from "../errors.js";
import type { Model } from "../model.js";
import type { ChatCompletionChunk, ChatCompletionFinishReason, CompletionUsage } from "../openai.js";
import { chatParams } from "./params.js";
import { StreamParts } from "./stream-parts.js";

/** A model of `load`, as the AI SDK asks it. */
export class PesiLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = "pesi";
  readonly modelId: string;
  /** None: the models here read text. */
  readonly supportedUrls = {};
  readonly #model: Pick<Model, "chat" | "info">;

  constructor(model: Pick<Model, "chat" | "info">) {
    this.#model = model;
    this.modelId = model.info.id;
  }

  async doGenerate(options: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    const { params, warnings } = chatParams(options);
    const signal = options.abortSignal ?? null;
    const completion = await reported(signal, () => this.#model.chat.completions.create(params, { signal }));
    const [{ message, finish_reason }] = completion.choices as [(typeof completion.choices)[0]];
    const content: LanguageModelV3Content[] = [];
    if (message.reasoning_content) content.push({ type: "reasoning", text: message.reasoning_content });
    if (message.content) content.push({ type: "text", text: message.content });
    for (const { id, function: called } of message.tool_calls ?? []) {
      content.push({ type: "tool-call", toolCallId: id, toolName: called.name, input: called.arguments });
    }
    return {
      content,
      finishReason: finishReason(finish_reason),
      usage: usageOf(completion.usage),
      request: { body: params },
      response: metadata(completion),
      warnings,
    };
  }

  async doStream(options: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const { params, warnings } = chatParams(options);
    const signal = options.abortSignal ?? null;
    const streaming = { ...params, stream: true as const, stream_options: { include_usage: true } };
    const chunks = await reported(signal, () => this.#model.chat.completions.create(streaming, { signal }));
    const parts = partsOf(chunks, warnings, signal);
    const stream = new ReadableStream<LanguageModelV3StreamPart>({
      async pull(controller) {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await parts.return();
      },
    });
    return { stream, request: { body: params } };
  }
}

async function* partsOf(
  chunks: AsyncIterable<ChatCompletionChunk>,
  warnings: SharedV3Warning[],
  signal: AbortSignal | null,
): AsyncGenerator<LanguageModelV3StreamPart, void, undefined> {
  yield { type: "stream-start", warnings };
  const parts = new StreamParts();
  let reason: ChatCompletionFinishReason | null = null;
  let usage: CompletionUsage | undefined;
  let isFirst = true;
  try {
    for await (const chunk of chunks) {
      if (isFirst) yield { type: "response-metadata", ...metadata(chunk) };
      isFirst = false;
      usage = chunk.usage ?? usage;
      const [choice] = chunk.choices;
      reason = choice?.finish_reason ?? reason;
      if (choice !== undefined) yield* parts.of(choice.delta);
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    yield { type: "error", error };
    yield { type: "finish", finishReason: { unified: "error", raw: undefined }, usage: usageOf(undefined) };
    return;
  }
  yield* parts.end();
  yield { type: "finish", finishReason: finishReason(reason), usage: usageOf(usage) };
}

/** The AI SDK knows aborts by their reasons. */
async function reported<T>(signal: AbortSignal | null, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (signal?.aborted && error instanceof PesiError && error.kind === "aborted") throw signal.reason;
    throw error;
  }
}

function metadata(answer: {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}): LanguageModelV3ResponseMetadata {
  return { id: answer.id, timestamp: new Date(answer.created * 1000), modelId: answer.model };
}

function finishReason(raw: ChatCompletionFinishReason | null): LanguageModelV3FinishReason {
  if (raw === null) return { unified: "other", raw: undefined };
  return { unified: raw === "tool_calls" ? "tool-calls" : raw, raw };
}

function usageOf(usage: CompletionUsage | undefined): LanguageModelV3Usage {
  const total = usage?.completion_tokens;
  const reasoning = usage?.completion_tokens_details?.reasoning_tokens;
  const cacheRead = usage?.prompt_tokens_details.cached_tokens;
  return {
    inputTokens: {
      total: usage?.prompt_tokens,
      noCache: usage === undefined ? undefined : usage.prompt_tokens - (cacheRead ?? 0),
      cacheRead,
      cacheWrite: undefined,
    },
    outputTokens: {
      total,
      text: total === undefined ? undefined : total - (reasoning ?? 0),
      reasoning,
    },
  };
}
