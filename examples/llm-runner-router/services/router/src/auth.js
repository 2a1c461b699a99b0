// Who may ask: whoever shows the API key, or a token that was given out for it. A browser cannot set a WebSocket's
// headers, and a token that ends in ten minutes may stand in a URL.

import { createHash, createHmac, timingSafeEqual } from "node:crypto";

const lifetime = 600; // seconds

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const sign = (text, secret) => createHmac("sha256", secret).update(text).digest("base64url");
const digest = (text) => createHash("sha256").update(text).digest();
const same = (one, other) => timingSafeEqual(digest(one), digest(other));

export function issue(secret, now = Date.now() / 1000) {
  const text = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ exp: Math.floor(now) + lifetime })}`;
  return `${text}.${sign(text, secret)}`;
}

export function isValid(token, secret, now = Date.now() / 1000) {
  const [head, claims, signature, ...rest] = token.split(".");
  if (!signature || rest.length > 0 || !same(signature, sign(`${head}.${claims}`, secret))) return false;
  return JSON.parse(Buffer.from(claims, "base64url")).exp > now;
}

export function mayAsk(request, { apiKey, jwtSecret }) {
  const header = request.headers.authorization?.match(/^Bearer (.+)$/)?.[1];
  const shown = header ?? new URLSearchParams(request.url.split("?")[1]).get("token") ?? "";
  return same(shown, apiKey) || isValid(shown, jwtSecret);
}
