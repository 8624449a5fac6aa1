/**
 * In place of the package's worker: it asks the test what to answer, and plays that. It speaks the protocol of
 * www/src/protocol.ts; the package and the page above it are the real ones. Runs in the browser.
 *
 * The test answers `POST /played` with a list of steps: `{ event }`, `{ wait }` in milliseconds, and as the last
 * `{ result }`, `{ error }` or, so that no answer comes, none of them.
 */
const cancelled = new Set();

self.onmessage = async ({ data: { type, id, method, params } }) => {
  if (type === "cancel") {
    cancelled.add(id);
    const error = { kind: "aborted", message: "cancelled", details: {} };
    self.postMessage({ type: "error", id, error, fatal: false });
    return;
  }
  const response = await fetch("/played", { method: "POST", body: JSON.stringify({ method, params }) });
  for (const { event, wait, result, error } of await response.json()) {
    if (wait !== undefined) await new Promise((resolve) => setTimeout(resolve, wait));
    if (cancelled.has(id)) return;
    if (event !== undefined) self.postMessage({ type: "event", id, event });
    if (result !== undefined) self.postMessage({ type: "result", id, value: result });
    if (error !== undefined) self.postMessage({ type: "error", id, error: { details: {}, ...error }, fatal: false });
  }
};
