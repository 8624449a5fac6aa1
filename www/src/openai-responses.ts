/** The types of OpenAI's Responses API, as far as a model here can give or take them. */

/** The parameters of a response. `null` counts as left out, as in OpenAI's API. */
export interface ResponseCreateParamsBase {
  /** A message of the user, or messages, calls, results and reasoning in their order. */
  input: string | readonly ResponseInputItem[];
  /** What the model is told ahead of `input`; not kept for the responses that follow this one. */
  instructions?: string | null;
  /** Required by OpenAI's clients; whatever it names, the model it is asked of answers. */
  model?: string | null;
  /** The id of a stored response, whose conversation is continued. */
  previous_response_id?: string | null;
  /** Whether to keep the response in memory, so that it can be continued. Default `true`. */
  store?: boolean | null;
  /** Tokens to generate at most, those of reasoning among them. Default: until the context is full. */
  max_output_tokens?: number | null;
  /** 0 to 2, default 1; 0 takes the most likely token. */
  temperature?: number | null;
  /** Above 0 to 1, default 1. */
  top_p?: number | null;
  /** How many of the likeliest tokens come with each: 0 to 20, default 0. */
  top_logprobs?: number | null;
  /** `effort` as in chat completions; there are no summaries. */
  reasoning?: { effort?: "low" | "medium" | "high" | null; summary?: null } | null;
  /** The form of the answer. Default: any text. */
  text?: { format?: ResponseTextFormat | null; verbosity?: "medium" | null } | null;
  /** The tools that the model may call. */
  tools?: readonly ResponseFunctionTool[] | null;
  /** Default `"auto"`. */
  tool_choice?: ResponseToolChoice | null;
  /** Whether an answer may have several calls. Default `true`. */
  parallel_tool_calls?: boolean | null;
  /** What comes beside the answer: its tokens' probabilities; reasoning in a form to be sent back. */
  include?: readonly ResponseIncludable[] | null;
  /** Notes of the caller: at most 16 texts. */
  metadata?: Readonly<Record<string, string>> | null;
  /** Only `"disabled"`. */
  truncation?: "disabled" | null;
  /** Only `false`. */
  background?: false | null;
  /** Only `"auto"` and `"default"`. */
  service_tier?: "auto" | "default" | null;
  /** Taken for compatibility; nothing leaves the device. */
  user?: string | null;
  /** Taken for compatibility; nothing leaves the device. */
  safety_identifier?: string | null;
  /** Taken for compatibility. */
  prompt_cache_key?: string | null;
  /** Taken for compatibility. */
  prompt_cache_retention?: string | null;
  /** Beyond OpenAI's, as in chat completions. */
  top_k?: number | null;
  /** Beyond OpenAI's, as in chat completions. */
  min_p?: number | null;
  /** Beyond OpenAI's, as in chat completions. */
  repetition_penalty?: number | null;
}

export interface ResponseCreateParamsNonStreaming extends ResponseCreateParamsBase {
  stream?: false | null;
  stream_options?: null;
}

export interface ResponseCreateParamsStreaming extends ResponseCreateParamsBase {
  stream: true;
  /** Only `false`: events are not padded, since they cross no network. */
  stream_options?: { include_obfuscation?: false } | null;
}

export type ResponseCreateParams = ResponseCreateParamsNonStreaming | ResponseCreateParamsStreaming;

export type ResponseIncludable = "message.output_text.logprobs" | "reasoning.encrypted_content";

export type ResponseTextFormat =
  | { type: "text" }
  | { type: "json_object" }
  | {
      type: "json_schema";
      name: string;
      description?: string;
      schema: Record<string, unknown>;
      strict?: boolean | null;
    };

/** A function that the model may call. Other than in chat completions, `strict` is `true` where it is left out. */
export interface ResponseFunctionTool {
  type: "function";
  name: string;
  description?: string | null;
  parameters?: Record<string, unknown> | null;
  strict?: boolean | null;
}

export type ResponseToolChoice = "none" | "auto" | "required" | { type: "function"; name: string };

/** A part of a conversation. What a response had as `output` can be sent back as it is. */
export type ResponseInputItem =
  | ResponseInputMessage
  | ResponseOutputItem
  | { type: "function_call"; call_id: string; name: string; arguments: string; id?: string }
  | { type: "function_call_output"; call_id: string; output: string | readonly ResponseInputText[] }
  | { type: "item_reference"; id: string };

export interface ResponseInputMessage {
  type?: "message";
  role: "developer" | "system" | "user" | "assistant";
  content: string | readonly (ResponseInputText | { type: "output_text"; text: string })[];
}

export interface ResponseInputText {
  type: "input_text";
  text: string;
}

/** A part of an answer, in the order in which the model wrote them. */
export type ResponseOutputItem = ResponseReasoningItem | ResponseOutputMessage | ResponseFunctionToolCall;

export type ResponseItemStatus = "in_progress" | "completed" | "incomplete";

/** What the model thought. */
export interface ResponseReasoningItem {
  type: "reasoning";
  id: string;
  /** Always empty: what was thought is in `content`, whole. */
  summary: never[];
  content: ResponseReasoningText[];
  /** Where it was asked for, the same in a form for clients that send nothing else back. It is not encrypted. */
  encrypted_content?: string | null;
  status: ResponseItemStatus;
}

export interface ResponseReasoningText {
  type: "reasoning_text";
  text: string;
}

/** What the model said. */
export interface ResponseOutputMessage {
  type: "message";
  id: string;
  role: "assistant";
  content: ResponseOutputText[];
  status: ResponseItemStatus;
}

export interface ResponseOutputText {
  type: "output_text";
  text: string;
  annotations: never[];
  logprobs: ResponseLogprob[];
}

/** A token's log probability, as in chat completions. */
export interface ResponseLogprob {
  token: string;
  logprob: number;
  bytes: number[];
  top_logprobs: { token: string; logprob: number; bytes: number[] }[];
}

/** A call of a tool; `incomplete` where the model did not finish it. */
export interface ResponseFunctionToolCall {
  type: "function_call";
  id: string;
  call_id: string;
  name: string;
  /** JSON as the model wrote it. */
  arguments: string;
  status: ResponseItemStatus;
}

/** A response. */
export interface Response {
  id: string;
  object: "response";
  /** In seconds since 1970. */
  created_at: number;
  completed_at: number | null;
  status: "in_progress" | "completed" | "incomplete" | "failed";
  error: { code: "server_error"; message: string } | null;
  incomplete_details: { reason: "max_output_tokens" } | null;
  background: false;
  instructions: string | null;
  max_output_tokens: number | null;
  metadata: Readonly<Record<string, string>>;
  /** The id of the model that answered. */
  model: string;
  output: ResponseOutputItem[];
  /** The texts of its messages. */
  output_text: string;
  parallel_tool_calls: boolean;
  previous_response_id: string | null;
  reasoning: { effort: "low" | "medium" | "high" | null; summary: null };
  service_tier: "default";
  store: boolean;
  temperature: number;
  text: { format: ResponseTextFormat; verbosity: "medium" };
  tool_choice: ResponseToolChoice;
  tools: Required<ResponseFunctionTool>[];
  top_logprobs: number;
  top_p: number;
  truncation: "disabled";
  /** Once the answer is over. */
  usage?: ResponseUsage;
  user?: string;
}

export interface ResponseUsage {
  input_tokens: number;
  /** Nothing is charged for what the context keeps: `cache_write_tokens` is always 0. */
  input_tokens_details: { cached_tokens: number; cache_write_tokens: number };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: number };
  total_tokens: number;
}

/** Where in a response something happens. */
interface AtItem {
  output_index: number;
  item_id: string;
}

/** Where in an item something happens. */
interface AtPart extends AtItem {
  content_index: number;
}

type Part = ResponseOutputText | ResponseReasoningText;

/** What an event of a stream says, beside its number. */
export type ResponseStreamEventBody =
  | {
      type:
        | "response.created"
        | "response.in_progress"
        | "response.completed"
        | "response.incomplete"
        | "response.failed";
      response: Response;
    }
  | {
      type: "response.output_item.added" | "response.output_item.done";
      output_index: number;
      item: ResponseOutputItem;
    }
  | ({ type: "response.content_part.added" | "response.content_part.done"; part: Part } & AtPart)
  | ({ type: "response.output_text.delta"; delta: string; logprobs: ResponseLogprob[] } & AtPart)
  | ({ type: "response.output_text.done"; text: string; logprobs: ResponseLogprob[] } & AtPart)
  | ({ type: "response.reasoning_text.delta"; delta: string } & AtPart)
  | ({ type: "response.reasoning_text.done"; text: string } & AtPart)
  | ({ type: "response.function_call_arguments.delta"; delta: string } & AtItem)
  | ({ type: "response.function_call_arguments.done"; name: string; arguments: string } & AtItem);

/** An event of a streamed response. Numbers count from 0. */
export type ResponseStreamEvent = ResponseStreamEventBody & { sequence_number: number };
