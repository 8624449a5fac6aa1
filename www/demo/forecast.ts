/**
 * What the chosen model would take on this device, shown in its entry before it is loaded. One choice is asked about at
 * a time, and nothing waits for the answer.
 */

import { forecast, type Forecast, type ForecastOptions } from "../pesi.js";
import { announce, byId, fill, released } from "./dom.js";
import * as format from "./format.js";
import { chosenElement, identify, type Choice } from "./picker.js";

/** How long a choice has to stand before it is asked about, in milliseconds: arrow keys pass over entries. */
const PAUSE_MS = 150;

type State = "offered" | "checking" | "known" | "failed";

const panel = byId("forecast", HTMLElement);
const note = byId("forecast-note", HTMLElement);
const facts = byId("forecast-facts", HTMLElement);
const misfit = byId("forecast-misfit", HTMLElement);
const shorterButton = byId("load-shorter", HTMLButtonElement);
const checkButton = byId("check-device", HTMLButtonElement);

let device: ForecastOptions["device"] | undefined;
let shown: { readonly choice: Choice; state: State } | undefined;
let asking: AbortController | undefined;
let longest = 0;

/** Makes the panel's buttons work; `loadShorter` loads with as many tokens as fit. */
export function startForecast(
  on: ForecastOptions["device"] | undefined,
  loadShorter: (contextLength: number) => void,
): void {
  device = on;
  checkButton.addEventListener("click", () => shown !== undefined && void check(shown.choice));
  shorterButton.addEventListener("click", () => loadShorter(longest));
}

/**
 * Shows the panel for a choice: with a forecast, or, where `isFree` is not set, with a button that asks for one. What
 * is shown for that choice already stays.
 */
export function showForecast(choice: Choice, isFree: boolean): void {
  if (shown?.choice.source === choice.source && (shown.state !== "offered" || !isFree)) return;
  hideForecast();
  chosenElement()?.append(panel);
  if (isFree) {
    void check(choice);
    return;
  }
  shown = { choice, state: "offered" };
  show("offered", `Asks ${choice.host ?? "its server"} for the beginning of the model’s files.`);
}

/** Hides the panel, and asks no longer. */
export function hideForecast(): void {
  asking?.abort();
  asking = undefined;
  shown = undefined;
  panel.hidden = true;
}

async function check(choice: Choice): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  asking = controller;
  shown = { choice, state: "checking" };
  show("checking", "Checking what it takes on this device…");
  try {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (signal.aborted) return;
    const found = await forecast(choice.source, { ...(device === undefined ? {} : { device }), signal });
    await released();
    if (signal.aborted) return;
    shown.state = "known";
    showKnown(choice, found);
    // Who asked for it is shown all of it; for others the page stays where it is.
    if (document.activeElement === panel) panel.scrollIntoView({ block: "nearest" });
    identify(choice.source, found.id);
  } catch (error) {
    await released();
    if (signal.aborted) return;
    shown.state = "failed";
    show("failed", `What it takes could not be checked: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function show(state: State, text: string): void {
  const hadFocus = document.activeElement === checkButton;
  panel.hidden = false;
  panel.dataset.state = state;
  note.textContent = text;
  note.hidden = text === "";
  facts.hidden = state !== "known";
  misfit.hidden = true;
  checkButton.hidden = state !== "offered";
  // The button that was pressed is gone: what it brings comes here.
  if (hadFocus && checkButton.hidden) panel.focus();
}

function showKnown(choice: Choice, found: Forecast): void {
  show("known", "");
  const { fits, largestContextLength, contextLength, tokensPerSecond, memory } = found;
  const [largest, asked] = [largestContextLength, contextLength].map(format.count);
  const where = found.device === "webgpu" ? `GPU (${found.deviceName})` : found.deviceName;
  const texts = {
    sizeName: typeof choice.source === "string" ? "Download" : "Size",
    size: sizeText(choice, found),
    device: where,
    memory: memory === undefined ? "" : format.bytes(memory.totalBytes),
    speed: tokensPerSecond === undefined ? "" : `about ${format.rate(tokensPerSecond)} tokens/s`,
    why: found.reason ?? "It does not fit this device.",
    context: largestContextLength > 0 ? `It would fit with ${largest} tokens of context, instead of ${asked}.` : "",
  };
  fill(panel, texts);
  for (const row of facts.children) {
    const value = row.querySelector<HTMLElement>("[data-optional]");
    if (value) (row as HTMLElement).hidden = value.textContent === "";
  }
  panel.dataset.fits = String(fits);
  misfit.hidden = fits;
  longest = largestContextLength;
  shorterButton.hidden = fits || longest === 0;
  shorterButton.textContent = `Load with ${largest} tokens`;
  const spoken = fits
    ? [`${texts.sizeName} ${texts.size}`, texts.memory && `${texts.memory} of memory on the ${where}`, texts.speed]
    : [texts.why, texts.context];
  announce(`${choice.name}: ${spoken.filter((part) => part !== "").join(", ")}`);
}

function sizeText({ source }: Choice, { totalBytes, storedBytes, downloadBytes }: Forecast): string {
  if (typeof source !== "string") return format.bytes(totalBytes);
  if (downloadBytes === 0) return `nothing, all of it is here (${format.bytes(totalBytes)})`;
  const here = storedBytes > 0 ? ` to go, ${format.bytes(storedBytes)} is here` : "";
  return `${format.bytes(downloadBytes)}${here}`;
}
