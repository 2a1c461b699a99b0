// Everything that the environment decides, read once and checked.

import { strategies } from "./strategies.js";

const levels = ["debug", "info", "warn", "error"];

export function readConfig(env) {
  const mistakes = [];

  const oneOf = (name, fallback, choices) => {
    const value = env[name] ?? fallback;
    if (!choices.includes(value)) mistakes.push(`${name} is ${JSON.stringify(value)}; it is one of ${choices.join(", ")}`);
    return value;
  };
  const number = (name, fallback) => {
    const value = Number(env[name] ?? fallback);
    if (!Number.isInteger(value) || value < 1) mistakes.push(`${name} is ${JSON.stringify(env[name])}; it is a number from 1`);
    return value;
  };
  const needed = (name) => {
    if (!env[name]) mistakes.push(`${name} is not set`);
    return env[name];
  };

  const config = {
    port: number("PORT", 3006),
    strategy: oneOf("ROUTING_STRATEGY", "balanced", Object.keys(strategies)),
    maxMemory: number("MAX_MEMORY", 4096) * 1024 * 1024,
    cacheEnabled: oneOf("CACHE_ENABLED", "true", ["true", "false"]) === "true",
    logLevel: oneOf("LOG_LEVEL", "info", levels),
    maxConcurrentRequests: number("MAX_CONCURRENT_REQUESTS", 100),
    maxConnections: number("WS_MAX_CONNECTIONS", 1000),
    modelDir: env.MODEL_DIR ?? "models",
    modelCacheDir: env.MODEL_CACHE_DIR ?? "/var/cache/models",
    sharedCacheDir: env.SHARED_CACHE_DIR ?? "/var/cache/shared",
    logDir: env.LOG_DIR,
    apiKey: needed("API_KEY"),
    jwtSecret: needed("JWT_SECRET"),
    huggingfaceToken: env.HUGGINGFACE_TOKEN,
    // An OpenAI-compatible door to more models, LiteLLM for example.
    upstream: env.UPSTREAM_URL && {
      url: env.UPSTREAM_URL,
      model: env.UPSTREAM_MODEL ?? "chat",
      key: env.UPSTREAM_API_KEY,
    },
  };
  if (mistakes.length > 0) throw new Error(`the configuration is wrong: ${mistakes.join("; ")}`);
  return config;
}
