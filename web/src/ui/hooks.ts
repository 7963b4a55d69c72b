import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, type ApiError } from "../api";

/** The present time, moved on every few seconds for relative times. */
let now = Date.now();
const ticks = new EventTarget();
setInterval(() => {
  now = Date.now();
  ticks.dispatchEvent(new Event("tick"));
}, 5000);

/** What f makes of the present time; it is drawn again when that changes, and not otherwise: a page may have thousands. */
export function useNow<T>(f: (now: number) => T): T {
  const [, again] = useState(0);
  const value = f(Math.max(now, Date.now() - 5000));
  const drawn = useRef({ f, value });
  drawn.current = { f, value };
  useEffect(() => {
    const update = () => {
      if (drawn.current.f(now) !== drawn.current.value) again((n) => n + 1);
    };
    ticks.addEventListener("tick", update);
    return () => ticks.removeEventListener("tick", update);
  }, []);
  return value;
}

export interface Loaded<T> {
  data?: T;
  error?: ApiError;
  loading: boolean;
  reload: () => void;
}

/**
 * Loads a resource and, with `period`, loads it again that many milliseconds
 * after each answer while the page is visible. What was loaded stays in view
 * while it is loaded again. No resource loads nothing.
 */
export function useLoad<T>(
  resource: string | undefined,
  query: Record<string, string | number | boolean | undefined> = {},
  period = 0,
): Loaded<T> {
  const key = resource === undefined ? "" : resource + "?" + JSON.stringify(query);
  const [state, set] = useState<{ key: string; data?: T; error?: ApiError; loading: boolean }>({ key, loading: key !== "" });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (resource === undefined) return;
    const ended = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let every = period;
    const load = async () => {
      every = period;
      set((s) => ({ key, data: s.key === key ? s.data : undefined, error: s.error, loading: true }));
      try {
        const data = await call<T>(resource, { query, signal: ended.signal });
        if (!ended.signal.aborted) set({ key, data, loading: false });
      } catch (error) {
        // A server that starts or cannot be reached may answer a moment later.
        if ([0, 503].includes((error as ApiError).status)) every ||= 3000;
        if (!ended.signal.aborted) set((s) => ({ key, data: s.key === key ? s.data : undefined, error: error as ApiError, loading: false }));
      }
      if (every > 0 && !ended.signal.aborted) timer = setTimeout(again, every);
    };
    const again = () => {
      if (document.hidden) timer = setTimeout(again, every);
      else void load();
    };
    void load();
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [key, turn, period]);
  const current = state.key === key;
  return { data: current ? state.data : undefined, error: current ? state.error : undefined, loading: current ? state.loading : true, reload };
}

/** A value that follows another one after it has rested for a while. */
export function useDelayed<T>(value: T, ms: number): T {
  const [late, set] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => set(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return late;
}

/** Calls f with what was pushed meanwhile, some times a second, and less often while a lot comes. */
export function useBatched<T>(f: (items: T[]) => void, max: number): (item: T) => void {
  const newest = useRef(f);
  newest.current = f;
  const waiting = useRef<T[]>([]);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const busy = useRef(false);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(
    (item: T) => {
      waiting.current.push(item);
      if (waiting.current.length > max) waiting.current.splice(0, waiting.current.length - max);
      timer.current ??= setTimeout(() => {
        timer.current = undefined;
        const items = waiting.current;
        waiting.current = [];
        busy.current = items.length > 50;
        newest.current(items);
      }, busy.current ? 600 : 150);
    },
    [max],
  );
}
