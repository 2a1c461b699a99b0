import { Chat } from "./Chat";
import { Status } from "./Status";

export function App() {
  return (
    <main>
      <header>
        <h1>LLM Stack</h1>
        <p>Seven services on your own cluster.</p>
      </header>
      <Status />
      <Chat />
    </main>
  );
}
