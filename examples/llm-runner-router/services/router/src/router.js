// A request's way: a strategy chooses the model, the cache or the model answers, and it is counted.

import { choose, strategies } from "./strategies.js";

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Router {
  #inFlight = 0;

  constructor(config, models, answers, metrics) {
    Object.assign(this, { config, models, answers, metrics });
  }

  get inFlight() {
    return this.#inFlight;
  }

  // Yields {text} for each part of the answer, then {done} with all that is to say about it.
  async *answer(request) {
    const { prompt, maxTokens, strategy, model } = this.#understand(request);
    if (this.#inFlight >= this.config.maxConcurrentRequests) {
      throw new Refusal(503, `${this.#inFlight} requests are being answered, and that is the limit`);
    }
    const began = performance.now();
    const done = { model: model.id, strategy, cached: false };
    this.#inFlight += 1;
    let outcome = "failed";
    try {
      const key = ["answer", model.id, model.version, prompt, maxTokens];
      let parts = await this.answers.get(key);
      done.cached = parts !== undefined;
      this.metrics.cache("answer", done.cached);
      if (parts) {
        for (const text of parts) yield { text };
      } else {
        parts = [];
        for await (const text of this.models.generate(model, prompt, maxTokens)) {
          parts.push(text);
          yield { text };
        }
        await this.answers.set(key, parts);
      }
      outcome = "answered";
      done.text = parts.join("").trim();
      done.tokens = parts.length;
      done.cost = done.cached ? 0 : (model.cost * parts.length) / 1000;
      done.milliseconds = Math.round((performance.now() - began) * 1000) / 1000;
      yield { done };
    } finally {
      this.#inFlight -= 1;
      this.metrics.request(model.id, strategy, outcome, (performance.now() - began) / 1000);
    }
  }

  #understand({ prompt, maxTokens = 40, strategy, model: id }) {
    if (typeof prompt !== "string" || prompt.trim() === "") throw new Refusal(400, "`prompt` is a text, and is missing");
    if (!Number.isInteger(maxTokens) || maxTokens < 1 || maxTokens > 4096) {
      throw new Refusal(400, "`maxTokens` is a number from 1 to 4096");
    }
    if (id !== undefined) {
      const model = this.models.find(id);
      if (!model) throw new Refusal(404, `there is no model ${JSON.stringify(id)}`);
      return { prompt, maxTokens, strategy: "named", model };
    }
    const chosen = strategy ?? this.config.strategy;
    if (!Object.hasOwn(strategies, chosen)) {
      throw new Refusal(400, `\`strategy\` is one of ${Object.keys(strategies).join(", ")}`);
    }
    return { prompt, maxTokens, strategy: chosen, model: choose(chosen, this.models.list) };
  }
}
