import { useEffect, useState } from "react";
import { look, services, type State } from "./services";

const every = 5000;

export function Status() {
  const [states, setStates] = useState(new Map<string, State>());
  useEffect(() => {
    let timer = 0;
    let gone = false;
    const again = async () => {
      const seen = await look();
      if (gone) return;
      setStates(seen);
      timer = window.setTimeout(again, every);
    };
    again();
    return () => {
      gone = true;
      window.clearTimeout(timer);
    };
  }, []);

  const up = [...states.values()].filter((state) => state === "up").length;
  return (
    <section aria-label="Services" className="status" data-up={up}>
      <h2>
        Services <small>{states.size ? `${up} of ${services.length} up` : "looking…"}</small>
      </h2>
      <ul>
        {services.map(({ name, port, does, asks, via }) => {
          const state = states.get(name) ?? "checking";
          const told = state === "unknown" ? `can't tell: ${via} is down, which answers for it` : asks;
          return (
            <li key={name} data-service={name} data-state={state} title={told}>
              <span className="dot" aria-hidden="true" />
              <strong>{name}</strong>
              <code>:{port}</code>
              <span className="does">{does}</span>
              <span className="state">{state}</span>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
