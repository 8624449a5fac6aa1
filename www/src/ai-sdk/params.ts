/** The AI SDK's call options and prompts → the parameters of chat completions. */

import type {
  LanguageModelV3CallOptions,
  LanguageModelV3Message,
  LanguageModelV3ToolResultOutput,
  SharedV3Warning,
} from "@ai-sdk/provider";

import { PesiError } from "../errors.js";
import type {
  ChatCompletionContentPartText,
  ChatCompletionCreateParamsBase,
  ChatCompletionMessageParam,
  ChatCompletionTool,
} from "../openai.js";

/** What `providerOptions.pesi` may say. */
export interface PesiProviderOptions {
  reasoningEffort?: "low" | "medium" | "high";
  parallelToolCalls?: boolean;
  logitBias?: Record<string, number>;
  minP?: number;
  repetitionPenalty?: number;
}

const PROVIDER_OPTIONS: Readonly<Record<keyof PesiProviderOptions, keyof ChatCompletionCreateParamsBase>> = {
  reasoningEffort: "reasoning_effort",
  parallelToolCalls: "parallel_tool_calls",
  logitBias: "logit_bias",
  minP: "min_p",
  repetitionPenalty: "repetition_penalty",
};

/** A call in the terms of chat completions, and what of it is not done. */
export interface Converted {
  readonly params: ChatCompletionCreateParamsBase;
  readonly warnings: SharedV3Warning[];
}

/**
 * Reads the options of a call.
 *
 * @throws {PesiError} of kind `unsupported` for files, and for what `providerOptions.pesi` cannot say
 */
export function chatParams(options: LanguageModelV3CallOptions): Converted {
  const warnings: SharedV3Warning[] = [];
  const tools = chatTools(options.tools, warnings);
  const params: ChatCompletionCreateParamsBase = {
    messages: options.prompt.flatMap(chatMessages),
    max_completion_tokens: options.maxOutputTokens ?? null,
    temperature: options.temperature ?? null,
    top_p: options.topP ?? null,
    top_k: options.topK ?? null,
    presence_penalty: options.presencePenalty ?? null,
    frequency_penalty: options.frequencyPenalty ?? null,
    seed: options.seed ?? null,
    stop: options.stopSequences ?? null,
    response_format: responseFormat(options.responseFormat),
    ...(tools.length === 0 ? {} : { tools, tool_choice: toolChoice(options.toolChoice) }),
    ...providerOptions(options.providerOptions?.pesi),
  };
  return { params, warnings };
}

function providerOptions(given: Readonly<Record<string, unknown>> = {}): Partial<ChatCompletionCreateParamsBase> {
  const entries = Object.entries(given).map(([name, value]) => {
    if (!Object.hasOwn(PROVIDER_OPTIONS, name)) throw unsupported(`providerOptions.pesi.${name}`);
    return [PROVIDER_OPTIONS[name as keyof PesiProviderOptions], value];
  });
  return Object.fromEntries(entries) as Partial<ChatCompletionCreateParamsBase>;
}

function responseFormat(
  format: LanguageModelV3CallOptions["responseFormat"],
): NonNullable<ChatCompletionCreateParamsBase["response_format"]> {
  if (format === undefined || format.type === "text") return { type: "text" };
  const { schema, name = "response", description } = format;
  if (schema === undefined) return { type: "json_object" };
  const told = description === undefined ? {} : { description };
  return {
    type: "json_schema",
    json_schema: { name, ...told, schema: schema as Record<string, unknown>, strict: true },
  };
}

function chatTools(tools: LanguageModelV3CallOptions["tools"] = [], warnings: SharedV3Warning[]): ChatCompletionTool[] {
  return tools.flatMap((tool): ChatCompletionTool[] => {
    if (tool.type !== "function") {
      warnings.push({ type: "unsupported", feature: `provider-defined tool ${tool.id}` });
      return [];
    }
    const { name, description, inputSchema, strict } = tool;
    return [
      {
        type: "function",
        function: {
          name,
          description: description ?? null,
          parameters: inputSchema as Record<string, unknown>,
          strict: strict ?? null,
        },
      },
    ];
  });
}

function toolChoice(
  choice: LanguageModelV3CallOptions["toolChoice"],
): NonNullable<ChatCompletionCreateParamsBase["tool_choice"]> {
  if (choice === undefined) return "auto";
  return choice.type === "tool" ? { type: "function", function: { name: choice.toolName } } : choice.type;
}

function chatMessages(message: LanguageModelV3Message): ChatCompletionMessageParam[] {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.content }];
    case "user":
      return [{ role: "user", content: message.content.map(textPart) }];
    case "assistant":
      return assistant(message.content);
    case "tool":
      return message.content.map((part) => {
        if (part.type !== "tool-result") throw unsupported(`prompt part ${part.type}`);
        return { role: "tool", tool_call_id: part.toolCallId, content: resultText(part.output) };
      });
  }
}

function textPart(part: { readonly type: string; readonly text?: unknown }): ChatCompletionContentPartText {
  if (part.type !== "text") throw unsupported(`prompt part ${part.type}`);
  return { type: "text", text: part.text as string };
}

function assistant(
  parts: Extract<LanguageModelV3Message, { role: "assistant" }>["content"],
): ChatCompletionMessageParam[] {
  let content = "";
  let reasoning = "";
  const calls = [];
  for (const part of parts) {
    switch (part.type) {
      case "text":
        content += part.text;
        break;
      case "reasoning":
        reasoning += part.text;
        break;
      case "tool-call": {
        const written = typeof part.input === "string" ? part.input : JSON.stringify(part.input ?? {});
        const called = { name: part.toolName, arguments: written };
        calls.push({ id: part.toolCallId, type: "function" as const, function: called });
        break;
      }
      default:
        throw unsupported(`prompt part ${part.type}`);
    }
  }
  return [
    {
      role: "assistant",
      content: content === "" && calls.length > 0 ? null : content,
      reasoning_content: reasoning,
      tool_calls: calls,
    },
  ];
}

/** What a tool answered, or why it did not, in words. */
function resultText(output: LanguageModelV3ToolResultOutput): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return output.reason ?? "Tool execution denied.";
    case "content":
      return output.value.map((part) => textPart(part).text).join("\n");
  }
}

function unsupported(feature: string): PesiError {
  return new PesiError("unsupported", `Not supported by Pesi's models: ${feature}`, { parameter: feature });
}
