// Starts the router. It listens before the models are loaded, so that a probe can tell "alive" from "ready".

import { DiskCache } from "./cache.js";
import { readConfig } from "./config.js";
import { openLog } from "./log.js";
import { Metrics } from "./metrics.js";
import { Models } from "./models.js";
import { Router } from "./router.js";
import { createServer } from "./server.js";

const config = readConfig(process.env);
const log = openLog(config.logLevel, config.logDir);
const state = { loaded: false, stopping: false };

const metrics = new Metrics({
  llm_router_requests_in_flight: ["Requests that are being answered.", () => router.inFlight],
  llm_router_websocket_connections: ["Open WebSockets.", () => sockets.clients.size],
  llm_router_model_memory_bytes: ["What the loaded models take.", () => models.memory],
});
const modelCache = new DiskCache(config.modelCacheDir, config.cacheEnabled);
const answers = new DiskCache(config.sharedCacheDir, config.cacheEnabled);
const models = new Models(config, modelCache, log, (which, hit) => metrics.cache(which, hit));
const router = new Router(config, models, answers, metrics, log);
const { server, sockets } = createServer({ config, router, models, metrics, log, state });

// What is being answered is answered; who has a WebSocket is told to come again, and finds another pod.
process.on("SIGTERM", () => {
  state.stopping = true;
  log.info("stopping");
  for (const client of sockets.clients) client.close(1001, "stopping");
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});

server.listen(config.port, () => log.info("listening", { port: config.port, strategy: config.strategy }));
await models.open();
state.loaded = true;
log.info("ready", { models: models.list.map(({ id }) => id) });
