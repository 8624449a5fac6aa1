/** The memory of a browser that this program runs: of all its processes together. Linux only. */
import fs from "node:fs";

const SAMPLE_INTERVAL_MS = 500;

/**
 * Samples the proportional set size of this process's descendants.
 *
 * @returns {{peak: () => number | undefined, stop: () => void}} `peak` gives bytes, `undefined` where the system does
 *   not tell.
 */
export function watchMemory() {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, descendants(process.pid).reduce((sum, pid) => sum + setSize(pid), 0));
  }, SAMPLE_INTERVAL_MS);
  return { peak: () => peak || undefined, stop: () => clearInterval(timer) };
}

function descendants(ancestor) {
  const children = new Map();
  for (const pid of processes()) {
    const parent = Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(pid)]);
  }
  const below = (pid) => (children.get(pid) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(ancestor);
}

function processes() {
  return fs.existsSync("/proc") ? fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : [];
}

/** Proportional set size in bytes. */
function setSize(pid) {
  return Number(/^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}

/** A file of a process, which may end at any time. */
function read(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
