/** The sheet of stored models: what is there and in which state, to be checked, loaded, gone on with, or removed. */

import { models, PesiError, type StoredModel, type Verification } from "../pesi.js";
import { byId, find, fromTemplate } from "./dom.js";
import * as format from "./format.js";
import * as stored from "./stored.js";

const sheet = byId("storage", HTMLDialogElement);
const list = byId("stored-models", HTMLUListElement);
const space = byId("storage-space", HTMLElement);
const empty = byId("storage-empty", HTMLElement);
const status = byId("storage-status", HTMLElement);
const summary = byId("storage-summary", HTMLElement);
const rows = new Map<string, Row>();

type Mode = "idle" | "verifying" | "confirming" | "removing";
type Action = "load" | "verify" | "cancel" | "remove" | "confirm" | "keep";

/** Which buttons a mode has. */
const ACTIONS: Readonly<Record<Mode, readonly Action[]>> = {
  idle: ["load", "verify", "remove"],
  verifying: ["cancel"],
  confirming: ["confirm", "keep"],
  removing: [],
};

/** Makes the sheet work; `load` is called with the model that is to be loaded or gone on with. */
export function startStorage(load: (model: StoredModel) => void): void {
  onLoad = (model) => {
    sheet.close();
    load(model);
  };
  byId("open-storage", HTMLButtonElement).addEventListener("click", () => {
    status.textContent = "";
    for (const row of rows.values()) row.settle();
    sheet.showModal();
    void stored.refresh();
    void showSpace();
  });
  sheet.addEventListener("click", (event) => {
    // A click on the dialog itself, outside its form, is one on the backdrop.
    if (event.target === sheet) sheet.close();
  });
  sheet.addEventListener("close", () => {
    for (const row of rows.values()) row.cancel();
  });
  stored.onChange(showAll);
  showAll();
}

let onLoad: (model: StoredModel) => void = () => {};

/** Tells people who use a screen reader: while the sheet is open, they are told nothing of what is outside it. */
function say(text: string): void {
  status.textContent = text;
}

function showAll(): void {
  const all = stored.all();
  const gone = new Set(rows.keys());
  for (const model of all) {
    const key = `${model.precision} ${model.id}`;
    gone.delete(key);
    const row = rows.get(key) ?? new Row(model);
    rows.set(key, row);
    row.update(model);
  }
  for (const key of gone) {
    rows.get(key)?.element.remove();
    rows.delete(key);
  }
  // Moving an element takes the focus from it: they are put in order only where they are not.
  const ordered = all.map(({ precision, id }) => rows.get(`${precision} ${id}`)?.element);
  const isOrdered = ordered.every((element, index) => list.children[index] === element);
  if (!isOrdered) list.replaceChildren(...ordered.filter((element) => element !== undefined));
  empty.hidden = all.length > 0;
  empty.textContent = stored.problem() ?? "Nothing is stored yet. A model is kept here when it is loaded.";
  summary.textContent = summaryText(all);
  if (sheet.open) void showSpace();
}

function summaryText(all: readonly StoredModel[]): string {
  if (all.length === 0) return "";
  const partial = all.filter(({ complete }) => !complete).length;
  const whole = all.length - partial;
  const parts = [
    ...(whole > 0 ? [`${whole} ${whole === 1 ? "model" : "models"}`] : []),
    ...(partial > 0 ? [`${partial} interrupted ${partial === 1 ? "download" : "downloads"}`] : []),
  ];
  const bytes = all.reduce((total, { storedBytes }) => total + storedBytes, 0);
  return `In this browser: ${parts.join(" and ")}, ${format.bytes(bytes)}.`;
}

/** What the browser says of its storage; not every browser does. */
async function showSpace(): Promise<void> {
  const parts: string[] = [];
  try {
    const { quota, usage } = await navigator.storage.estimate();
    if (quota !== undefined && usage !== undefined) {
      parts.push(`This site uses ${format.bytes(usage)} of the ${format.bytes(quota)} that the browser gives it.`);
    }
    if (!(await navigator.storage.persisted())) parts.push("The browser may clear it when space runs low.");
  } catch {
    // Said is what is known.
  }
  space.textContent = parts.join(" ");
}

/** One stored model. */
class Row {
  readonly element = fromTemplate("stored-template");
  #model: StoredModel;
  #mode: Mode = "idle";
  #checking: AbortController | undefined;
  readonly #progress = find(this.element, "progress", HTMLProgressElement);
  readonly #note = find(this.element, ".stored-note", HTMLElement);

  constructor(model: StoredModel) {
    this.#model = model;
    const click = (action: Action, listener: () => void): void => {
      this.#button(action).addEventListener("click", listener);
    };
    click("load", () => onLoad(this.#model));
    click("verify", () => void this.#verify());
    click("cancel", () => this.cancel());
    click("remove", () => this.#confirm());
    click("confirm", () => void this.#remove());
    click("keep", () => this.#enter("idle", "", "remove"));
  }

  update(model: StoredModel): void {
    this.#model = model;
    const { id, precision, complete, fromFiles } = model;
    const name = stored.nameOf(model);
    const { dataset } = this.element;
    dataset.id = id;
    dataset.precision = precision;
    dataset.complete = String(complete);
    const text = (selector: string, content: string): void => {
      const element = find(this.element, selector, HTMLElement);
      element.textContent = content;
      element.hidden = content === "";
    };
    text(".stored-name", name);
    text(".stored-size", complete ? format.bytes(model.storedBytes) : `${stored.percentHere(model)}% here`);
    text(".stored-id", name === id ? "" : id);
    text(".stored-facts", factsText(model));
    const names: Readonly<Partial<Record<Action, string>>> = { load: complete ? "Load" : "Resume" };
    for (const action of Object.values(ACTIONS).flat()) {
      const button = this.#button(action);
      button.textContent = names[action] ?? button.textContent;
      button.setAttribute("aria-label", `${button.textContent ?? ""}: ${name}`);
    }
    this.#button("load").classList.toggle("primary", !complete);
    this.#button("load").classList.toggle("quiet", complete);
    this.#progress.setAttribute("aria-label", complete ? `Checking ${name}` : `Downloaded of ${name}`);
    if (this.#mode === "idle") this.#show();
    if (fromFiles) this.#button("load").hidden = true;
  }

  /** Forgets what was said and asked before. */
  settle(): void {
    if (this.#mode === "confirming" || this.#mode === "idle") this.#enter("idle", "");
  }

  /** Ends checking; nothing, where nothing is checked. */
  cancel(): void {
    this.#checking?.abort();
  }

  async #verify(): Promise<void> {
    const { id, precision } = this.#model;
    const controller = new AbortController();
    this.#checking = controller;
    this.#enter("verifying", "Checking…", "cancel");
    let outcome: string;
    try {
      const found = await models.verify(id, {
        precision,
        signal: controller.signal,
        onProgress: ({ phase, loadedBytes, totalBytes }) => {
          const what = phase === "download" ? "Fetching damaged pieces" : "Checking";
          this.#progress.max = Math.max(1, totalBytes);
          this.#progress.value = loadedBytes;
          this.#note.textContent = `${what}: ${format.bytes(loadedBytes)} of ${format.bytes(totalBytes)}`;
        },
      });
      outcome = outcomeText(found, this.#model);
    } catch (error) {
      outcome = failureText(error, "Checking was cancelled.");
    }
    this.#checking = undefined;
    this.#enter("idle", outcome, "verify");
    await stored.refresh();
  }

  #confirm(): void {
    const { storedBytes, fromFiles } = this.#model;
    const again = fromFiles ? "Its files have to be picked again" : "It has to be downloaded again";
    this.#enter("confirming", `Remove ${format.bytes(storedBytes)}? ${again} to be loaded.`, "keep");
  }

  async #remove(): Promise<void> {
    const { id, precision } = this.#model;
    this.#enter("removing", "Removing…");
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    try {
      const { removedBytes } = await models.remove(id, { precision });
      say(`${stored.nameOf(this.#model)} was removed: ${format.bytes(removedBytes)} are free again`);
    } catch (error) {
      this.#enter("idle", failureText(error, "Removing was cancelled."), "remove");
      return;
    }
    await stored.refresh();
    const button = next?.querySelector<HTMLElement>("button:not([hidden])");
    (button ?? find(sheet, ".sheet-head button", HTMLButtonElement)).focus();
  }

  /** Changes the mode, with a word on it, and takes the focus along to the button of `focus`. */
  #enter(mode: Mode, text: string, focus?: Action): void {
    const hadFocus = this.element.contains(document.activeElement);
    this.#mode = mode;
    this.#note.textContent = text;
    this.#show();
    if (hadFocus && focus !== undefined) this.#button(focus).focus();
    if (text !== "") say(text);
  }

  #show(): void {
    const { complete, fromFiles, downloadBytes, downloadedBytes } = this.#model;
    this.element.dataset.mode = this.#mode;
    this.#note.hidden = this.#note.textContent === "";
    for (const [mode, actions] of Object.entries(ACTIONS)) {
      for (const action of actions) this.#button(action).hidden = mode !== this.#mode;
    }
    if (fromFiles) this.#button("load").hidden = true;
    if (!complete) this.#button("verify").hidden = true;
    if (this.#mode === "verifying") {
      this.#progress.removeAttribute("value");
    } else {
      this.#progress.max = Math.max(1, downloadBytes);
      this.#progress.value = downloadedBytes;
    }
    this.#progress.hidden = complete && this.#mode !== "verifying";
  }

  #button(action: Action): HTMLButtonElement {
    return find(this.element, `[data-action=${action}]`, HTMLButtonElement);
  }
}

function factsText(model: StoredModel): string {
  const { architecture, parameters, precision, complete, verified, fromFiles } = model;
  const parts = [architecture, `${format.short(parameters)} weights`, ...(precision === "exact" ? ["exact"] : [])];
  if (!complete) {
    parts.push(`${format.bytes(model.downloadedBytes)} of ${format.bytes(model.downloadBytes)}`);
    if (fromFiles) parts.push("choose its files again to go on");
  } else {
    if (fromFiles) parts.push("from files of yours: choose them again to load it");
    if (verified) parts.push("matches its published SHA-256");
  }
  parts.push(format.day(model.createdAt).replaceAll(" ", "\u00a0"));
  // A line may end with a dot, and does not begin with one.
  return parts.join("\u00a0· ");
}

function outcomeText({ ok, checkedBytes, damagedPieces, repairedPieces }: Verification, model: StoredModel): string {
  const pieces = `${damagedPieces} damaged ${damagedPieces === 1 ? "piece" : "pieces"}`;
  if (damagedPieces === 0 && !ok) return "It is not whole.";
  if (damagedPieces === 0) return `Nothing is damaged: ${format.bytes(checkedBytes)} checked.`;
  if (ok) return `Sound again: ${pieces} fetched anew.`;
  const repaired = repairedPieces > 0 ? `, ${repairedPieces} of them fetched anew` : "";
  const way = model.fromFiles ? "Load it from its files again." : "Remove it, and load it again.";
  return `There are ${pieces}${repaired}. ${way}`;
}

function failureText(error: unknown, aborted: string): string {
  if (error instanceof PesiError && error.kind === "aborted") return aborted;
  return error instanceof Error ? error.message : String(error);
}
