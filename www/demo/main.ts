/**
 * The demo page: choose a model, watch it load, talk with it. Everything about models goes through the package.
 *
 * Parameters of the address: `?device=cpu` or `?device=webgpu` instead of the package's choice, `?model=ADDRESS` to
 * have an address chosen already.
 *
 * Tests and other programs may rely on these ids:
 * - `#load` loads the chosen model, or goes on where a download broke off; `#progress` is the bar meanwhile, a
 *   `<progress>` with value and max in bytes, or without a value where there is no size; `#cancel-load` gives up;
 *   `#load-error` says what failed, and `#load-unstored` is there where it would do without browser storage;
 * - `#forecast`, in the chosen entry, says what the model would take: its `data-state` goes from `checking` to `known`
 *   or `failed`, or is `offered` until `#check-device` is pressed; `data-fits` is `true` or `false`, `#forecast-misfit`
 *   says why, and `#load-shorter` loads with the context that would fit;
 * - `#open-storage` opens `#storage`, the sheet of stored models: `#stored-models` holds an `li` for each, with
 *   `data-id`, `data-precision`, `data-complete`, a `data-mode` of `idle`, `verifying`, `confirming` or `removing`, and
 *   buttons with the `data-action` `load` (also to resume), `verify`, `cancel`, `remove`, `confirm`, `keep`;
 *   `#storage-summary`, beside the button, says what there is, `#storage-space` how full storage is;
 * - `#prompt` takes the message, `#send` sends it, `#stop` stops the answer and is there only while one is written;
 * - `#messages` holds an `article.user` or `article.assistant` per message; an assistant's `data-state` goes from
 *   `waiting` over `thinking`, where the model reasons, and `writing` to `done`, `stopped` or `failed`, and its text
 *   is in `.answer`; as text comes, the event `answer-text` bubbles up with the new piece of Markdown as its `detail`;
 *   what the model thought is in `.reasoning-text`, and what is malformed is said in `.remark`;
 * - `#stats` is the line of numbers under the last answer, with `data-tokens-per-second` and
 *   `data-time-to-first-token-ms`;
 * - `#device` says the device, the reason for it, and where the weights came from; its `data-device` is `webgpu` or
 *   `cpu`, its `data-from-storage` `true` or `false`; `#not-stored` is there where the model could not be kept, and why;
 * - `body[data-view]` is `picker`, `loading` or `chat`.
 */

import { load, PesiError, type LoadOptions, type Model, type ModelInfo, type StoredModel } from "../pesi.js";
import { Conversation, startScrolling } from "./conversation.js";
import { announce, byId, fill, released } from "./dom.js";
import { hideForecast, showForecast, startForecast } from "./forecast.js";
import * as format from "./format.js";
import { chooseStored, currentChoice, startPicker, type Choice } from "./picker.js";
import { showProgress, startProgress } from "./progress.js";
import { offerEffort, startSettings, suggest } from "./settings.js";
import { startStorage } from "./storage-view.js";
import * as stored from "./stored.js";

const SUGGESTIONS = [
  "What is the capital of France?",
  "Explain photosynthesis to a child.",
  "Write a Python function that reverses a string.",
  "Give me three names for a bakery.",
];

const parameters = new URLSearchParams(location.search);
// Whatever the address says is handed on: the package says what is wrong with it.
const device = (parameters.get("device") ?? undefined) as LoadOptions["device"] | undefined;
const picker = byId("picker", HTMLElement);
const pickerForm = byId("picker-form", HTMLFormElement);
const loadButton = byId("load", HTMLButtonElement);
const loadError = byId("load-error", HTMLElement);
const unstoredButton = byId("load-unstored", HTMLButtonElement);
const storageLine = byId("storage-line", HTMLElement);
const loading = byId("loading", HTMLElement);
const cancelButton = byId("cancel-load", HTMLButtonElement);
const chat = byId("chat", HTMLElement);
const composer = byId("composer", HTMLElement);
const welcome = byId("welcome", HTMLElement);
const promptForm = byId("prompt-form", HTMLFormElement);
const promptField = byId("prompt", HTMLTextAreaElement);
const sendButton = byId("send", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const newChatButton = byId("new-chat", HTMLButtonElement);
const devicePanel = byId("device", HTMLElement);
const deviceButton = byId("device-button", HTMLButtonElement);

let model: Model | undefined;
let conversation: Conversation | undefined;
let loadingController: AbortController | undefined;
/** How the last load was to be, beside what the page has no say in. */
let lastSettings: LoadSettings = {};
let knowsStored = false;
let choiceTurn = 0;

type LoadSettings = Pick<LoadOptions, "cache" | "contextLength" | "precision">;
type View = "picker" | "loading" | "chat";

function show(view: View): void {
  document.body.dataset.view = view;
  picker.hidden = view === "chat";
  for (const element of [pickerForm, storageLine]) element.hidden = view !== "picker";
  loading.hidden = view !== "loading";
  for (const element of [chat, composer, newChatButton, deviceButton]) element.hidden = view !== "chat";
}

/** Shows what the chosen model would take; of other servers' only once somebody asks, or if some of it is here. */
async function showChosen(isTyping: boolean): Promise<void> {
  const turn = ++choiceTurn;
  await released();
  // What was chosen or typed meanwhile has its own turn.
  if (turn !== choiceTurn || document.body.dataset.view !== "picker" || !knowsStored) return;
  const choice = currentChoice();
  if (typeof choice === "string") return hideForecast();
  const isFree = choice.host === undefined || stored.withId(choice.id) !== undefined;
  // Half an address is nothing to ask for.
  if (isTyping && isFree) hideForecast();
  else showForecast(choice, isFree);
}

/** Asks what is stored, and then what the chosen model would take. */
async function lookAround(): Promise<void> {
  await stored.refresh();
  knowsStored = true;
  await showChosen(false);
}

async function loadChosen(settings: LoadSettings = {}): Promise<void> {
  const choice = currentChoice();
  if (typeof choice === "string") {
    showLoadError(choice);
    return;
  }
  hideForecast();
  loadError.hidden = true;
  unstoredButton.hidden = true;
  lastSettings = settings;
  const controller = new AbortController();
  loadingController = controller;
  show("loading");
  startProgress(choice.name);
  cancelButton.focus();
  try {
    model = await load(choice.source, {
      ...settings,
      ...(device === undefined ? {} : { device }),
      onProgress: showProgress,
      signal: controller.signal,
    });
    startChat(model, choice);
  } catch (error) {
    show("picker");
    void lookAround();
    if (error instanceof PesiError && error.kind === "aborted") announce("Loading was cancelled");
    else showFailure(error);
    loadButton.focus();
  } finally {
    loadingController = undefined;
  }
}

function resume(chosen: StoredModel): void {
  chooseStored(chosen);
  void loadChosen({ precision: chosen.precision });
}

function showFailure(error: unknown): void {
  if (!(error instanceof PesiError) || error.kind !== "quota_exceeded") {
    showLoadError(error instanceof Error ? error.message : String(error));
    return;
  }
  const { needed, stored: here, quota, usage } = error.details;
  const size = (bytes: number | string | undefined): string => (typeof bytes === "number" ? format.bytes(bytes) : "");
  const parts = ["There is no room to store the model in this browser."];
  if (needed !== undefined) parts.push(`It takes ${size(needed)}, of which ${size(here ?? 0)} is stored.`);
  if (quota !== undefined && usage !== undefined) {
    parts.push(`The browser gives this site ${size(quota)}, and ${size(usage)} of that is in use.`);
  }
  unstoredButton.hidden = false;
  showLoadError(parts.join(" "));
}

function showLoadError(text: string): void {
  loadError.textContent = text;
  loadError.hidden = false;
  loadError.scrollIntoView({ block: "nearest" });
}

function startChat(loaded: Model, choice: Choice): void {
  const { info } = loaded;
  const name = choice.isListed ? choice.name : (info.name ?? choice.name);
  const facts = {
    model: name,
    device: info.device === "webgpu" ? `GPU: ${info.deviceName}` : info.deviceName,
    reason: info.deviceReason,
    storage: storageText(info),
    unstored: unstoredText(info),
    memory: format.bytes(info.memory.totalBytes),
    context: `${format.count(info.contextLength)} tokens`,
    summary: `${name} is ready. It runs on the ${info.device === "webgpu" ? `GPU (${info.deviceName})` : info.deviceName}.`,
  };
  fill(devicePanel, facts);
  fill(chat, facts);
  fill(deviceButton, { model: name, device: info.device === "webgpu" ? "GPU" : "CPU" });
  devicePanel.dataset.device = info.device;
  devicePanel.dataset.fromStorage = String(info.fromStorage);
  byId("stored", HTMLElement).hidden = !info.fromStorage;
  byId("not-stored", HTMLElement).hidden = info.storageError === undefined;
  suggest(choice.sampling);
  offerEffort(info.chatFormat === "harmony");
  show("chat");
  startConversation(loaded);
  announce([facts.summary, info.deviceReason, facts.unstored].filter((part) => part !== "").join(" "));
}

function storageText({ fromStorage, storageError, memory }: ModelInfo): string {
  const size = format.bytes(memory.weightsBytes);
  if (fromStorage) return `${size}, from this browser’s storage: nothing was downloaded`;
  const isStored = storageError === undefined && lastSettings.cache !== false;
  return isStored ? `${size}, now in this browser’s storage` : `${size}, not in this browser’s storage`;
}

function unstoredText({ storageError }: ModelInfo): string {
  if (storageError === undefined) return "";
  return `The model could not be stored, so the next visit fetches it again: ${storageError}`;
}

function startConversation(loaded: Model): void {
  conversation?.close();
  conversation = new Conversation(loaded, showBusy);
  welcome.hidden = false;
  showBusy(false);
  promptField.focus();
}

function showBusy(busy: boolean): void {
  const hadFocus = document.activeElement === stopButton || document.activeElement === sendButton;
  sendButton.hidden = busy;
  stopButton.hidden = !busy;
  showSendable();
  if (hadFocus) promptField.focus();
}

function showSendable(): void {
  sendButton.disabled = promptField.value.trim() === "";
}

function send(text: string): void {
  if (conversation === undefined || conversation.busy || text === "") return;
  welcome.hidden = true;
  void conversation.ask(text);
}

async function changeModel(): Promise<void> {
  conversation?.close();
  devicePanel.hidePopover();
  const leaving = model;
  model = undefined;
  conversation = undefined;
  show("picker");
  loadButton.focus();
  await leaving?.dispose();
  await lookAround();
}

function fitPrompt(): void {
  if (CSS.supports("field-sizing", "content")) return;
  promptField.style.height = "auto";
  promptField.style.height = `${promptField.scrollHeight}px`;
}

pickerForm.addEventListener("submit", (event) => {
  event.preventDefault();
  void loadChosen();
});
unstoredButton.addEventListener("click", () => void loadChosen({ ...lastSettings, cache: false }));
cancelButton.addEventListener("click", () => loadingController?.abort());
promptForm.addEventListener("submit", (event) => {
  event.preventDefault();
  if (conversation?.busy) return;
  const text = promptField.value.trim();
  promptField.value = "";
  fitPrompt();
  send(text);
});
promptField.addEventListener("input", () => {
  fitPrompt();
  showSendable();
});
promptField.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  promptForm.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  // Escape closes an open sheet or panel first; the browser does that.
  if (event.key !== "Escape" || document.querySelector("dialog[open], [popover]:popover-open") !== null) return;
  conversation?.stop();
});
stopButton.addEventListener("click", () => conversation?.stop());
newChatButton.addEventListener("click", () => model !== undefined && startConversation(model));
byId("change-model", HTMLButtonElement).addEventListener("click", () => void changeModel());
byId("suggestions", HTMLUListElement).append(
  ...SUGGESTIONS.map((suggestion) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "suggestion";
    button.textContent = suggestion;
    button.addEventListener("click", () => {
      promptField.focus();
      send(suggestion);
    });
    item.append(button);
    return item;
  }),
);

startSettings();
startScrolling();
startStorage(resume);
startForecast(device, (contextLength) => void loadChosen({ contextLength }));
stored.onChange(() => {
  // What is here has changed, and so has what is still to be fetched.
  hideForecast();
  void showChosen(false);
});
show("picker");
startPicker(parameters.get("model"), (isTyping) => void showChosen(isTyping)).catch((error: unknown) => {
  showLoadError(String(error));
});
void lookAround();
