import assert from "node:assert/strict";
import test from "node:test";

import * as format from "../../dist/demo/format.js";
import { Reasoning } from "../../dist/demo/reasoning.js";

test("the panel is open while the model thinks, tells for how long, and closes when the answer begins", () => {
  const reasoning = new Reasoning();
  reasoning.add("The user", 5_000);
  reasoning.add(" asks", 5_400);
  assert.deepEqual([reasoning.isThinking, reasoning.isOpen], [true, true]);
  assert.equal(reasoning.title(5_900), "Thinking");
  assert.equal(reasoning.title(17_000), "Thinking for 12 s");
  reasoning.answer(17_000);
  assert.deepEqual([reasoning.isThinking, reasoning.isOpen], [false, false]);
  reasoning.answer(60_000);
  assert.equal(reasoning.title(60_000), "Thought for 12 s");
  assert.equal(reasoning.text, "The user asks");
});

test("what the reader chose holds, before the answer begins and after", () => {
  for (const open of [true, false]) {
    const [early, late] = [new Reasoning(), new Reasoning()];
    early.add("a", 0);
    early.choose(open);
    assert.equal(early.isOpen, open);
    early.answer(1);
    assert.equal(early.isOpen, open);
    late.add("a", 0);
    late.answer(1);
    late.choose(open);
    late.add("b", 2);
    assert.equal(late.isOpen, open);
  }
});

test("thought after something was said adds to the time, and does not open the panel again", () => {
  const reasoning = new Reasoning();
  reasoning.add("a", 0);
  reasoning.answer(2_000);
  reasoning.add("b", 10_000);
  assert.deepEqual([reasoning.isThinking, reasoning.isOpen], [true, false]);
  assert.equal(reasoning.title(11_000), "Thinking for 3 s");
  reasoning.answer(13_000);
  assert.equal(reasoning.title(20_000), "Thought for 5 s");
});

test("an answer that ends within the thought leaves the panel open", () => {
  const reasoning = new Reasoning();
  reasoning.add("a", 0);
  reasoning.pause(400);
  assert.equal(reasoning.isOpen, true);
  assert.equal(reasoning.title(9_000), "Thought for a moment");
});

test("times are put as people say them", () => {
  assert.deepEqual([1_000, 59_400, 59_600, 125_000].map(format.span), ["1 s", "59 s", "1 min 0 s", "2 min 5 s"]);
  assert.deepEqual([0.2, 89, 120, 6_000, 86_400].map(format.timeLeft), [
    "1 s left",
    "89 s left",
    "2 min left",
    "1 h 40 min left",
    "24 h left",
  ]);
});
