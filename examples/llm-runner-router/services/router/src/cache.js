// Values kept on a disk that several pods may share: a file each, named by the digest of its key.

import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

export class DiskCache {
  constructor(dir, enabled = true) {
    this.dir = dir;
    this.enabled = enabled;
  }

  async get(key) {
    if (!this.enabled) return undefined;
    try {
      return JSON.parse(await readFile(this.#file(key), "utf8"));
    } catch {
      return undefined; // not there, or of a pod that died while it wrote
    }
  }

  async set(key, value) {
    if (!this.enabled) return;
    await mkdir(this.dir, { recursive: true });
    // Whoever reads meanwhile sees all of it or nothing.
    const unfinished = join(this.dir, `.${randomUUID()}`);
    await writeFile(unfinished, JSON.stringify(value));
    await rename(unfinished, this.#file(key));
  }

  #file(key) {
    return join(this.dir, `${createHash("sha256").update(JSON.stringify(key)).digest("hex")}.json`);
  }
}
