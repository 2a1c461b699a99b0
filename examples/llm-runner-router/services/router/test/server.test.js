// The program itself, in a process of its own.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import WebSocket from "ws";

const port = 20000 + Math.floor(Math.random() * 12000);
const root = new URL("..", import.meta.url).pathname;
const key = { Authorization: "Bearer key" };
let dir, router;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "router-"));
  router = start({ MODEL_CACHE_DIR: dir, SHARED_CACHE_DIR: dir, LOG_DIR: join(dir, "logs"), WS_MAX_CONNECTIONS: "1" });
  for await (const line of router.stdout) if (String(line).includes('"ready"')) break;
});
after(() => router.kill("SIGKILL"));

function start(more) {
  const env = { PATH: process.env.PATH, PORT: String(port), API_KEY: "key", JWT_SECRET: "secret", ...more };
  return spawn(process.execPath, ["src/main.js"], { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
}

const call = (path, options) => fetch(`http://localhost:${port}${path}`, options);
const ask = (body, headers = key) => call("/api/inference", { method: "POST", headers, body: JSON.stringify(body) });

test("alive and ready", async () => {
  assert.equal((await (await call("/api/health")).json()).status, "ok");
  assert.equal((await (await call("/api/ready")).json()).models, 3);
});

test("a strategy decides who answers", async () => {
  const prompt = "Tell me about readiness";
  const best = await (await ask({ prompt, strategy: "quality-first" })).json();
  assert.equal(best.model, "retrieval");
  assert.match(best.text, /readiness probe takes a pod out of the service/);
  assert.equal((await (await ask({ prompt, strategy: "cost-optimized" })).json()).model, "markov-small");
  assert.equal((await (await ask({ prompt, model: "markov-large" })).json()).model, "markov-large");
  assert.equal((await (await ask({ prompt })).json()).strategy, "balanced");
});

test("what is wrong is said", async () => {
  const cases = [
    [{}, 400, /prompt/],
    [{ prompt: "a", maxTokens: 0 }, 400, /maxTokens/],
    [{ prompt: "a", strategy: "constructor" }, 400, /one of balanced/],
    [{ prompt: "a", model: "none" }, 404, /no model "none"/],
    ["text", 400, /JSON object/],
    [{ prompt: "a".repeat(2 ** 20) }, 413, /1 MiB/],
  ];
  for (const [body, status, message] of cases) {
    const answer = await ask(body);
    assert.equal(answer.status, status);
    assert.match((await answer.json()).error, message);
  }
  assert.equal((await ask({ prompt: "a" }, {})).status, 401);
  assert.equal((await ask({ prompt: "a" }, { Authorization: "Bearer a.b.c" })).status, 401);
  assert.equal((await call("//")).status, 404);
});

test("a WebSocket answers word by word, to who has a token, as many as may", async () => {
  const { token } = await (await call("/api/token", { method: "POST", headers: key })).json();
  const open = (query) => new WebSocket(`ws://localhost:${port}/ws${query}`);
  const refused = (socket) => new Promise((told) => socket.on("error", (error) => told(error.message)));
  assert.match(await refused(open("")), /401/);

  const socket = open(`?token=${token}`);
  const messages = [];
  await new Promise((end) => {
    socket.on("open", () => socket.send(JSON.stringify({ id: 7, prompt: "Who reads the metrics?", strategy: "quality-first" })));
    socket.on("message", (bytes) => {
      messages.push(JSON.parse(bytes));
      if (messages.at(-1).done) end();
    });
  });
  assert.match(await refused(open(`?token=${token}`)), /503/);
  const said = messages.slice(0, -1).map(({ text }) => text);
  assert.ok(said.length > 3);
  assert.equal(said.join("").trim(), messages.at(-1).done.text);
  assert.ok(messages.every(({ id }) => id === 7));
  socket.close();
});

test("metrics count what was asked", async () => {
  const text = await (await call("/metrics")).text();
  assert.match(text, /^llm_router_requests_total\{model="retrieval",strategy="quality-first",outcome="answered"\} \d+$/m);
  assert.match(text, /^llm_router_request_duration_seconds_count [1-9]/m);
  assert.match(text, /^llm_router_requests_in_flight 0$/m);
});

test("the log is JSON, in a file too", async () => {
  const [file] = await readdir(join(dir, "logs"));
  const lines = (await readFile(join(dir, "logs", file), "utf8")).trim().split("\n").map(JSON.parse);
  assert.ok(lines.some(({ message }) => message === "ready"));
});

test("it ends when it is asked to", async () => {
  router.kill("SIGTERM");
  const [code] = await new Promise((end) => router.on("exit", (...how) => end(how)));
  assert.equal(code, 0);
});

test("it does not start with a configuration that is wrong, and says all of it", async () => {
  const wrong = start({ ROUTING_STRATEGY: "best", MAX_MEMORY: "much", API_KEY: "" });
  const said = (await wrong.stderr.toArray()).join("");
  for (const part of [/ROUTING_STRATEGY is "best"; it is one of balanced/, /MAX_MEMORY is "much"/, /API_KEY is not set/]) {
    assert.match(said, part);
  }
});
