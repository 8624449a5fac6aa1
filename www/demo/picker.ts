/** The list of models to choose from: those of models.json, files or a folder, an address. */

import type { ModelSource, StoredModel } from "../pesi.js";
import { lastPart, readAddress } from "./address.js";
import { byId, find, fromTemplate } from "./dom.js";
import * as format from "./format.js";
import type { Sampling } from "./settings.js";
import * as stored from "./stored.js";

/** An entry of models.json. */
interface ListedModel {
  readonly name: string;
  /** What `load` takes. */
  readonly source: string;
  /** Size of the download. */
  readonly bytes: number;
  readonly license: string;
  readonly by: string;
  readonly description: string;
  readonly sampling?: Sampling;
}

/** What was chosen. */
export interface Choice {
  readonly source: ModelSource;
  /** What to call it until the model itself is known. */
  readonly name: string;
  /** Whether `name` is the list's, which stands over the one in the model's metadata. */
  readonly isListed: boolean;
  /** Its id in browser storage, as far as it is known. */
  readonly id?: string;
  /** The server that has it, where that is another one than the page's. */
  readonly host?: string;
  readonly sampling?: Sampling;
}

/** Files or a folder of this device. */
type Picked = Pick<Choice, "source" | "name">;

/** Told of each new choice; `isTyping` while an address is being written and may not be whole. */
type ChoiceListener = (isTyping: boolean) => void;

const choices = byId("choices", HTMLFieldSetElement);
const files = byId("files", HTMLInputElement);
const folder = byId("folder", HTMLInputElement);
const pickedText = byId("picked", HTMLElement);
const url = byId("url", HTMLInputElement);
const loadButton = byId("load", HTMLButtonElement);
const listed = new Map<string, ListedModel>();
let picked: Picked | undefined;
/** What the package called a choice, and the choice's source. */
let identified: { readonly source: ModelSource; readonly id: string } | undefined;
let onChoice: ChoiceListener = () => {};

/** Fills the list; `address`, where given, is put into the address field and chosen. */
export async function startPicker(address: string | null, listener: ChoiceListener): Promise<void> {
  onChoice = listener;
  choices.addEventListener("change", () => showChoice());
  url.addEventListener("input", () => showChoice(true));
  stored.onChange(showStored);
  files.addEventListener("change", () => pickFiles(files));
  folder.addEventListener("change", () => pickFiles(folder));
  byId("choose-files", HTMLButtonElement).addEventListener("click", () => files.click());
  byId("choose-folder", HTMLButtonElement).addEventListener("click", () => void chooseFolder());
  url.addEventListener("focus", () => check("url"));
  if (address !== null) {
    url.value = address;
    check("url");
  }
  const models = await fetchModels();
  choices.prepend(choices.querySelector("legend") ?? "", ...models.map(modelChoice));
  const [first] = models;
  if (address !== null && listed.has(address)) check(address);
  else if (first !== undefined && chosen() === null) check(first.source);
  showStored();
  showChoice();
}

/** The choice as it stands, or a sentence on what is missing. */
export function currentChoice(): Choice | string {
  const choice = incompleteChoice();
  return typeof choice === "string" || identified?.source !== choice.source ? choice : { ...choice, id: identified.id };
}

function incompleteChoice(): Choice | string {
  const value = chosen()?.value;
  if (value === "url") {
    const address = url.value.trim();
    if (address === "") return "Enter the address of a model.";
    return { ...readAddress(address, document.baseURI), source: address, name: lastPart(address), isListed: false };
  }
  if (value === "files") {
    return picked === undefined ? "Choose a model’s files or its folder." : { ...picked, isListed: false };
  }
  const model = value === undefined ? undefined : listed.get(value);
  if (model === undefined) return "Choose a model.";
  return { ...readAddress(model.source, document.baseURI), ...model, isListed: true };
}

/** Chooses a stored model: the list's entry for it, or else its address. */
export function chooseStored({ id }: StoredModel): void {
  const entry = [...listed.keys()].find((source) => readAddress(source, document.baseURI).id === id);
  if (entry === undefined) url.value = id;
  check(entry ?? "url");
}

/** Takes note of the id that the package has for a choice. */
export function identify(source: ModelSource, id: string): void {
  identified = { source, id };
  showStored();
}

/** The element of what is chosen, for more to be shown in it. */
export function chosenElement(): HTMLElement | null {
  return chosen()?.closest<HTMLElement>(".choice") ?? null;
}

async function fetchModels(): Promise<readonly ListedModel[]> {
  const response = await fetch(new URL("models.json", import.meta.url));
  if (!response.ok) throw new Error(`The list of models could not be read: ${response.status}`);
  return (await response.json()) as readonly ListedModel[];
}

function modelChoice(model: ListedModel, index: number): HTMLElement {
  const choice = fromTemplate("choice-template");
  const radio = find(choice, "input", HTMLInputElement);
  radio.id = `choice-${index}`;
  radio.value = model.source;
  find(choice, "label", HTMLLabelElement).htmlFor = radio.id;
  find(choice, ".choice-name", HTMLElement).textContent = model.name;
  find(choice, ".choice-meta", HTMLElement).textContent = `${format.bytes(model.bytes)} · ${model.license} · ${model.by}`;
  find(choice, ".choice-note", HTMLElement).textContent = model.description;
  listed.set(model.source, model);
  return choice;
}

function pick(what: Picked): void {
  picked = what;
  pickedText.textContent = what.name;
  check("files");
}

/** Takes what an input for files or a folder holds; the same may be chosen again. */
function pickFiles(input: HTMLInputElement): void {
  const source = [...(input.files ?? [])];
  input.value = "";
  const [first] = source;
  // Closing the browser's dialog leaves what was picked before.
  if (first === undefined) return;
  const inFolder = /^[^/]+/.exec(first.webkitRelativePath)?.[0];
  const more = source.length === 1 ? "" : ` and ${format.count(source.length - 1)} more`;
  pick({ source, name: inFolder ?? `${first.name}${more}` });
}

async function chooseFolder(): Promise<void> {
  const { showDirectoryPicker } = window as { showDirectoryPicker?: () => Promise<FileSystemDirectoryHandle> };
  // Without a handle the browser lists the folder with all that is below it, and asks whether to "upload" that.
  if (showDirectoryPicker === undefined) {
    folder.click();
    return;
  }
  try {
    const handle = await showDirectoryPicker();
    pick({ source: handle, name: handle.name });
  } catch (error) {
    const isClosed = error instanceof DOMException && error.name === "AbortError";
    if (!isClosed) pickedText.textContent = `The browser did not open the folder: ${String(error)}`;
  }
}

function chosen(): HTMLInputElement | null {
  return choices.querySelector<HTMLInputElement>("input[name=model]:checked");
}

function radios(): NodeListOf<HTMLInputElement> {
  return choices.querySelectorAll<HTMLInputElement>("input[name=model]");
}

function check(value: string): void {
  for (const radio of radios()) {
    if (radio.value === value) radio.checked = true;
  }
  showChoice();
}

function showChoice(isTyping = false): void {
  showLoadButton();
  onChoice(isTyping);
}

/** Says of each entry, and on the button, what is here already. */
function showStored(): void {
  for (const radio of radios()) {
    const model = listed.get(radio.value);
    const state = radio.closest(".choice")?.querySelector<HTMLElement>(".choice-state");
    if (model === undefined || !state) continue;
    const here = stored.withId(readAddress(model.source, document.baseURI).id);
    state.hidden = here === undefined;
    if (here === undefined) continue;
    state.toggleAttribute("data-partial", !here.complete);
    state.textContent = here.complete ? "Stored here" : `Resume: ${stored.percentHere(here)}% here`;
  }
  showLoadButton();
}

function showLoadButton(): void {
  const choice = currentChoice();
  const model = listed.get(chosen()?.value ?? "");
  const here = typeof choice === "string" ? undefined : stored.withId(choice.id);
  let label = model === undefined ? "Load model" : `Load model · ${format.bytes(model.bytes)}`;
  if (here?.complete) label = "Load model · stored here";
  else if (here !== undefined) label = `Resume · ${stored.percentHere(here)}% here`;
  loadButton.textContent = label;
}
