// A request's way: a strategy ranks the models, the cache or the best model answers, and it is counted. A model that fails
// before it has said anything is passed over.

import { rank, strategies } from "./strategies.js";

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Router {
  #inFlight = 0;

  constructor(config, models, answers, metrics, log) {
    Object.assign(this, { config, models, answers, metrics, log });
  }

  get inFlight() {
    return this.#inFlight;
  }

  // Yields {text} for each part of the answer, then {done} with all that is to say about it.
  async *answer(request) {
    const { ranked, ...asked } = this.#understand(request);
    if (this.#inFlight >= this.config.maxConcurrentRequests) {
      throw new Refusal(503, `${this.#inFlight} requests are being answered, and that is the limit`);
    }
    this.#inFlight += 1;
    try {
      for (const [place, model] of ranked.entries()) {
        let begun = false;
        try {
          for await (const part of this.#by(model, asked)) {
            begun = true;
            yield part;
          }
          return;
        } catch (error) {
          const why = error.cause?.message || error.cause?.code || error.message;
          this.log.warn("model failed", { model: model.id, error: why });
          if (begun || place === ranked.length - 1) throw new Refusal(502, `the model ${model.id} failed: ${why}`);
        }
      }
    } finally {
      this.#inFlight -= 1;
    }
  }

  async *#by(model, { prompt, maxTokens, strategy }) {
    const began = performance.now();
    let outcome = "failed";
    try {
      const key = ["answer", model.id, model.version, prompt, maxTokens];
      let parts = await this.answers.get(key);
      const cached = parts !== undefined;
      this.metrics.cache("answer", cached);
      if (cached) {
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
      yield {
        done: {
          model: model.id,
          strategy,
          cached,
          text: parts.join("").trim(),
          tokens: parts.length,
          cost: cached ? 0 : (model.cost * parts.length) / 1000,
          milliseconds: Math.round((performance.now() - began) * 1000) / 1000,
        },
      };
    } finally {
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
      return { prompt, maxTokens, strategy: "named", ranked: [model] };
    }
    const chosen = strategy ?? this.config.strategy;
    if (!Object.hasOwn(strategies, chosen)) {
      throw new Refusal(400, `\`strategy\` is one of ${Object.keys(strategies).join(", ")}`);
    }
    return { prompt, maxTokens, strategy: chosen, ranked: rank(chosen, this.models.list) };
  }
}
