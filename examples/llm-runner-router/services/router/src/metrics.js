// Counters and gauges in Prometheus' text format.

const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class Metrics {
  #requests = new Map();
  #cache = new Map();
  #durations = buckets.map(() => 0);
  #sum = 0;
  #count = 0;

  // `gauges` are read when they are asked for: {name: [help, function]}.
  constructor(gauges) {
    this.gauges = gauges;
  }

  request(model, strategy, outcome, seconds) {
    add(this.#requests, `{model="${label(model)}",strategy="${strategy}",outcome="${outcome}"}`);
    buckets.forEach((limit, at) => (this.#durations[at] += seconds <= limit ? 1 : 0));
    this.#sum += seconds;
    this.#count += 1;
  }

  cache(which, hit) {
    add(this.#cache, `{cache="${which}",result="${hit ? "hit" : "miss"}"}`);
  }

  text() {
    const duration = "llm_router_request_duration_seconds";
    const lines = [
      ...family("llm_router_requests_total", "counter", "Requests by model, strategy and outcome.", this.#requests),
      ...family("llm_router_cache_lookups_total", "counter", "Lookups in the caches on disk.", this.#cache),
      `# HELP ${duration} From the request to the end of its answer.`,
      `# TYPE ${duration} histogram`,
      ...buckets.map((limit, at) => `${duration}_bucket{le="${limit}"} ${this.#durations[at]}`),
      `${duration}_bucket{le="+Inf"} ${this.#count}`,
      `${duration}_sum ${this.#sum}`,
      `${duration}_count ${this.#count}`,
      ...Object.entries(this.gauges).flatMap(([name, [help, value]]) =>
        family(name, "gauge", help, new Map([["", value()]])),
      ),
    ];
    return `${lines.join("\n")}\n`;
  }
}

const add = (counters, labels) => counters.set(labels, (counters.get(labels) ?? 0) + 1);
const label = (text) => text.replace(/[\\"\n]/g, (one) => (one === "\n" ? "\\n" : `\\${one}`));
const family = (name, type, help, values) => [
  `# HELP ${name} ${help}`,
  `# TYPE ${name} ${type}`,
  ...[...values].map(([labels, value]) => `${name}${labels} ${value}`),
];
