/**
 * The worker's end of the protocol, played by a test: it records what the page posts and posts what the test says.
 */
export class ScriptedWorker {
  /** Messages from the page, in order. */
  posted = [];
  terminated = false;
  #listeners = new Map();
  #expecting = [];

  postMessage(message) {
    // As the browser does: the receiver gets a copy, and what cannot be copied throws.
    this.posted.push(structuredClone(message));
    for (const check of [...this.#expecting]) check();
  }

  addEventListener(type, listener) {
    this.#listeners.set(type, listener);
  }

  terminate() {
    this.terminated = true;
  }

  /** Resolves to the first message that fits, once it is posted. */
  message(fits) {
    return new Promise((resolve) => {
      const check = () => {
        const found = this.posted.find(fits);
        if (found === undefined) return;
        this.#expecting = this.#expecting.filter((other) => other !== check);
        resolve(found);
      };
      this.#expecting.push(check);
      check();
    });
  }

  /** The nth request for a method, counted from 0. */
  request(method, nth = 0) {
    return this.message((message) => {
      const requests = this.posted.filter((other) => other.type === "request" && other.method === method);
      return requests[nth] === message;
    });
  }

  event(id, event) {
    this.#dispatch("message", { data: { type: "event", id, event } });
  }

  result(id, value) {
    this.#dispatch("message", { data: { type: "result", id, value } });
  }

  error(id, kind, { fatal = false, message = kind, details = {} } = {}) {
    this.#dispatch("message", { data: { type: "error", id, error: { kind, message, details }, fatal } });
  }

  crash(message) {
    this.#dispatch("error", { message });
  }

  #dispatch(type, event) {
    this.#listeners.get(type)?.(event);
  }
}

/** What `load` would have told of a model. */
export const INFO = {
  id: "test/model.gguf",
  architecture: "llama",
  parameters: 1,
  contextLength: 64,
  vocabularySize: 100,
  device: "cpu",
  deviceName: "CPU",
  deviceReason: "Because.",
  memory: { weightsBytes: 1, cacheBytes: 1, scratchBytes: 1, totalBytes: 3, heapBytes: 4 },
  fromStorage: false,
  chatTemplate: true,
  chatFormat: "template",
  layers: 2,
  hiddenSize: 8,
};

/** What it would have told of a model that answers in harmony. */
export const HARMONY = { ...INFO, chatFormat: "harmony" };

/** How a generation of `completionTokens` went. */
export function generationResult(completionTokens, finishReason = "stop") {
  return {
    finishReason,
    promptTokens: 7,
    cachedTokens: 3,
    completionTokens,
    prefillMs: 5,
    decodeMs: 9,
    timeToFirstTokenMs: 6,
  };
}

/** For `assert.rejects` and `assert.throws`: a PesiError of a kind, with these details among its own. */
export function pesiError(kind, details = {}) {
  return (error) => {
    const facts = Object.entries(details).every(([name, value]) => error.details?.[name] === value);
    if (error.name === "PesiError" && error.kind === kind && facts) return true;
    throw new Error(`${error.name} ${error.kind}: ${error.message} ${JSON.stringify(error.details)}`);
  };
}
