// Which model answers. A strategy gives each model a score; the highest is asked first, and the first of equals.

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

// The models, the best first. They have quality (0 to 1), cost (of 1000 tokens), latency (ms, as measured lately) and
// inFlight.
export function rank(strategy, models) {
  const most = {
    cost: Math.max(...models.map((model) => model.cost)),
    latency: Math.max(...models.map((model) => model.latency)),
    count: models.length,
  };
  const scored = models.map((model, place) => ({ model, score: strategies[strategy](model, most, place) }));
  if (strategy === "round-robin") turn += 1;
  return scored.sort((one, other) => other.score - one.score).map(({ model }) => model);
}
