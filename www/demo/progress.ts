/** The card that shows how far loading a model is. */

import type { Progress } from "../pesi.js";
import { announce, byId, fill } from "./dom.js";
import * as format from "./format.js";

const PHASES: Readonly<Record<Progress["phase"], string>> = {
  download: "Downloading",
  load: "Moving to the device:",
  compile: "Preparing",
  verify: "Checking",
};

const loading = byId("loading", HTMLElement);
const progressBar = byId("progress", HTMLProgressElement);

let progressName = "";
let announcedQuarter = 0;

/** Begins anew, for the model called `name`. */
export function startProgress(name: string): void {
  progressName = name;
  announcedQuarter = 0;
  progressBar.removeAttribute("value");
  delete loading.dataset.phase;
  fill(loading, { title: `Opening ${name}`, percent: "", bytes: "", speed: "", eta: "" });
  announce(`Loading ${name}`);
}

/** Shows how far it is, and says so aloud at each quarter. */
export function showProgress({ phase, loadedBytes, totalBytes, bytesPerSecond, etaSeconds }: Progress): void {
  const inBytes = phase !== "compile";
  const known = inBytes && totalBytes > 0;
  const share = known ? Math.min(1, loadedBytes / totalBytes) : 0;
  const quarter = Math.floor(share * 4);
  if (loading.dataset.phase !== phase) {
    loading.dataset.phase = phase;
    // What was there from the start is no news.
    announcedQuarter = quarter;
    for (const step of loading.querySelectorAll<HTMLElement>("[data-phase]")) {
      step.toggleAttribute("data-current", step.dataset.phase === phase);
    }
  }
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
  if (quarter > announcedQuarter) {
    announcedQuarter = quarter;
    announce(`${PHASES[phase]} ${progressName}: ${quarter * 25} percent`);
  }
}
