// Which model answers. A strategy gives each model a score; the highest wins, and the first of equals.

const balance = { quality: 0.4, cost: 0.3, speed: 0.3 };

let turn = 0;

export const strategies = {
  balanced: (model, most) =>
    (balance.quality * model.quality +
      balance.cost * (1 - model.cost / most.cost) +
      balance.speed * (1 - model.latency / most.latency)) /
    (1 + model.inFlight),
  "quality-first": (model) => model.quality,
  "cost-optimized": (model) => -model.cost,
  "speed-priority": (model) => -model.latency,
  "least-loaded": (model) => -model.inFlight,
  "round-robin": (model, most, place) => (place === turn % most.count ? 1 : 0),
};

// `models` have quality (0 to 1), cost (of 1000 tokens), latency (ms, as measured lately) and inFlight.
export function choose(strategy, models) {
  const score = strategies[strategy];
  const most = {
    cost: Math.max(...models.map((model) => model.cost)),
    latency: Math.max(...models.map((model) => model.latency)),
    count: models.length,
  };
  const scores = models.map((model, place) => score(model, most, place));
  if (strategy === "round-robin") turn += 1;
  return models[scores.indexOf(Math.max(...scores))];
}
