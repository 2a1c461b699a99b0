import assert from "node:assert/strict";
import { test } from "node:test";

import { rank } from "../src/strategies.js";

const small = { id: "small", quality: 0.3, cost: 0.1, latency: 1, inFlight: 0 };
const large = { id: "large", quality: 0.9, cost: 2, latency: 50, inFlight: 0 };
const middle = { id: "middle", quality: 0.8, cost: 0.4, latency: 5, inFlight: 0 };
const models = [small, large, middle];

const cases = [
  ["quality-first", models, "large"],
  ["cost-optimized", models, "small"],
  ["speed-priority", models, "small"],
  ["speed-priority", [{ ...small, latency: 90 }, large, middle], "middle"],
  ["balanced", models, "middle"],
  ["balanced", [small, large, { ...middle, inFlight: 3 }], "small"],
  ["least-loaded", [{ ...small, inFlight: 2 }, { ...large, inFlight: 1 }, middle], "middle"],
];
for (const [strategy, among, expected] of cases) {
  test(`${strategy} takes ${expected} of ${JSON.stringify(among.map((one) => [one.id, one.latency, one.inFlight]))}`, () => {
    assert.equal(rank(strategy, among)[0].id, expected);
  });
}

test("round-robin takes one after the other", () => {
  const taken = Array.from({ length: 6 }, () => rank("round-robin", models)[0].id);
  assert.deepEqual(taken.slice(0, 3).toSorted(), ["large", "middle", "small"]);
  assert.deepEqual(taken.slice(3), taken.slice(0, 3));
});

test("who comes after the first is said too", () => {
  assert.deepEqual(rank("quality-first", models).map(({ id }) => id), ["large", "middle", "small"]);
});
