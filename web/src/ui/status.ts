import { useEffect, useState } from "preact/hooks";

// What came of the last act, said once for the whole console.

const said = new EventTarget();
let text = "";
let timer: ReturnType<typeof setTimeout> | undefined;

/** Says what came of something, for a while. */
export function say(what: string): void {
  text = what;
  said.dispatchEvent(new Event("said"));
  clearTimeout(timer);
  if (what) timer = setTimeout(() => say(""), 15000);
}

export function useSaid(): string {
  const [now, set] = useState(text);
  useEffect(() => {
    const update = () => set(text);
    said.addEventListener("said", update);
    return () => said.removeEventListener("said", update);
  }, []);
  return now;
}
