import { describe, expect, it } from "vitest";
import { judge, look, services } from "./services";

const allUp = new Map(services.map(({ name }): [string, boolean] => [name, true]));

describe("judge", () => {
  it("calls a service up that answered", () => {
    expect(new Set(judge(allUp).values())).toEqual(new Set(["up"]));
  });

  it("calls a service down that did not", () => {
    expect(judge(new Map(allUp).set("qdrant", false)).get("qdrant")).toBe("down");
  });

  it("calls redis down when LiteLLM, which asks it, is up", () => {
    expect(judge(new Map(allUp).set("redis", false)).get("redis")).toBe("down");
  });

  it("says nothing about postgres when R2R, which asks it, is down", () => {
    const states = judge(new Map(allUp).set("postgres", false).set("r2r", false));
    expect(states.get("postgres")).toBe("unknown");
    expect(states.get("r2r")).toBe("down");
  });
});

describe("look", () => {
  it("takes a refused connection and an error status for down", async () => {
    const states = await look(async (path) => {
      if (path === "/status/qdrant") throw new TypeError("refused");
      return new Response(null, { status: path === "/status/openwebui" ? 502 : 200 });
    });
    expect(states.get("qdrant")).toBe("down");
    expect(states.get("openwebui")).toBe("down");
    expect(states.get("litellm")).toBe("up");
  });
});

it("knows seven services, each witness among them", () => {
  expect(services).toHaveLength(7);
  const names = services.map(({ name }) => name);
  for (const { via } of services) if (via) expect(names).toContain(via);
});
