/**
 * Markdown that grows. The text is cut into top-level blocks, and only blocks whose source changed are made anew, so
 * that what has been written stays still, and selected, while the answer goes on below it.
 */

import { find, fromTemplate } from "./dom.js";
import DOMPurify from "./vendor/dompurify.js";
import { Lexer, parser, type Token } from "./vendor/marked.js";

const OPTIONS = { gfm: true, breaks: false };

/** Nothing that loads, runs, styles or asks for input: an image's address could carry the conversation away. */
const SANITIZE = {
  RETURN_DOM_FRAGMENT: true as const,
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["img", "picture", "video", "audio", "source", "style", "form", "input", "button", "textarea", "select"],
  FORBID_ATTR: ["style", "id", "name"],
};

interface Block {
  readonly source: string;
  readonly nodes: readonly Node[];
}

/** One answer's text, shown in an element. */
export class MarkdownView {
  readonly #root: HTMLElement;
  #blocks: Block[] = [];

  constructor(root: HTMLElement) {
    this.#root = root;
  }

  /** Shows `text`, which usually begins with what was shown before. */
  show(text: string): void {
    const tokens = new Lexer(OPTIONS).lex(text);
    // Links defined anywhere are used everywhere: where there are definitions, they count as part of each block.
    const definitions = JSON.stringify(tokens.links);
    const blocks = tokens.filter((token) => token.type !== "space");
    const sources = blocks.map((token) => `${token.raw}\0${definitions}`);

    let same = 0;
    while (same < sources.length && this.#blocks[same]?.source === sources[same]) same += 1;
    for (const stale of this.#blocks.splice(same)) for (const node of stale.nodes) node.parentNode?.removeChild(node);

    blocks.slice(same).forEach((token, index) => {
      const fragment = render(token, tokens.links);
      this.#blocks.push({ source: sources[same + index] ?? "", nodes: [...fragment.childNodes] });
      this.#root.append(fragment);
    });
  }
}

function render(token: Token, links: Lexer["tokens"]["links"]): DocumentFragment {
  const html = parser(Object.assign([token], { links }), OPTIONS);
  const fragment = DOMPurify.sanitize(html, SANITIZE);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = document.createElement("div");
    scroller.className = "table";
    table.replaceWith(scroller);
    scroller.append(table);
  }
  for (const block of fragment.querySelectorAll("pre")) frameCode(block);
  return fragment;
}

/** Puts a code block into a frame with its language and a button that copies it. */
function frameCode(block: HTMLPreElement): void {
  const code = block.textContent ?? "";
  const language = /\blanguage-(\S+)/.exec(block.firstElementChild?.className ?? "")?.[1] ?? "";
  const frame = fromTemplate("code-template");
  find(frame, ".code-language", HTMLElement).textContent = language;
  const button = find(frame, ".code-copy", HTMLButtonElement);
  button.setAttribute("aria-label", language === "" ? "Copy code" : `Copy ${language} code`);
  button.addEventListener("click", () => void copy(code, button));
  block.tabIndex = 0;
  block.replaceWith(frame);
  frame.append(block);
}

/** Copies `text` and says on the button, for a moment, whether that worked. */
async function copy(text: string, button: HTMLButtonElement): Promise<void> {
  const outcome = await navigator.clipboard.writeText(text).then(
    () => "Copied",
    () => "Not allowed",
  );
  button.textContent = outcome;
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
