// What the page knows about the stack's services, and how it finds out whether they are up.

export type State = "checking" | "up" | "down" | "unknown";

export interface Service {
  name: string;
  port: number;
  does: string;
  path: string; // answered through the page's own server
  asks: string; // what is behind it, in words
  via?: string; // the service that answers for it, since a browser speaks HTTP only
}

export const services: Service[] = [
  { name: "postgres", port: 5432, does: "documents and vectors", path: "/status/postgres", asks: "R2R reads its documents", via: "r2r" },
  { name: "redis", port: 6379, does: "cache of embeddings", path: "/status/redis", asks: "LiteLLM pings it and writes to it", via: "litellm" },
  { name: "qdrant", port: 6333, does: "vector search", path: "/status/qdrant", asks: "/readyz" },
  { name: "litellm", port: 4000, does: "gateway to the models", path: "/status/litellm", asks: "/health/liveliness" },
  { name: "r2r", port: 7272, does: "retrieval", path: "/status/r2r", asks: "/v3/health" },
  { name: "openwebui", port: 8080, does: "chat for people", path: "/status/openwebui", asks: "/health" },
  { name: "react-client", port: 3000, does: "this page", path: "/", asks: "the page itself" },
];

/** Whether each path was answered well, turned into states: nothing is said about a service whose witness is down. */
export function judge(answered: Map<string, boolean>): Map<string, State> {
  return new Map(
    services.map(({ name, via }): [string, State] => {
      if (answered.get(name)) return [name, "up"];
      return [name, via && !answered.get(via) ? "unknown" : "down"];
    }),
  );
}

export async function look(fetcher: typeof fetch = fetch): Promise<Map<string, State>> {
  const answers = services.map(async ({ name, path }): Promise<[string, boolean]> => {
    try {
      const answer = await fetcher(path, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      return [name, answer.ok];
    } catch {
      return [name, false];
    }
  });
  return judge(new Map(await Promise.all(answers)));
}
