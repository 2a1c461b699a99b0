// The models: what is known of each, and the prepared ones in memory, as many as there is room for.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import * as markov from "./markov.js";
import * as retrieval from "./retrieval.js";
import * as upstream from "./upstream.js";

const kinds = {
  markov: { prepare: (text, model) => markov.train(text, model.order), generate: markov.generate },
  retrieval: { prepare: (text) => retrieval.index(text), generate: retrieval.generate },
  upstream: { generate: upstream.generate },
};

// How much a new measurement counts against the older ones.
const freshness = 0.2;

export class Models {
  #loaded = new Map(); // by id, the one that was used longest ago first

  constructor(config, cache, log, count) {
    Object.assign(this, { config, cache, log, count, list: [] });
  }

  async open() {
    this.list = JSON.parse(await readFile(join(this.config.modelDir, "models.json"), "utf8"));
    const { upstream: other } = this.config;
    if (other) this.list.push({ id: other.model, kind: "upstream", quality: 0.95, cost: 5, latency: 500, ...other });
    for (const model of this.list) model.inFlight = 0;
    for (const model of this.list) await this.#load(model);
  }

  get memory() {
    return [...this.#loaded.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  find(id) {
    return this.list.find((model) => model.id === id);
  }

  async *generate(model, prompt, maxTokens) {
    const began = performance.now();
    model.inFlight += 1;
    try {
      yield* kinds[model.kind].generate(await this.#load(model), prompt, maxTokens);
      model.latency += freshness * (performance.now() - began - model.latency);
    } finally {
      model.inFlight -= 1;
    }
  }

  async #load(model) {
    if (model.kind === "upstream") return model;
    const ready = this.#loaded.get(model.id) ?? (await this.#prepare(model));
    this.#loaded.delete(model.id);
    this.#loaded.set(model.id, ready);
    for (const [id] of this.#loaded) {
      if (this.memory <= this.config.maxMemory || id === model.id) break;
      this.#loaded.delete(id);
      this.log.info("model unloaded", { model: id });
    }
    return ready.value;
  }

  async #prepare(model) {
    const text = await this.#source(model.source);
    const key = ["model", model.kind, model.order, createHash("sha256").update(text).digest("hex")];
    model.version = key.at(-1);
    let value = await this.cache.get(key);
    this.count("model", value !== undefined);
    if (value === undefined) {
      value = kinds[model.kind].prepare(text, model);
      await this.cache.set(key, value);
    }
    this.log.info("model loaded", { model: model.id });
    return { value, bytes: JSON.stringify(value).length };
  }

  // A file beside models.json, or a URL, which is asked once and then on disk.
  async #source(source) {
    if (!source.startsWith("https://") && !source.startsWith("http://")) {
      return readFile(join(this.config.modelDir, source), "utf8");
    }
    const kept = await this.cache.get(["source", source]);
    if (kept !== undefined) return kept;
    const { huggingfaceToken: token } = this.config;
    const own = new URL(source).hostname.endsWith("huggingface.co");
    const response = await fetch(source, { headers: own && token ? { Authorization: `Bearer ${token}` } : {} });
    if (!response.ok) throw new Error(`${source} answers ${response.status}`);
    const text = await response.text();
    await this.cache.set(["source", source], text);
    return text;
  }
}
