/**
 * In place of the package's worker: a model that answers in harmony, without an engine. It speaks the protocol of
 * www/src/protocol.ts; the package and the page above it are the real ones. Runs in the browser.
 */
const THOUGHTS = ["The user ", "asks for ", "the capital. ", "That is Paris."];
const SAID = ["It is ", "**Paris**", "."];
const PAUSE_MS = 60;

const INFO = {
  id: "openai/gpt-oss-20b",
  architecture: "gpt-oss",
  parameters: 1,
  contextLength: 64,
  vocabularySize: 100,
  device: "cpu",
  deviceName: "CPU",
  deviceReason: "Because.",
  memory: { weightsBytes: 1, cacheBytes: 1, scratchBytes: 1, totalBytes: 3 },
  fromStorage: false,
  chatTemplate: true,
  chatFormat: "harmony",
  layers: 2,
  hiddenSize: 8,
};

const RESULT = {
  finishReason: "stop",
  promptTokens: 7,
  cachedTokens: 0,
  completionTokens: THOUGHTS.length + SAID.length,
  prefillMs: 1,
  decodeMs: 1,
  timeToFirstTokenMs: 1,
};

self.onmessage = async ({ data: { type, id, method, params } }) => {
  if (type !== "request") return;
  if (method === "load") self.postMessage({ type: "result", id, value: INFO });
  if (method !== "generate") return;
  const { messages, options } = params.input;
  const effort = `Effort: ${options.reasoningEffort}. `;
  const tokens = [
    ...[effort, ...THOUGHTS].map((text) => ({ text, channel: "analysis", messageIndex: 0 })),
    { text: "" },
    ...SAID.map((text) => ({ text, channel: "final", messageIndex: 1 })),
  ];
  const question = messages.at(-1).content;
  if (/break/.test(question)) tokens.push({ text: "", malformed: "a message ends within its header" });
  if (/invent/.test(question)) {
    tokens.push(
      { text: "", otherAuthor: true, messageIndex: 2, malformed: "a message is not from the assistant" },
      { text: "Thanks, and Spain?", otherAuthor: true, messageIndex: 2 },
    );
  }
  for (const token of tokens) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    self.postMessage({ type: "event", id, event: [{ token: 1, ...token }] });
  }
  self.postMessage({ type: "result", id, value: RESULT });
};
