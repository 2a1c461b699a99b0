import assert from "node:assert/strict";
import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { DiskCache } from "../src/cache.js";
import * as markov from "../src/markov.js";
import { Models } from "../src/models.js";
import * as retrieval from "../src/retrieval.js";
import { Router } from "../src/router.js";

const text = "a pod is ready\na pod is alive\na model answers";
const quiet = { info() {}, warn() {} };
const folder = () => mkdtemp(join(tmpdir(), "router-"));

test("a Markov model learns what follows", () => {
  assert.deepEqual(markov.train(text, 1).followers.is, ["ready", "alive"]);
  assert.deepEqual(markov.train(text, 2).followers["a pod"], ["is", "is"]);
});

test("a Markov model says the same to the same prompt, and no more than it may", () => {
  const model = markov.train(text, 1);
  const say = (prompt, most) => [...markov.generate(model, prompt, most)].join("");
  assert.equal(say("is a model there", 9), say("is a model there", 9));
  assert.match(say("model", 9), /^model answers/);
  assert.equal([...markov.generate(model, "pod", 2)].length, 2);
});

test("retrieval finds the sentence with the rare word", () => {
  const known = retrieval.index(text);
  assert.equal(retrieval.best(known, "is the pod alive?"), "a pod is alive");
  assert.equal(retrieval.best(known, "zebra"), "I know nothing about that.");
});

async function open(list, { maxMemory = 1e9, cacheDir } = {}) {
  const modelDir = await folder();
  await writeFile(join(modelDir, "corpus.txt"), text);
  await writeFile(join(modelDir, "models.json"), JSON.stringify(list));
  const lookups = [];
  const config = { modelDir, maxMemory, huggingfaceToken: "hf" };
  const models = new Models(config, new DiskCache(cacheDir ?? (await folder())), quiet, (...one) => lookups.push(one));
  await models.open();
  return { models, lookups };
}
const model = (id, order) => ({ id, kind: "markov", order, source: "corpus.txt", quality: 1, cost: 1, latency: 1 });

test("a prepared model comes from the disk the second time", async () => {
  const cacheDir = await folder();
  assert.deepEqual((await open([model("one", 1)], { cacheDir })).lookups, [["model", false]]);
  assert.deepEqual((await open([model("one", 1)], { cacheDir })).lookups, [["model", true]]);
});

test("models beyond the memory limit are unloaded, and loaded again when they are asked", async () => {
  const { models, lookups } = await open([model("one", 1), model("two", 2)], { maxMemory: 200 });
  assert.ok(models.memory <= 200, `${models.memory} bytes`);
  const parts = await Array.fromAsync(models.generate(models.find("one"), "pod", 3));
  assert.equal(parts.length, 3);
  assert.deepEqual(lookups.at(-1), ["model", true]);
});

test("a model may come from a URL, which is asked once", async () => {
  let asked = 0;
  const server = http.createServer((request, response) => {
    asked += 1;
    assert.equal(request.headers.authorization, undefined, "the token is Hugging Face's alone");
    response.end("it came by http");
  });
  await new Promise((listening) => server.listen(0, listening));
  const source = `http://localhost:${server.address().port}/corpus.txt`;
  const cacheDir = await folder();
  for (let time = 0; time < 2; time += 1) {
    const { models } = await open([{ ...model("far", 1), source }], { cacheDir });
    assert.match((await Array.fromAsync(models.generate(models.find("far"), "came", 9))).join(""), /by http/);
  }
  assert.equal(asked, 1);
  server.close();
});

test("an OpenAI-compatible upstream is a model too", async () => {
  const server = http.createServer(async (request, response) => {
    const { messages } = JSON.parse((await request.toArray()).join(""));
    const part = (content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
    response.write(part("You said: ").slice(0, 20)); // a line may come in pieces
    response.write(part("You said: ").slice(20));
    response.end(`${part(messages[0].content)}data: [DONE]\n\n`);
  });
  await new Promise((listening) => server.listen(0, listening));
  const { models } = await open([]);
  const upstream = { id: "chat", kind: "upstream", url: `http://localhost:${server.address().port}`, model: "chat", inFlight: 0, latency: 1 };
  assert.equal((await Array.fromAsync(models.generate(upstream, "hello", 9))).join(""), "You said: hello");
  server.close();
});

test("an answer is found on the disk, free of charge, until the model is another one", async () => {
  const { models } = await open([model("one", 1)]);
  const seen = [];
  const metrics = { request() {}, cache: (which, hit) => seen.push(hit) };
  const dir = await folder();
  const router = new Router({ strategy: "balanced", maxConcurrentRequests: 1 }, models, new DiskCache(dir), metrics, quiet);
  const ask = async () => (await Array.fromAsync(router.answer({ prompt: "pod" }))).at(-1).done;
  const first = await ask();
  const second = await ask();
  assert.equal(second.text, first.text);
  assert.deepEqual([first.cached, second.cached, second.cost], [false, true, 0]);
  assert.equal((await readdir(dir)).length, 1);
  models.find("one").version = "another";
  assert.equal((await ask()).cached, false);
  assert.deepEqual(seen, [false, true, false]);
});

test("a model that fails is passed over, unless it was asked for by name", async () => {
  const closed = http.createServer();
  await new Promise((listening) => closed.listen(0, listening));
  const url = `http://localhost:${closed.address().port}`;
  await new Promise((end) => closed.close(end));
  const { models } = await open([model("one", 1)]);
  const gone = { id: "gone", kind: "upstream", url, model: "x", quality: 2, cost: 1, latency: 1, inFlight: 0 };
  models.list.push(gone);
  const outcomes = [];
  const metrics = { cache() {}, request: (id, strategy, outcome) => outcomes.push([id, outcome]) };
  const router = new Router({ maxConcurrentRequests: 1 }, models, new DiskCache(await folder()), metrics, quiet);
  const ask = async (more) => (await Array.fromAsync(router.answer({ prompt: "pod", ...more }))).at(-1).done;
  assert.equal((await ask({ strategy: "quality-first" })).model, "one");
  assert.deepEqual(outcomes, [["gone", "failed"], ["one", "answered"]]);
  await assert.rejects(ask({ model: "gone" }), /the model gone failed: .*ECONNREFUSED/);
  assert.equal(gone.inFlight, 0);
  assert.equal(router.inFlight, 0);
});
