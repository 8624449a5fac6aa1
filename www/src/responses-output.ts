/** An answer's pieces → the items of a response and the events of its stream. */

import type { AnswerPiece } from "./answer.js";
import { hasLogprob, logprobOf, usageOf, type Answered } from "./chat-shape.js";
import { nowInSeconds, randomId } from "./ids.js";
import type {
  Response,
  ResponseFunctionToolCall,
  ResponseItemStatus,
  ResponseOutputItem,
  ResponseOutputMessage,
  ResponseReasoningItem,
  ResponseStreamEvent,
  ResponseStreamEventBody,
  ResponseUsage,
} from "./openai-responses.js";
import type { AnswerToken } from "./protocol.js";
import { sealed } from "./responses-input.js";
import type { ResponseRequest } from "./responses-params.js";

type Kind = Exclude<AnswerPiece["kind"], "neither">;

/** Makes one response; `emit` is called with what happens to it. */
export class ResponseWriter {
  /** The response as it is now. */
  readonly #response: Response;
  readonly #request: ResponseRequest;
  readonly #emit: (event: ResponseStreamEvent) => void;
  #nextNumber = 0;
  #open: { readonly kind: Kind; readonly item: ResponseOutputItem } | undefined;

  constructor(request: ResponseRequest, emit: (event: ResponseStreamEvent) => void) {
    this.#request = request;
    this.#response = structuredClone(request.response);
    this.#emit = emit;
  }

  /** Says that the answer is asked for. */
  begin(): void {
    this.#tell({ type: "response.created", response: this.#copy() });
    this.#tell({ type: "response.in_progress", response: this.#copy() });
  }

  /** Adds what a token adds. */
  write(piece: AnswerPiece, token: AnswerToken): void {
    if (piece.kind === "neither") return;
    const isFurther = this.#open?.kind === piece.kind && !piece.begins;
    if (!isFurther) {
      // What is not a call is opened by its first text.
      if (piece.text === "" && piece.kind !== "call") return;
      this.#close("completed");
      this.#start(piece);
    }
    const { item } = this.#open as { item: ResponseOutputItem };
    const at = { output_index: this.#response.output.length - 1, item_id: item.id };
    switch (item.type) {
      case "message": {
        const [part] = item.content as [ResponseOutputMessage["content"][0]];
        const logprobs = this.#request.logprobs && hasLogprob(token) ? [logprobOf(token)] : [];
        part.text += piece.text;
        part.logprobs.push(...logprobs);
        if (piece.text === "" && logprobs.length === 0) break;
        this.#tell({ type: "response.output_text.delta", ...at, content_index: 0, delta: piece.text, logprobs });
        break;
      }
      case "reasoning": {
        const [part] = item.content as [ResponseReasoningItem["content"][0]];
        part.text += piece.text;
        if (piece.text === "") break;
        this.#tell({ type: "response.reasoning_text.delta", ...at, content_index: 0, delta: piece.text });
        break;
      }
      case "function_call":
        item.arguments += piece.text;
        if (token.malformed !== undefined) item.status = "incomplete";
        if (piece.text === "") break;
        this.#tell({ type: "response.function_call_arguments.delta", ...at, delta: piece.text });
        break;
    }
  }

  /** Says that the answer is over, and how it went. */
  finish(answered: Answered): Response {
    const isCut = answered.result.finishReason === "length";
    this.#close(isCut ? "incomplete" : "completed");
    this.#response.status = isCut ? "incomplete" : "completed";
    if (isCut) this.#response.incomplete_details = { reason: "max_output_tokens" };
    else this.#response.completed_at = nowInSeconds();
    this.#response.usage = usage(answered);
    this.#tell({ type: isCut ? "response.incomplete" : "response.completed", response: this.#copy() });
    return this.#copy();
  }

  /** Says that there will be no answer. */
  fail(message: string): void {
    this.#response.status = "failed";
    this.#response.error = { code: "server_error", message };
    this.#tell({ type: "response.failed", response: this.#copy() });
  }

  #start(piece: Exclude<AnswerPiece, { kind: "neither" }>): void {
    const item = this.#newItem(piece);
    this.#open = { kind: piece.kind, item };
    const output_index = this.#response.output.push(item) - 1;
    const isCall = item.type === "function_call";
    const bare = isCall ? item : { ...item, content: [] };
    this.#tell({ type: "response.output_item.added", output_index, item: structuredClone(bare) });
    if (isCall) return;
    const part = structuredClone(item.content[0] as ResponseOutputMessage["content"][0]);
    this.#tell({ type: "response.content_part.added", output_index, item_id: item.id, content_index: 0, part });
  }

  #newItem(piece: Exclude<AnswerPiece, { kind: "neither" }>): ResponseOutputItem {
    switch (piece.kind) {
      case "content": {
        const part = { type: "output_text" as const, text: "", annotations: [], logprobs: [] };
        return { type: "message", id: randomId("msg_"), role: "assistant", content: [part], status: "in_progress" };
      }
      case "reasoning": {
        const part = { type: "reasoning_text" as const, text: "" };
        return { type: "reasoning", id: randomId("rs_"), summary: [], content: [part], status: "in_progress" };
      }
      case "call": {
        const { id, name } = piece.call;
        const fields = { call_id: id, name, arguments: "", status: "in_progress" as const };
        return { type: "function_call", id: randomId("fc_"), ...fields };
      }
    }
  }

  #close(status: ResponseItemStatus): void {
    if (this.#open === undefined) return;
    const { item } = this.#open;
    this.#open = undefined;
    const output_index = this.#response.output.length - 1;
    if (item.status === "in_progress") item.status = status;
    if (item.type === "function_call") this.#closeCall(item, output_index);
    else this.#closePart(item, output_index);
    this.#tell({ type: "response.output_item.done", output_index, item: structuredClone(item) });
  }

  #closeCall({ id, name, arguments: written }: ResponseFunctionToolCall, output_index: number): void {
    const at = { output_index, item_id: id };
    this.#tell({ type: "response.function_call_arguments.done", ...at, name, arguments: written });
  }

  #closePart(item: ResponseOutputMessage | ResponseReasoningItem, output_index: number): void {
    const at = { output_index, item_id: item.id, content_index: 0 };
    const part = structuredClone(item.content[0] as ResponseOutputMessage["content"][0]);
    const { text } = part;
    if (item.type === "message") {
      this.#tell({ type: "response.output_text.done", ...at, text, logprobs: part.logprobs });
    } else {
      if (this.#request.sealsReasoning) item.encrypted_content = sealed(text);
      this.#tell({ type: "response.reasoning_text.done", ...at, text });
    }
    this.#tell({ type: "response.content_part.done", ...at, part });
  }

  #tell(body: ResponseStreamEventBody): void {
    this.#emit({ ...body, sequence_number: this.#nextNumber });
    this.#nextNumber += 1;
  }

  /** What was told of a response does not change with what follows. */
  #copy(): Response {
    return structuredClone({ ...this.#response, output_text: outputText(this.#response) });
  }
}

function usage(answered: Answered): ResponseUsage {
  const { prompt_tokens, completion_tokens, total_tokens, ...details } = usageOf([answered]);
  return {
    input_tokens: prompt_tokens,
    input_tokens_details: { ...details.prompt_tokens_details, cache_write_tokens: 0 },
    output_tokens: completion_tokens,
    output_tokens_details: details.completion_tokens_details ?? { reasoning_tokens: 0 },
    total_tokens,
  };
}

function outputText({ output }: Response): string {
  const parts = output.flatMap((item) => (item.type === "message" ? item.content : []));
  return parts.map(({ text }) => text).join("");
}
