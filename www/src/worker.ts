/**
 * The worker that owns a model, or answers one question about models: it starts the WebAssembly module, chooses the
 * device, and answers the page's requests as protocol.ts lays them out. What computes waits its turn; what only
 * tokenizes is answered at once.
 */

import { chooseDevice, cpuName, extendDevices, workOn, type DeviceChoice, type Target } from "./device.js";
import { PesiError, toWire } from "./errors.js";
import { grammars, templates } from "./modules.js";
import initWasm, { forecast, listModels, Model, removeModel, verifyModel, type Generation } from "./pesi_wasm.js";
import type {
  EngineGenerateOptions,
  FromWorker,
  GenerateInput,
  Method,
  Methods,
  Request,
  ToWorker,
} from "./protocol.js";
import { withTeam } from "./team.js";
import { Turns } from "./turns.js";
import type { GenerationResult } from "./types.js";

/** What a handler gets beside its parameters. */
interface Context<M extends Method> {
  readonly signal: AbortSignal;
  readonly emit: (event: Methods[M]["event"]) => void;
}

type Handlers = {
  [M in Method]: (params: Methods[M]["params"], context: Context<M>) => Promise<Methods[M]["result"]>;
};

/** The part of the worker's global scope in use; the DOM's types describe a window's. */
interface WorkerScope {
  readonly isSecureContext: boolean;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer: Transferable[]): void;
}

const scope = self as unknown as WorkerScope;
const running = new Map<number, AbortController>();
let model: Model | undefined;
const turns = new Turns();
const NO_TOKENS = new Uint32Array();

const handlers: Handlers = {
  async load({ source, device, options }, { signal, emit }) {
    const { result, choice } = await onDevice(device, (target) =>
      Model.load(source, { ...options, ...target, signal, onProgress: emit }),
    );
    model = result;
    return { ...model.info(), deviceName: choice.name, deviceReason: choice.reason };
  },

  async forecast({ source, device, options }, { signal }) {
    const { result, choice } = await onDevice(device, (target) => forecast(source, { ...options, ...target, signal }));
    return { ...result, device: choice.device, deviceName: choice.name, deviceReason: choice.reason };
  },

  async listModels(params) {
    await initWasm();
    return listModels(params);
  },

  async removeModel(params) {
    await initWasm();
    return removeModel(params);
  },

  async verifyModel(params, { signal, emit }) {
    await initWasm();
    return verifyModel({ ...params, signal, onProgress: emit });
  },

  async encode({ text }) {
    return loaded().encode(text);
  },

  async decode({ ids }) {
    return loaded().decode(ids);
  },

  logits({ tokens }, { signal }) {
    return turns.take(signal, () => loaded().logits(tokens, signal));
  },

  hiddenStates({ tokens }, { signal }) {
    return turns.take(signal, () => loaded().hiddenStates(tokens, signal));
  },

  async generate({ input, options }, { signal, emit }) {
    await prepare(loaded(), input, options, signal);
    let generation = undefined as Generation | undefined;
    const isAwaited = (): boolean => turns.isAwaited;
    const run = (): Promise<GenerationResult | undefined> => {
      generation ??= begin(loaded(), input, options);
      return generation.run(signal, isAwaited, emit);
    };
    try {
      for (;;) {
        const result = await turns.take(signal, run);
        if (result !== undefined) return result;
        // It gave way, and comes after those that it gave way to.
      }
    } finally {
      generation?.free();
    }
  },

  memory(_, { signal }) {
    return turns.take(signal, () => {
      const { heapBytes, ...others } = loaded().memoryInUse();
      return { ...others, heapBytes: heapBytes + templates.heapBytes + grammars.heapBytes };
    });
  },

  dispose() {
    for (const controller of running.values()) controller.abort();
    return turns.take(undefined, async () => {
      const report = await loaded().dispose();
      model = undefined;
      return report;
    });
  },
};

/** Starts the module, chooses the device, and does `work` for it, on the CPU with more threads if there are any. */
async function onDevice<T>(
  requested: "auto" | "webgpu" | "cpu",
  work: (target: Target) => Promise<T>,
): Promise<{ readonly result: T; readonly choice: DeviceChoice }> {
  extendDevices(globalThis);
  const [chosen] = await Promise.all([
    chooseDevice(requested, navigator.gpu as GPU | undefined, scope.isSecureContext),
    initWasm(),
  ]);
  const { result: done, choice } = await workOn(requested, chosen, async (target) =>
    target.device === "cpu" ? withTeam((team) => work({ ...target, team })) : { result: await work(target), threads: 1 },
  );
  const { result, threads } = done;
  return { result, choice: threads > 1 ? { ...choice, name: cpuName(threads) } : choice };
}

function loaded(): Model {
  if (model === undefined) throw new PesiError("disposed", "The worker holds no model");
  return model;
}

/** Has the modules ready that an answer needs. Others may compute meanwhile. */
async function prepare(
  engine: Model,
  { kind }: GenerateInput,
  options: EngineGenerateOptions,
  signal: AbortSignal,
): Promise<void> {
  const isChat = kind === "messages";
  const needed = [];
  if (isChat && engine.info().chatFormat === "template") needed.push(templates);
  if (engine.isGuided({ ...options, tokens: NO_TOKENS, chat: isChat })) needed.push(grammars);
  await Promise.all(needed.map((module) => module.ready(signal)));
}

function begin(engine: Model, input: GenerateInput, options: EngineGenerateOptions): Generation {
  return engine.begin({ ...options, tokens: promptTokens(engine, input), chat: input.kind === "messages" });
}

function promptTokens(engine: Model, input: GenerateInput): Uint32Array {
  switch (input.kind) {
    case "prompt":
      return engine.encodePrompt(input.prompt);
    case "tokens":
      return input.tokens;
    case "messages":
      return engine.renderChat(input.messages, input.options);
  }
}

async function answer<M extends Method>(request: Request & { method: M }): Promise<void> {
  const { id, method, params } = request;
  const controller = new AbortController();
  if (method !== "dispose") running.set(id, controller);
  const post = (message: FromWorker, transfer: Transferable[] = []): void => scope.postMessage(message, transfer);
  try {
    const handler = handlers[method] as Handlers[M];
    const value = await handler(params as Methods[M]["params"], {
      signal: controller.signal,
      emit: (event) => post({ type: "event", id, event }),
    });
    post({ type: "result", id, value }, ArrayBuffer.isView(value) ? [value.buffer as ArrayBuffer] : []);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) {
      // A trap leaves the module's memory in an unknown state: nothing may run in it any more.
      const message = `The model's worker failed and has to be loaded again: ${error.message}`;
      post({ type: "error", id, error: { kind: "internal", message, details: {} }, fatal: true });
    } else {
      post({ type: "error", id, error: toWire(error), fatal: false });
    }
  } finally {
    running.delete(id);
  }
}

scope.onmessage = ({ data: message }) => {
  if (message.type === "cancel") running.get(message.id)?.abort();
  else void answer(message);
};
