/** The list of models to choose from: those of models.json, files or a folder, an address. */

import { byId, find, fromTemplate } from "./dom.js";
import * as format from "./format.js";
import type { ModelSource } from "../pesi.js";
import type { Sampling } from "./settings.js";

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
  readonly sampling?: Sampling;
}

/** Files or a folder of this device. */
type Picked = Pick<Choice, "source" | "name">;

const choices = byId("choices", HTMLFieldSetElement);
const files = byId("files", HTMLInputElement);
const folder = byId("folder", HTMLInputElement);
const pickedText = byId("picked", HTMLElement);
const url = byId("url", HTMLInputElement);
const loadButton = byId("load", HTMLButtonElement);
const listed = new Map<string, ListedModel>();
let picked: Picked | undefined;

/** Fills the list; `address`, where given, is put into the address field and chosen. */
export async function startPicker(address: string | null): Promise<void> {
  choices.addEventListener("change", showChoice);
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
  else if (first !== undefined && chosen() === undefined) check(first.source);
  showChoice();
}

/** The choice as it stands, or a sentence on what is missing. */
export function currentChoice(): Choice | string {
  const value = chosen();
  if (value === "url") {
    const address = url.value.trim();
    if (address === "") return "Enter the address of a model.";
    return { source: address, name: lastPart(address), isListed: false };
  }
  if (value === "files") {
    return picked === undefined ? "Choose a model’s files or its folder." : { ...picked, isListed: false };
  }
  const model = value === undefined ? undefined : listed.get(value);
  return model === undefined ? "Choose a model." : { ...model, isListed: true };
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

/** The last part of an address's path, without a query. */
function lastPart(address: string): string {
  return /([^/]+)\/*$/.exec(address.replace(/[?#].*$/, ""))?.[1] ?? address;
}

function chosen(): string | undefined {
  return choices.querySelector<HTMLInputElement>("input[name=model]:checked")?.value;
}

function check(value: string): void {
  for (const radio of choices.querySelectorAll<HTMLInputElement>("input[name=model]")) {
    if (radio.value === value) radio.checked = true;
  }
  showChoice();
}

function showChoice(): void {
  const model = listed.get(chosen() ?? "");
  loadButton.textContent = model === undefined ? "Load model" : `Load model · ${format.bytes(model.bytes)}`;
}
