/** The list of models to choose from: those of models.json, a file, an address. */

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

const choices = byId("choices", HTMLFieldSetElement);
const file = byId("file", HTMLInputElement);
const url = byId("url", HTMLInputElement);
const loadButton = byId("load", HTMLButtonElement);
const listed = new Map<string, ListedModel>();

/** Fills the list; `address`, where given, is put into the address field and chosen. */
export async function startPicker(address: string | null): Promise<void> {
  choices.addEventListener("change", showChoice);
  file.addEventListener("change", () => check("file"));
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
    if (address === "") return "Enter the address of a .gguf file.";
    return { source: address, name: address.replace(/^.*\//, ""), isListed: false };
  }
  if (value === "file") {
    const [picked] = file.files ?? [];
    return picked === undefined ? "Choose a .gguf file." : { source: picked, name: picked.name, isListed: false };
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
