/** Small helpers over the document. The page's markup is its own, so that an element missing from it is a defect. */

/** The element with this id, which is of this class. */
export function byId<T extends Element>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (element instanceof type) return element;
  throw new Error(`The page has no ${type.name} with the id ${id}`);
}

/** The first element under `root` that matches, which is of this class. */
export function find<T extends Element>(root: ParentNode, selector: string, type: new () => T): T {
  const element = root.querySelector(selector);
  if (element instanceof type) return element;
  throw new Error(`The page has no ${type.name} at ${selector}`);
}

/** A copy of the one element in a template. */
export function fromTemplate(id: string): HTMLElement {
  const copy = byId(id, HTMLTemplateElement).content.firstElementChild?.cloneNode(true);
  if (copy instanceof HTMLElement) return copy;
  throw new Error(`The template ${id} is empty`);
}

/** Writes texts into the descendants that carry their names in `data-field`. */
export function fill(root: ParentNode, texts: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(texts)) {
    for (const element of root.querySelectorAll(`[data-field="${name}"]`)) {
      if (element.textContent !== text) element.textContent = text;
    }
  }
}

const status = byId("status", HTMLElement);

/** Tells people who use a screen reader what has changed; for changes of state, never token by token. */
export function announce(text: string): void {
  status.textContent = text;
}

let isPressed = false;
let onRelease: (() => void)[] = [];

/**
 * Resolves once nothing is being clicked on. What moves between a button's going down and coming up takes the click
 * from it; leaving a field by pressing a button, and answers that come meanwhile, must not.
 */
export function released(): Promise<void> {
  return isPressed ? new Promise((resolve) => onRelease.push(resolve)) : Promise.resolve();
}

document.addEventListener("mousedown", () => (isPressed = true), { capture: true });
for (const end of ["mouseup", "dragend", "blur"]) {
  window.addEventListener(
    end,
    ({ type, target }) => {
      if (type === "blur" && target !== window) return;
      isPressed = false;
      const waiting = onRelease;
      onRelease = [];
      // The click itself comes right after.
      setTimeout(() => waiting.forEach((resolve) => resolve()));
    },
    { capture: true },
  );
}
