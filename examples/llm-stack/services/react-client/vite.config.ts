import react from "@vitejs/plugin-react";
import { defineConfig, type ProxyOptions } from "vite";

const environment = process.env;
const litellm = environment.LITELLM_URL ?? "http://localhost:4000";
const r2r = environment.R2R_URL ?? "http://localhost:7272";
const qdrant = environment.QDRANT_URL ?? "http://localhost:6333";
const openwebui = environment.VITE_API_BASE_URL ?? "http://localhost:8080";

// The key stays here; the browser never has it.
const key = { Authorization: `Bearer ${environment.LITELLM_API_KEY ?? ""}` };

const to = (target: string, path: string, headers = {}): ProxyOptions => ({
  target,
  headers,
  changeOrigin: true,
  rewrite: () => path,
});

export default defineConfig({
  plugins: [react()],
  server: {
    host: "0.0.0.0",
    port: 3000,
    strictPort: true,
    allowedHosts: true, // it is reached by localhost, by the Service's name, by the pod's address
    // nginx.conf.template has the same table, for production.
    proxy: {
      "/api/models": to(litellm, "/v1/models", key),
      "/api/chat": to(litellm, "/v1/chat/completions", key),
      "/status/litellm": to(litellm, "/health/liveliness"),
      "/status/redis": to(litellm, "/cache/ping", key),
      "/status/r2r": to(r2r, "/v3/health"),
      "/status/postgres": to(r2r, "/v3/documents?limit=1"),
      "/status/qdrant": to(qdrant, "/readyz"),
      "/status/openwebui": to(openwebui, "/health"),
    },
  },
});
