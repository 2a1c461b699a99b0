import { type FormEvent, useEffect, useRef, useState } from "react";
import { ask, type Message, models } from "./chat";

// "?ask=hello" asks as soon as there is a model to ask: for links, and for trying the page without hands.
const asked = new URLSearchParams(location.search).get("ask");

export function Chat() {
  const [names, setNames] = useState<string[]>([]);
  const [model, setModel] = useState("");
  const [messages, setMessages] = useState<Message[]>([]);
  const [question, setQuestion] = useState("");
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState("");
  const end = useRef<HTMLDivElement>(null);
  const begun = useRef(false);

  async function send(name: string, text: string) {
    const history: Message[] = [...messages, { role: "user", content: text }];
    let answer = "";
    setBusy(true);
    setTrouble("");
    setMessages([...history, { role: "assistant", content: answer }]);
    try {
      for await (const word of ask(name, history)) {
        answer += word;
        setMessages([...history, { role: "assistant", content: answer }]);
      }
    } catch (error) {
      setMessages(history);
      setTrouble(String(error instanceof Error ? error.message : error));
    }
    setBusy(false);
  }

  useEffect(() => {
    if (begun.current) return; // StrictMode runs effects twice
    begun.current = true;
    models().then(
      (list) => {
        const first = list.includes("chat") ? "chat" : (list[0] ?? "");
        setNames(list);
        setModel(first);
        if (asked && first) send(first, asked);
      },
      (error) => setTrouble(`No models: ${error.message}`),
    );
  }, []);

  useEffect(() => {
    end.current?.scrollIntoView({ block: "nearest" });
  }, [messages]);

  function submit(event: FormEvent) {
    event.preventDefault();
    if (!question.trim() || !model || busy) return;
    setQuestion("");
    send(model, question.trim());
  }

  return (
    <section aria-label="Chat" className="chat" data-busy={busy}>
      <h2>
        Chat
        <select aria-label="Model" value={model} onChange={(event) => setModel(event.target.value)}>
          {names.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </h2>
      <div className="messages" aria-live="polite">
        {messages.length === 0 && <p className="hint">Ask something; the answer comes through LiteLLM.</p>}
        {messages.map(({ role, content }, index) => (
          <p key={index} className={role} data-role={role}>
            {content || "…"}
          </p>
        ))}
        {trouble && (
          <p className="trouble" role="alert">
            {trouble}
          </p>
        )}
        <div ref={end} />
      </div>
      <form onSubmit={submit}>
        <input aria-label="Question" placeholder="Your question" value={question} onChange={(event) => setQuestion(event.target.value)} />
        <button disabled={busy || !model || !question.trim()}>Send</button>
      </form>
    </section>
  );
}
