// LiteLLM's side of the page: which models there are, and an answer as it comes.

export interface Message {
  role: "user" | "assistant";
  content: string;
}

/** The models that one can chat with; which embed only, LiteLLM's list doesn't say, so the name has to. */
export function chatModels(list: { data: { id: string }[] }): string[] {
  const names = list.data.map((model) => model.id).filter((id) => !/embed/i.test(id));
  return [...new Set(names)];
}

export async function models(): Promise<string[]> {
  return chatModels(await (await checked(await fetch("/api/models"))).json());
}

/** Answers word by word. */
export async function* ask(model: string, messages: Message[]): AsyncGenerator<string> {
  const answer = await checked(
    await fetch("/api/chat", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model, messages, stream: true }),
    }),
  );
  yield* words(answer.body!);
}

/** The texts in a stream of server-sent events, wherever the network cuts it. */
export async function* words(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split(/\r?\n/);
    rest = done ? "" : lines.pop()!;
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice("data:".length).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message ?? "the model failed");
      const text = event.choices?.[0]?.delta?.content;
      if (text) yield text;
    }
    if (done) return;
  }
}

/** What LiteLLM says went wrong, rather than a bare status. */
export async function checked(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  throw new Error(body?.error?.message ?? `${answer.url || "the stack"} answered ${answer.status}`);
}
