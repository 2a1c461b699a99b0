// HTTP and WebSocket, on one port.

import { access, constants } from "node:fs/promises";
import http from "node:http";
import { WebSocketServer } from "ws";

import { issue, mayAsk } from "./auth.js";
import * as cluster from "./cluster.js";
import { Refusal } from "./router.js";

const longestBody = 1024 * 1024;

async function bodyOf(request) {
  let size = 0;
  const parts = [];
  for await (const part of request) {
    size += part.length;
    if (size > longestBody) throw new Refusal(413, "the request is longer than 1 MiB");
    parts.push(part);
  }
  return parse(Buffer.concat(parts));
}

function parse(bytes) {
  let value;
  try {
    value = JSON.parse(bytes);
  } catch (error) {
    throw new Refusal(400, `the request is not JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object") throw new Refusal(400, "the request is not a JSON object");
  return value;
}

export function createServer({ config, router, models, metrics, log, state }) {
  const needsKey = (handle) => async (request) => {
    if (!mayAsk(request, config)) throw new Refusal(401, "show the API key: `Authorization: Bearer …`");
    return handle(request);
  };

  const ready = async () => {
    if (state.stopping) throw new Refusal(503, "stopping");
    if (!state.loaded) throw new Refusal(503, "the models are being loaded");
    if (config.cacheEnabled) {
      const dirs = [config.modelCacheDir, config.sharedCacheDir];
      await Promise.all(dirs.map((dir) => access(dir, constants.W_OK))).catch((error) => {
        throw new Refusal(503, `the cache cannot be written: ${error.message}`);
      });
    }
    return { status: "ready", models: models.list.length };
  };

  const infer = async (request) => {
    for await (const { done } of router.answer(await bodyOf(request))) if (done) return done;
  };

  const known = () =>
    models.list.map(({ id, kind, quality, cost, latency, inFlight }) => ({ id, kind, quality, cost, latency, inFlight }));

  const routes = {
    "GET /api/health": async () => ({ status: "ok", uptime: Math.round(process.uptime()) }),
    "GET /api/ready": ready,
    "GET /metrics": async () => metrics.text(),
    "GET /api/models": needsKey(async () => ({ strategy: config.strategy, models: known() })),
    "GET /api/cluster": needsKey(cluster.describe),
    "POST /api/token": needsKey(async () => ({ token: issue(config.jwtSecret) })),
    "POST /api/inference": needsKey(infer),
  };

  const server = http.createServer(async (request, response) => {
    const [path] = request.url.split("?");
    const send = (status, body) => {
      const text = typeof body === "string";
      response.writeHead(status, {
        "Content-Type": text ? "text/plain; version=0.0.4" : "application/json",
        ...(status === 503 && { "Retry-After": "1" }),
      });
      response.end(text ? body : `${JSON.stringify(body)}\n`);
      log.debug("request", { method: request.method, path, status });
    };
    try {
      const handle = routes[`${request.method} ${path}`];
      if (!handle) throw new Refusal(404, `there is no ${request.method} ${path}`);
      send(200, await handle(request));
    } catch (error) {
      if (!(error instanceof Refusal)) log.error("request failed", { path, error: error.message });
      send(error.status ?? 502, { error: error.message });
    }
  });

  const sockets = new WebSocketServer({ noServer: true, maxPayload: longestBody });
  const refuse = (socket, line) =>
    socket.on("error", () => {}).end(`HTTP/1.1 ${line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  server.on("upgrade", (request, socket, head) => {
    const [path] = request.url.split("?");
    if (path !== "/ws") return refuse(socket, "404 Not Found");
    if (!mayAsk(request, config)) return refuse(socket, "401 Unauthorized");
    if (sockets.clients.size >= config.maxConnections) return refuse(socket, "503 Service Unavailable");
    sockets.handleUpgrade(request, socket, head, (client) => {
      client.on("error", (error) => log.warn("websocket", { error: error.message }));
      client.on("message", (bytes) => speak(client, bytes));
    });
  });

  // Answers word by word: {id, text}, …, {id, done}. `id` is the question's, so that several may be open.
  async function speak(client, bytes) {
    let id;
    const tell = (message) => client.send(JSON.stringify({ id, ...message }));
    try {
      const asked = parse(bytes);
      id = asked.id;
      for await (const part of router.answer(asked)) {
        if (client.readyState !== client.OPEN) return;
        tell(part);
      }
    } catch (error) {
      tell({ error: error.message });
    }
  }

  return { server, sockets };
}
