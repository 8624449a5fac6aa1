/** A worker that computes a share of a model for the worker that owns it. */

import { Board, type BoardPlan } from "./board.js";
import { toWire, type WireError } from "./errors.js";
import initWasm, { Follower } from "./pesi_wasm.js";

/** What the owner sends: the share, once, then what to do with it. */
export type ToThread =
  | {
      readonly type: "join";
      readonly module: WebAssembly.Module;
      readonly program: unknown;
      readonly contextLength: number;
      readonly board: BoardPlan;
      readonly rank: number;
    }
  | { readonly type: "order"; readonly words: Uint32Array; readonly bytes: Uint8Array };

/** How joining went. */
export type FromThread = { readonly type: "ready" } | { readonly type: "failed"; readonly error: WireError };

/** The part of the worker's global scope in use; the DOM's types describe a window's. */
interface ThreadScope {
  onmessage: ((event: MessageEvent<ToThread>) => void) | null;
  postMessage(message: FromThread): void;
}

const scope = self as unknown as ThreadScope;
let board: Board | undefined;
let follower: Follower | undefined;

async function join({ module, program, contextLength, board: plan, rank }: ToThread & { type: "join" }): Promise<void> {
  try {
    await initWasm({ module_or_path: module });
    board = new Board(plan, rank);
    follower = new Follower(program, contextLength, board);
    scope.postMessage({ type: "ready" });
  } catch (error) {
    scope.postMessage({ type: "failed", error: toWire(error) });
  }
}

scope.onmessage = ({ data: message }) => {
  if (message.type === "join") {
    void join(message);
    return;
  }
  try {
    follower?.obey(message.words, message.bytes);
  } catch (error) {
    // The owner, which may be waiting, tells that a thread is lost; why is for developers.
    board?.fail();
    console.error(error);
  }
};
