// A model that learned which word follows which words. It says the same thing to the same prompt.

import { createHash } from "node:crypto";

export const words = (text) => text.match(/\S+/g) ?? [];

// The words that followed each run of `order` words in the text.
export function train(text, order) {
  const followers = {};
  for (const line of text.split("\n")) {
    const all = words(line);
    for (let at = 0; at + order < all.length; at += 1) {
      const run = all.slice(at, at + order).join(" ");
      (followers[run] ??= []).push(all[at + order]);
    }
  }
  return { order, followers };
}

// A generator of numbers from 0 to 1 that a text decides.
function seeded(text) {
  let state = createHash("sha256").update(text).digest().readUInt32LE();
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

// Begins with a run that holds a word of the prompt, where there is one, and goes on until nothing follows.
export function* generate({ followers }, prompt, maxTokens) {
  const random = seeded(prompt);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const asked = new Set(words(prompt.toLowerCase()).map((word) => word.replace(/\W/g, "")));
  const runs = Object.keys(followers);
  const near = runs.filter((run) => words(run.toLowerCase()).some((word) => word.length > 3 && asked.has(word)));

  let run = words(pick(near.length > 0 ? near : runs));
  const said = [...run];
  while (said.length < maxTokens && followers[run.join(" ")]) {
    const next = pick(followers[run.join(" ")]);
    said.push(next);
    run = [...run.slice(1), next];
  }
  for (const word of said.slice(0, maxTokens)) yield `${word} `;
}
