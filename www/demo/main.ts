/**
 * The demo page: choose a model, watch it load, talk with it. Everything about models goes through the package.
 *
 * Parameters of the address: `?device=cpu` or `?device=webgpu` instead of the package's choice, `?model=ADDRESS` to
 * have an address chosen already.
 *
 * Tests and other programs may rely on these ids:
 * - `#load` loads the chosen model; `#progress` is the bar meanwhile, a `<progress>` with value and max in bytes, or
 *   without a value where there is no size; `#cancel-load` gives up; `#load-error` says what failed;
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

import { load, PesiError, type LoadOptions, type Model, type ModelInfo, type Progress } from "../pesi.js";
import { Conversation, startScrolling } from "./conversation.js";
import { announce, byId, fill } from "./dom.js";
import * as format from "./format.js";
import { currentChoice, startPicker, type Choice } from "./picker.js";
import { offerEffort, startSettings, suggest } from "./settings.js";

const SUGGESTIONS = [
  "What is the capital of France?",
  "Explain photosynthesis to a child.",
  "Write a Python function that reverses a string.",
  "Give me three names for a bakery.",
];

const parameters = new URLSearchParams(location.search);
const picker = byId("picker", HTMLElement);
const pickerForm = byId("picker-form", HTMLFormElement);
const loadError = byId("load-error", HTMLElement);
const loading = byId("loading", HTMLElement);
const cancelButton = byId("cancel-load", HTMLButtonElement);
const progressBar = byId("progress", HTMLProgressElement);
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

type View = "picker" | "loading" | "chat";

function show(view: View): void {
  document.body.dataset.view = view;
  picker.hidden = view === "chat";
  pickerForm.hidden = view !== "picker";
  loading.hidden = view !== "loading";
  for (const element of [chat, composer, newChatButton, deviceButton]) element.hidden = view !== "chat";
}

async function loadChosen(): Promise<void> {
  const choice = currentChoice();
  if (typeof choice === "string") {
    showLoadError(choice);
    return;
  }
  loadError.hidden = true;
  const controller = new AbortController();
  loadingController = controller;
  show("loading");
  startProgress(choice.name);
  cancelButton.focus();
  const device = parameters.get("device");
  try {
    model = await load(choice.source, {
      // Whatever the address says is handed on: the package says what is wrong with it.
      ...(device === null ? {} : { device: device as NonNullable<LoadOptions["device"]> }),
      onProgress: showProgress,
      signal: controller.signal,
    });
    startChat(model, choice);
  } catch (error) {
    show("picker");
    if (error instanceof PesiError && error.kind === "aborted") announce("Loading was cancelled");
    else showLoadError(error instanceof Error ? error.message : String(error));
    byId("load", HTMLButtonElement).focus();
  } finally {
    loadingController = undefined;
  }
}

function showLoadError(text: string): void {
  loadError.textContent = text;
  loadError.hidden = false;
  loadError.scrollIntoView({ block: "nearest" });
}

const PHASES: Readonly<Record<Progress["phase"], string>> = {
  download: "Downloading",
  load: "Moving to the device:",
  compile: "Preparing",
};

let progressName = "";
let announcedQuarter = 0;

function startProgress(name: string): void {
  progressName = name;
  announcedQuarter = 0;
  progressBar.removeAttribute("value");
  delete loading.dataset.phase;
  fill(loading, { title: `Opening ${name}`, percent: "", bytes: "", speed: "", eta: "" });
  announce(`Loading ${name}`);
}

function showProgress({ phase, loadedBytes, totalBytes, bytesPerSecond, etaSeconds }: Progress): void {
  if (loading.dataset.phase !== phase) {
    loading.dataset.phase = phase;
    announcedQuarter = 0;
    for (const step of loading.querySelectorAll<HTMLElement>("[data-phase]")) {
      step.toggleAttribute("data-current", step.dataset.phase === phase);
    }
  }
  const inBytes = phase !== "compile";
  const known = inBytes && totalBytes > 0;
  const share = known ? Math.min(1, loadedBytes / totalBytes) : 0;
  if (known) {
    progressBar.max = totalBytes;
    progressBar.value = loadedBytes;
  } else {
    progressBar.removeAttribute("value");
  }
  const isTimed = known && share < 1 && bytesPerSecond > 0 && Number.isFinite(etaSeconds);
  const amount = known ? `${format.bytes(loadedBytes)} of ${format.bytes(totalBytes)}` : format.bytes(loadedBytes);
  fill(loading, {
    title: `${PHASES[phase]} ${progressName}`,
    percent: known ? `${Math.floor(share * 100)}%` : "",
    bytes: inBytes ? amount : "",
    speed: inBytes && bytesPerSecond > 0 ? `${format.bytes(bytesPerSecond)}/s` : "",
    eta: isTimed ? format.timeLeft(etaSeconds) : "",
  });
  const quarter = Math.floor(share * 4);
  if (quarter > announcedQuarter) {
    announcedQuarter = quarter;
    announce(`${PHASES[phase]} ${progressName}: ${quarter * 25} percent`);
  }
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
  return storageError === undefined ? `${size}, now in this browser’s storage` : `${size}, not in this browser’s storage`;
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
  byId("load", HTMLButtonElement).focus();
  await leaving?.dispose();
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
show("picker");
startPicker(parameters.get("model")).catch((error: unknown) => showLoadError(String(error)));
