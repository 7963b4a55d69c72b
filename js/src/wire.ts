// Small things that every part needs: envelopes as they travel, ids, sizes, errors.
import type { Line } from "./line.js";
import type { Keeper } from "./store.js";
import { RccsError, type Store } from "./types.js";

/** A frame's element. Only what the client looks at. */
export interface Envelope {
  id?: string;
  type: string;
  fromDeviceId?: string;
  seq?: number;
  priority?: number;
  timestamp?: string;
  payload?: any;
  correlationId?: string;
  topic?: string;
  partial?: boolean;
  redelivered?: boolean;
  replay?: boolean;
  encoding?: "base64";
}

/** The priorities, by their number on the wire. */
export const lanes = ["low", "normal", "high", "critical"] as const;

// Not the types to which RCCS gives a meaning: as a message, `ack` would wait for an answer that never comes, and
// `device_unregister` end the session. The edge refuses the others.
const types = /^(?!(ack|heartbeat|device_(unregister|status|list)|(un)?subscribe|publish|history|request|response)$)[a-z][a-z0-9_.-]{0,63}$/;

/** Throws unless the edge would see a message with this type as one. */
export function checkType(type: string): void {
  if (!types.test(type)) throw new RccsError("BAD_MESSAGE", `type ${type}`);
}

/** Throws unless the edge would answer under this id. */
export function checkId(id: string): void {
  if (!id || byteLength(id) > 128 || /^\s|\s$|\p{C}/u.test(id)) throw new RccsError("BAD_MESSAGE", `id ${id}`);
}

const encoder = new TextEncoder();
export const utf8 = (s: string): ReturnType<TextEncoder["encode"]> => encoder.encode(s); // typed arrays are generic since TypeScript 5.7 only
export const byteLength = (s: string): number => utf8(s).length;

// An id is unique for its device: the time, something random, and a counter.
const seed = Date.now().toString(36) + Math.random().toString(36).slice(2);
let count = 0;
export const newId = (): string => seed + (count++).toString(36);

let stamped = 0;
/**
 * The end of a key that sorts behind all that were made before, also before a restart; `floor` is a key to come after. It is 17
 * digits and four characters that tell programs apart.
 */
export function newStamp(floor?: string | null): string {
  stamped = Math.max(stamped + 1, Date.now() * 1000, (+floor?.slice(-21, -4)! || 0) + 1);
  return String(stamped).padStart(17, "0") + seed.slice(-4);
}

/** Listeners, how to add one and how to call all; one that throws does not keep the others from hearing. */
export function emitter<T>(): [on: (f: (v: T) => void) => () => void, emit: (v: T) => void] {
  const all = new Set<(v: T) => void>();
  return [
    (f) => {
      const own: typeof f = (v) => f(v); // the same function twice is two listeners
      all.add(own);
      return () => void all.delete(own);
    },
    (v) => {
      for (const f of [...all])
        try {
          f(v);
        } catch (e) {
          console.error(e);
        }
    },
  ];
}

/** Calls f when the signal aborts, or has; what is returned stops that. */
export function whenAborted(signal: AbortSignal | undefined, f: (e: RccsError) => void): () => void {
  const own = () => f(new RccsError("ABORTED", "", { cause: signal!.reason }));
  if (signal?.aborted) own();
  else signal?.addEventListener("abort", own);
  return () => signal?.removeEventListener("abort", own);
}

/** Items that one side pushes and a loop takes; an error that is pushed ends the loop, and so does end(). */
export function pipe<T>() {
  let items: Array<T | RccsError> = [],
    ended = false,
    wake = () => {};
  return {
    /** How many wait. */
    size: () => items.length,
    push(item: T | RccsError): void {
      items.push(item);
      wake();
    },
    /** Ends the loop behind what waits, or before it. */
    end(drop?: boolean): void {
      ended = true;
      if (drop) items = [];
      wake();
    },
    /** The next item; undefined at the end. */
    async next(): Promise<T | undefined> {
      for (;;) {
        const item = items.shift();
        if (item instanceof RccsError) throw item;
        if (item !== undefined || ended) return item;
        await new Promise<void>((r) => (wake = r));
      }
    },
  };
}

/** An `error` payload, or that of a response, as what is thrown. */
export const toError = (p: any): RccsError =>
  new RccsError(String(p?.code ?? "INTERNAL"), p?.message, { retryAfterMs: p?.retryAfterMs && Math.min(p.retryAfterMs, 300_000) });

/** Anything thrown, as an RccsError. */
export const asError = (e: unknown, code = "INTERNAL"): RccsError =>
  e instanceof RccsError ? e : new RccsError(code, e instanceof Error ? e.message : String(e), { cause: e });

/** Reports whether trying again cannot help. A code that is not known is worth trying again. */
export const isFinal = (code: string): boolean =>
  /^(BAD_|AUTH_|TOKEN_|IDENTITY|PERM|DEVICE_[NR]|SESSION_R|MESSAGE|CLOSED|ABORT)/.test(code);

export const text = JSON.stringify as (v: unknown) => string;

/** JSON for a payload; undefined is null, and what is no JSON is refused. */
export function toJSON(v: unknown): string {
  try {
    return text(v) ?? "null";
  } catch (e) {
    throw asError(e, "BAD_MESSAGE");
  }
}

/** An envelope as it is written; `payload` is JSON already. */
export const envelope = (head: object, payload: string): string => `${text(head).slice(0, -1)},"payload":${payload}}`;

/** Calls f in a task of its own, soon, also in a page in the background, where timers are slow. */
export const soon: (f: () => void) => void =
  (globalThis as any).setImmediate ??
  ((f: () => void) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      f();
    };
    port2.postMessage(0);
  });

/** What all parts of a client share. */
export interface Core {
  /** To read from; what is written goes by the keeper. */
  readonly store: Store;
  readonly keeper: Keeper;
  /** How long to wait before something is tried again that failed so many times. */
  wait(tries: number): number;
  readonly line: Line | undefined;
  /** Why nothing goes any more. */
  readonly ended: RccsError | undefined;
  report(e: RccsError): void;
}

/** A settled promise's levers. */
export interface Deferred<T> {
  promise: Promise<T>;
  fulfil(v: T): void;
  fail(e: unknown): void;
}
export function deferred<T>(): Deferred<T> {
  let fulfil!: (v: T) => void, fail!: (e: unknown) => void;
  const promise = new Promise<T>((a, b) => {
    fulfil = a;
    fail = b;
  });
  return { promise, fulfil, fail };
}
