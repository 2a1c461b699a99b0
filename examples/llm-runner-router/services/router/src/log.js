// One JSON object a line, on standard output and in a file of this pod's.

import { createWriteStream, mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

const levels = ["debug", "info", "warn", "error"];

export function openLog(level, dir, out = process.stdout) {
  const outputs = [out];
  if (dir) {
    mkdirSync(dir, { recursive: true });
    const file = createWriteStream(join(dir, `router-${hostname()}.log`), { flags: "a" });
    // A full disk must not end the service; standard output still has the line.
    file.on("error", (error) => out.write(`${JSON.stringify({ level: "error", message: `log file: ${error.message}` })}\n`));
    outputs.push(file);
  }
  const write = (name) => (message, fields) => {
    if (levels.indexOf(name) < levels.indexOf(level)) return;
    const line = `${JSON.stringify({ time: new Date().toISOString(), level: name, message, ...fields })}\n`;
    for (const output of outputs) output.write(line);
  };
  return Object.fromEntries(levels.map((name) => [name, write(name)]));
}
