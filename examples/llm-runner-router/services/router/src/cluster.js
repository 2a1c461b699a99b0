// What the Kubernetes API says of the router's own pods and claims. The Role allows to read these and little else.

import { readFile } from "node:fs/promises";
import https from "node:https";

const account = "/var/run/secrets/kubernetes.io/serviceaccount";

async function list(what, namespace, selector) {
  const [token, ca] = await Promise.all([readFile(`${account}/token`, "utf8"), readFile(`${account}/ca.crt`)]);
  const url = new URL(`/api/v1/namespaces/${namespace}/${what}`, "https://kubernetes.default.svc");
  url.searchParams.set("labelSelector", selector);
  return new Promise((resolve, reject) => {
    const asked = https.get(url, { ca, headers: { Authorization: `Bearer ${token}` }, timeout: 5000 }, async (response) => {
      try {
        const body = JSON.parse((await response.toArray()).join(""));
        response.statusCode === 200 ? resolve(body.items) : reject(new Error(body.message));
      } catch (error) {
        reject(error);
      }
    });
    asked.on("timeout", () => asked.destroy(new Error("the Kubernetes API does not answer")));
    asked.on("error", reject);
  });
}

export async function describe() {
  const namespace = await readFile(`${account}/namespace`, "utf8");
  const selector = "app=llm-runner-router";
  const [pods, claims] = await Promise.all([
    list("pods", namespace, selector),
    list("persistentvolumeclaims", namespace, selector),
  ]);
  return {
    namespace,
    pods: pods.map(({ metadata, status }) => ({
      name: metadata.name,
      ready: status.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false,
    })),
    claims: claims.map(({ metadata, spec, status }) => ({
      name: metadata.name,
      asked: spec.resources.requests.storage,
      has: status.capacity?.storage ?? null,
      accessModes: spec.accessModes,
    })),
  };
}
