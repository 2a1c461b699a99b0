import { describe, expect, it } from "vitest";
import { chatModels, checked, words } from "./chat";

/** A stream cut at every given number of bytes. */
function stream(text: string, size: number): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  return new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    },
  });
}

async function all(from: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const word of from) text += word;
  return text;
}

const event = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;

describe("words", () => {
  const text = `: hello\n\n${event("Grüße ")}${event("und 你好")}data: [DONE]\n\n`;

  it.each([1, 2, 3, 7, 1000])("puts the answer together from pieces of %i bytes", async (size) => {
    expect(await all(words(stream(text, size)))).toBe("Grüße und 你好");
  });

  it("reads a last line without its end", async () => {
    expect(await all(words(stream(event("hi").trimEnd(), 5)))).toBe("hi");
  });

  it("passes over events without text", async () => {
    expect(await all(words(stream(`data: {"choices":[{"delta":{}}]}\n\ndata: {"choices":[]}\n\n${event("hi")}`, 9)))).toBe("hi");
  });

  it("fails with the words of an error in the stream", async () => {
    await expect(all(words(stream('data: {"error":{"message":"no key"}}\n\n', 100)))).rejects.toThrow("no key");
  });
});

describe("chatModels", () => {
  it("leaves out embeddings and repetitions", () => {
    const list = { data: [{ id: "chat" }, { id: "text-embedding-3-small" }, { id: "chat" }, { id: "gpt-4o-mini" }] };
    expect(chatModels(list)).toEqual(["chat", "gpt-4o-mini"]);
  });
});

describe("checked", () => {
  it("lets a good answer pass", async () => {
    const answer = new Response("{}");
    expect(await checked(answer)).toBe(answer);
  });

  it("says what the stack said", async () => {
    const answer = Response.json({ error: { message: "Invalid model" } }, { status: 400 });
    await expect(checked(answer)).rejects.toThrow("Invalid model");
  });

  it("says the status when there is no reason", async () => {
    await expect(checked(new Response("<html>", { status: 502 }))).rejects.toThrow("502");
  });
});
