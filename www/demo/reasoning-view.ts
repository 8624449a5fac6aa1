/** The panel of an answer that shows what the model thinks. It is there once there is something to show. */

import { find } from "./dom.js";
import { Reasoning } from "./reasoning.js";

/** How near to the end of the panel, in pixels, counts as reading along. */
const NEAR_END = 24;

/** One answer's panel, a `details` in the answer's element. */
export class ReasoningView {
  readonly #reasoning = new Reasoning();
  readonly #panel: HTMLDetailsElement;
  readonly #title: HTMLElement;
  readonly #scroller: HTMLElement;
  readonly #shown = document.createTextNode("");

  constructor(answer: HTMLElement) {
    this.#panel = find(answer, ".reasoning", HTMLDetailsElement);
    this.#title = find(this.#panel, ".reasoning-title", HTMLElement);
    this.#scroller = find(this.#panel, ".reasoning-text", HTMLElement);
    this.#scroller.append(this.#shown);
    find(this.#panel, "summary", HTMLElement).addEventListener("click", () => {
      // The click comes before what it does.
      this.#reasoning.choose(!this.#panel.open);
    });
  }

  get isThinking(): boolean {
    return this.#reasoning.isThinking;
  }

  get title(): string {
    return this.#reasoning.title(performance.now());
  }

  add(text: string): void {
    this.#reasoning.add(text, performance.now());
  }

  answer(): void {
    this.#reasoning.answer(performance.now());
  }

  pause(): void {
    this.#reasoning.pause(performance.now());
  }

  /** Brings the panel up to date; what it shows already stays still, and selected. */
  draw(): void {
    const { text, isOpen } = this.#reasoning;
    if (text === "") return;
    const { title } = this;
    if (this.#title.textContent !== title) this.#title.textContent = title;
    this.#panel.hidden = false;
    if (this.#panel.open !== isOpen) this.#panel.open = isOpen;
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    const isReadingAlong = scrollHeight - scrollTop - clientHeight < NEAR_END;
    this.#shown.appendData(text.slice(this.#shown.length));
    if (isReadingAlong) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }
}
