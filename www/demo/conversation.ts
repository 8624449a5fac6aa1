/** The conversation: what was said, how it is shown, and the answer that is being written. */

import { PesiError, type ChatCompletionMessageParam, type CompletionUsage, type Model } from "../pesi.js";
import { announce, byId, find, fromTemplate } from "./dom.js";
import * as format from "./format.js";
import { MarkdownView } from "./markdown.js";
import { ReasoningView } from "./reasoning-view.js";
import { current as currentSettings } from "./settings.js";

/** How much of a finished answer a screen reader is told at once, in characters. */
const ANNOUNCED_LENGTH = 600;
/** How near to the end, in pixels, counts as reading along. */
const NEAR_END = 96;

const main = byId("main", HTMLElement);
const messages = byId("messages", HTMLElement);
const toEnd = byId("to-end", HTMLButtonElement);

/** A conversation with one model. */
export class Conversation {
  readonly #model: Model;
  readonly #onBusy: (busy: boolean) => void;
  readonly #turns: ChatCompletionMessageParam[] = [];
  #answering: AbortController | undefined;
  #closed = false;

  /** `onBusy` is told when an answer begins and ends. */
  constructor(model: Model, onBusy: (busy: boolean) => void) {
    this.#model = model;
    this.#onBusy = onBusy;
    messages.replaceChildren();
  }

  get busy(): boolean {
    return this.#answering !== undefined;
  }

  /** Adds a message of the user's and answers it. */
  async ask(text: string): Promise<void> {
    const message = fromTemplate("user-template");
    find(message, ".bubble", HTMLElement).textContent = text;
    messages.append(message);
    // A message that got no answer is no part of the conversation: many templates want the two to alternate.
    if (this.#turns.at(-1)?.role === "user") this.#turns.pop();
    this.#turns.push({ role: "user", content: text });
    await this.#answer();
  }

  /** Answers the last message once more, in place of the last answer. */
  async answerAgain(): Promise<void> {
    if (this.busy || this.#turns.length === 0) return;
    if (this.#turns.at(-1)?.role === "assistant") this.#turns.pop();
    const last = messages.lastElementChild;
    if (last?.classList.contains("assistant")) last.remove();
    await this.#answer();
  }

  /** Stops the answer under way. */
  stop(): void {
    this.#answering?.abort();
  }

  /** Ends the conversation: the answer under way is stopped and nothing is told any more. */
  close(): void {
    this.#closed = true;
    this.stop();
  }

  async #answer(): Promise<void> {
    const controller = new AbortController();
    this.#answering = controller;
    this.#onBusy(true);
    const view = new AnswerView(() => void this.answerAgain());
    announce("Answering");
    try {
      const { system, temperature, topP, effort, maxTokens, seed } = currentSettings();
      const stream = await this.#model.chat.completions.create(
        {
          messages: [...(system === "" ? [] : [{ role: "system" as const, content: system }]), ...this.#turns],
          stream: true,
          stream_options: { include_usage: true },
          temperature,
          top_p: topP,
          reasoning_effort: effort ?? null,
          max_tokens: maxTokens ?? null,
          seed: seed ?? null,
        },
        { signal: controller.signal },
      );
      for await (const { choices, usage } of stream) {
        const [choice] = choices;
        if (choice?.delta.reasoning_content) view.addReasoning(choice.delta.reasoning_content);
        if (choice?.delta.content) view.add(choice.delta.content);
        if (choice?.malformed) view.remark(choice.malformed);
        if (choice?.finish_reason === "length") view.end("done", "Stopped at the longest length");
        else if (choice?.finish_reason) view.end("done");
        if (usage) view.showUsage(usage);
      }
    } catch (error) {
      const aborted = error instanceof PesiError && error.kind === "aborted";
      if (aborted) view.end("stopped", "Stopped");
      else view.fail(error);
    }
    // What was written counts as said, finished or not, unless there is nothing.
    if (view.text !== "") this.#turns.push({ role: "assistant", content: view.text });
    this.#answering = undefined;
    if (this.#closed) return;
    this.#onBusy(false);
    announce(view.spoken());
  }
}

/** One answer on the page, growing. */
class AnswerView {
  text = "";
  readonly #element = fromTemplate("assistant-template");
  readonly #reasoning = new ReasoningView(this.#element);
  readonly #markdown = new MarkdownView(find(this.#element, ".answer", HTMLElement));
  readonly #remark = find(this.#element, ".remark", HTMLElement);
  readonly #stats = find(this.#element, ".stats", HTMLElement);
  readonly #askedAt = performance.now();
  #firstAt = 0;
  #lastAt = 0;
  #pieces = 0;
  #usage: CompletionUsage | undefined;
  #note = "";
  #failure = "";
  #ended = false;
  #frame = 0;

  constructor(again: () => void) {
    document.getElementById("stats")?.removeAttribute("id");
    this.#stats.id = "stats";
    this.#element.dataset.state = "waiting";
    this.#element.setAttribute("aria-busy", "true");
    find(this.#element, "[data-action=again]", HTMLButtonElement).addEventListener("click", again);
    const copy = find(this.#element, "[data-action=copy]", HTMLButtonElement);
    copy.addEventListener("click", () => {
      void navigator.clipboard.writeText(this.text).then(
        () => announce("Answer copied"),
        () => announce("The browser did not allow copying"),
      );
    });
    messages.append(this.#element);
    scrollToEnd(true);
  }

  /** Adds text; it is drawn with the next frame. */
  add(text: string): void {
    const wasThinking = this.#reasoning.isThinking;
    this.#reasoning.answer();
    if (wasThinking) announce(`${this.#reasoning.title}. Answering`);
    this.text += text;
    this.#element.dispatchEvent(new CustomEvent("answer-text", { bubbles: true, detail: text }));
    this.#count("writing");
  }

  /** Adds what the model thinks. */
  addReasoning(text: string): void {
    if (!this.#reasoning.isThinking) announce("Thinking");
    this.#reasoning.add(text);
    this.#count("thinking");
  }

  /** Says under the answer what is malformed in it; the first time is enough. */
  remark(malformed: string): void {
    if (!this.#remark.hidden) return;
    this.#remark.textContent = `The model broke the format of its answers, so this one may lack something: ${malformed}.`;
    this.#remark.hidden = false;
  }

  /** Ends the answer, with a word on why where it was cut short. */
  end(state: "done" | "stopped", note = ""): void {
    this.#note = note;
    this.#finish(state);
  }

  /** Ends the answer with an error. */
  fail(error: unknown): void {
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.textContent = explain(error);
    find(this.#element, ".answer", HTMLElement).after(notice);
    this.#failure = notice.textContent;
    this.#finish("failed");
  }

  /** Shows the exact token counts, which come after the end. */
  showUsage(usage: CompletionUsage): void {
    this.#usage = usage;
    this.#showStats();
  }

  /** What a screen reader is told at the end. */
  spoken(): string {
    const answer = find(this.#element, ".answer", HTMLElement).textContent ?? "";
    const more = answer.length > ANNOUNCED_LENGTH ? "…" : "";
    const remark = this.#remark.textContent ?? "";
    const spoken = [this.#failure, this.#note, remark, answer.slice(0, ANNOUNCED_LENGTH) + more];
    return spoken.filter((part) => part !== "").join(": ");
  }

  #count(state: "thinking" | "writing"): void {
    const now = performance.now();
    if (this.#pieces === 0) this.#firstAt = now;
    this.#pieces += 1;
    this.#lastAt = now;
    this.#element.dataset.state = state;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#frame = 0;
    this.#reasoning.draw();
    this.#markdown.show(this.text);
    this.#showStats();
    scrollToEnd(false);
  }

  #finish(state: string): void {
    cancelAnimationFrame(this.#frame);
    this.#reasoning.pause();
    this.#ended = true;
    this.#draw();
    this.#element.dataset.state = state;
    this.#element.removeAttribute("aria-busy");
    find(this.#element, ".message-actions", HTMLElement).hidden = false;
    scrollToEnd(false);
  }

  #showStats(): void {
    // While it is written, pieces of text stand for tokens: nearly each token is one.
    const tokens = this.#usage?.completion_tokens ?? this.#pieces;
    const parts: string[] = [];
    if (this.#pieces > 0) {
      const seconds = (this.#lastAt - this.#firstAt) / 1000;
      if (tokens > 1 && seconds > 0) {
        const speed = (tokens - 1) / seconds;
        this.#stats.dataset.tokensPerSecond = String(speed);
        parts.push(`${format.rate(speed)} tokens/s`);
      }
      const wait = this.#firstAt - this.#askedAt;
      this.#stats.dataset.timeToFirstTokenMs = String(wait);
      parts.push(`${format.duration(wait)} to first token`);
    }
    if (this.#ended && tokens > 0) parts.push(`${format.count(tokens)} ${tokens === 1 ? "token" : "tokens"}`);
    if (this.#note !== "") parts.push(this.#note.toLowerCase());
    this.#stats.textContent = parts.join(" · ");
  }
}

function explain(error: unknown): string {
  if (!(error instanceof PesiError)) return `Something went wrong: ${String(error)}`;
  if (error.kind === "context_exceeded") {
    const advice = "The conversation has outgrown what the model can hold in mind. Start a new chat to go on.";
    return `${advice} (${error.message})`;
  }
  return error.message;
}

function isNearEnd(): boolean {
  return main.scrollHeight - main.scrollTop - main.clientHeight < NEAR_END;
}

let readingAlong = true;

/** Keeps the end in view for those who read along; `force` takes everybody there. */
function scrollToEnd(force: boolean): void {
  if (!force && !readingAlong) return;
  main.scrollTop = main.scrollHeight;
  readingAlong = true;
}

/** Follows where the reader is, and offers the way back to the end. */
export function startScrolling(): void {
  main.addEventListener(
    "scroll",
    () => {
      readingAlong = isNearEnd();
      toEnd.hidden = readingAlong;
    },
    { passive: true },
  );
  toEnd.addEventListener("click", () => scrollToEnd(true));
}
