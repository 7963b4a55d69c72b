import { tenant } from "./router";
import type { Problem } from "./types";

/** An answer of the API that is not a success. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly unacknowledged = 0,
  ) {
    super(message);
  }
}

/** Names of users, devices, topics and ids stand percent-encoded in a path. */
export function path(...names: string[]): string {
  return names.map(encodeURIComponent).join("/");
}

/** The address of something under /v1, below whatever prefix the console is served. */
export function url(resource: string, query: Record<string, string | number | boolean | undefined> = {}): string {
  const to = new URL("../v1/" + resource, document.baseURI);
  const name = tenant();
  if (name) to.searchParams.set("tenant", name);
  for (const [key, value] of Object.entries(query)) {
    // An empty ?tail= asks for everything; any other empty parameter for nothing.
    if (value !== undefined && (value !== "" || key === "tail")) to.searchParams.set(key, String(value));
  }
  return to.href;
}

interface Call {
  method?: string;
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  signal?: AbortSignal;
}

/** Called when the API asks for a login. */
let onUnauthorized = () => {};
export function whenUnauthorized(f: () => void): void {
  onUnauthorized = f;
}

/** Asks the API, and throws an ApiError when the answer is not a success. */
export async function call<T>(resource: string, { method = "GET", query, body, signal }: Call = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url(resource, query), {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "UNREACHABLE", "The server does not answer. Is it running, and is the network there?");
  }
  const text = await response.text();
  if (response.ok) return (text ? JSON.parse(text) : undefined) as T;
  if (response.status === 401 && resource !== "session") onUnauthorized();
  let problem: Problem = {};
  try {
    problem = JSON.parse(text) as Problem;
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  throw new ApiError(
    response.status,
    problem.code ?? String(response.status),
    problem.detail ?? problem.title ?? `The server answered ${response.status} ${response.statusText}`,
    problem.unacknowledged,
  );
}

export interface Source {
  /** Tells whether the events flow. */
  onOpen?: (open: boolean) => void;
  on: Record<string, (data: unknown, id: string) => void>;
}

/**
 * Listens to Server-Sent Events until the returned function is called. The
 * browser connects again by itself; where it gives up (an answer that is no
 * event stream), this tries again after a while.
 */
export function listen(resource: string, query: Record<string, string | undefined>, { on, onOpen }: Source): () => void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wait = 1000;
  const open = () => {
    source = new EventSource(url(resource, query));
    source.onopen = () => {
      wait = 1000;
      onOpen?.(true);
    };
    source.onerror = () => {
      onOpen?.(false);
      if (source?.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 15000);
    };
    for (const [kind, f] of Object.entries(on)) {
      source.addEventListener(kind, (event) => {
        const e = event as MessageEvent<string>;
        try {
          f(JSON.parse(e.data), e.lastEventId);
        } catch {
          // An event that is not JSON is not for us.
        }
      });
    }
  };
  open();
  return () => {
    clearTimeout(timer);
    source?.close();
  };
}
