import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Worker } from "node:worker_threads";

import { Board, planBoard } from "../../dist/board.js";

const MODULE = JSON.stringify(new URL("../../dist/board.js", import.meta.url).href);
const workers = [];

after(() => Promise.all(workers.map((worker) => worker.terminate())));

/** Starts a thread that runs `body` with its `board`. */
function startThread(plan, rank, body) {
  const script = `
    import(${MODULE}).then(({ Board }) => {
      const { parentPort, workerData: { plan, rank } } = require("node:worker_threads");
      const board = new Board(plan, rank);
      ${body}
    });`;
  const worker = new Worker(script, { eval: true, workerData: { plan, rank } });
  workers.push(worker);
  return worker;
}

test("each sees what all have shown, turn after turn", async () => {
  const [size, turns] = [3, 2_000];
  const plan = planBoard(size, 8);
  const play = `
    let wrong = 0;
    const seen = new Float32Array(8);
    for (let turn = 1; turn <= ${turns}; turn += 1) {
      if (!board.show(Float32Array.from({ length: 8 }, (_, i) => turn * 100 + board.rank * 10 + i))) wrong += 1;
      for (let rank = 0; rank < board.size; rank += 1) {
        board.read(rank, seen);
        if (!seen.every((value, i) => value === turn * 100 + rank * 10 + i)) wrong += 1;
      }
    }`;
  const others = [1, 2].map((rank) => {
    const worker = startThread(plan, rank, `${play} parentPort.postMessage(wrong);`);
    return new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
  });
  const own = new Function("board", `${play} return wrong;`)(new Board(plan, 0));
  assert.deepEqual([own, ...(await Promise.all(others))], [0, 0, 0]);
});

test("what comes late is waited for, looking on and asleep", async () => {
  const [turns, seen] = [50, new Float32Array(1)];
  const plan = planBoard(2, 1);
  startThread(
    plan,
    1,
    `const pause = new Int32Array(new SharedArrayBuffer(4));
    for (let turn = 1; turn <= ${turns}; turn += 1) {
      Atomics.wait(pause, 0, 0, 2);
      board.show(new Float32Array([turn]));
    }`,
  );
  const board = new Board(plan, 0);
  for (let turn = 1; turn <= turns; turn += 1) {
    assert.equal(board.show(new Float32Array([0])), true);
    board.read(1, seen);
    assert.equal(seen[0], turn);
  }
});

test("who waits for one that fails is told", () => {
  const plan = planBoard(2, 1);
  startThread(plan, 1, "setTimeout(() => board.fail(), 50);");
  assert.equal(new Board(plan, 0).show(new Float32Array([1])), false);
});

test("fewer numbers than there is room for are shown and read", () => {
  const board = new Board(planBoard(1, 4), 0);
  assert.equal(board.show(new Float32Array([1, 2])), true);
  const seen = new Float32Array(2);
  board.read(0, seen);
  assert.deepEqual([...seen], [1, 2]);
});
