// Requests of other devices, and the answers to this device's own.
import type { Outbox } from "./outbox.js";
import { RccsError, type Handling, type RequestOptions } from "./types.js";
import { envelope, newId, pipe, text, toError, toJSON, whenAborted, type Core, type Envelope } from "./wire.js";

type Handler = (params: any, ctx: Handling) => unknown;

const enum Max {
  /** Parts wait while the socket has more than this to write. */
  unwritten = 1 << 20,
}

export function createRequests(core: Core, outbox: Outbox) {
  const handlers = new Map<string, Handler>(),
    running = new Map<string, AbortController>();

  // Its id says which request is answered, where that fits into 128 bytes: ids of the SDKs do.
  const respond = (id: string, payload: string, partial?: true) =>
    outbox.respond(envelope({ type: "response", id: `${newId()}.${id[30] ? "" : id}`, correlationId: id, partial }, payload));
  /** Answers with what was thrown: an error's own code, where it has one. */
  const refuse = (id: string, e: any) =>
    respond(id, text({ error: { code: typeof e?.code == "string" ? e.code : "INTERNAL", message: String(e?.message ?? e) } }));

  const serve = async (e: Envelope) => {
    const id = e.id!;
    const { method, params, timeoutMs } = e.payload ?? {};
    const f = handlers.get(method);
    if (!f) return refuse(id, new RccsError("METHOD_NOT_FOUND", method));
    const stop = new AbortController();
    const { signal } = stop;
    running.set(id, stop);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const rewind = () => {
      clearTimeout(timer);
      if (timeoutMs) timer = setTimeout(() => stop.abort(new RccsError("TIMEOUT")), timeoutMs);
    };
    rewind();
    try {
      let result = await f(params, { from: e.fromDeviceId!, signal });
      const parts = (result as Partial<AsyncIterable<unknown>>)?.[Symbol.asyncIterator]?.();
      if (parts) {
        for (let next; (next = await parts.next()), (result = next.value), !next.done; ) {
          respond(id, `{"result":${toJSON(result)}}`, true);
          rewind();
          while (core.line?.buffered()! > Max.unwritten && !signal.aborted) await new Promise((f) => setTimeout(f, 10));
          if (signal.aborted) return void parts.return?.();
        }
      }
      if (!signal.aborted) respond(id, `{"result":${toJSON(result)}}`);
    } catch (err) {
      if (!signal.aborted) refuse(id, err);
    } finally {
      clearTimeout(timer);
      if (running.get(id) === stop) running.delete(id);
    }
  };

  let lost: string[] = [];

  /** Asks another device. `part` hears each part but the last. */
  const ask = async (method: string, params: unknown, o: RequestOptions, part?: (payload: any) => void): Promise<any> => {
    const id = newId();
    const { timeoutMs, signal, to } = o;
    // One that was not written in its time is not asked; past that the edge keeps the time.
    const timer = setTimeout(() => outbox.entry(id)?.sent || outbox.drop(id, new RccsError("CONNECTION_LOST")), timeoutMs ?? 10_000);
    let why: RccsError | undefined;
    const off = whenAborted(signal, (e) => {
      why = e;
      if (outbox.entry(id)?.sent) outbox.write(text({ type: "ack", payload: { cancel: id } }));
      outbox.drop(id, e);
    });
    try {
      if (why) throw why;
      const payload = { method, params: params ?? null, timeoutMs };
      const p = await outbox.ask("request", payload, { id, tied: true, head: { toDeviceId: to }, part });
      if (p?.error) throw toError(p.error);
      return p?.result;
    } finally {
      clearTimeout(timer);
      off();
    }
  };

  return {
    serve: (e: Envelope) => e.id && serve(e),
    handles: (method: string) => handlers.has(method),

    handle(method: string, f: Handler): () => void {
      handlers.set(method, f);
      core.line?.handles?.(method, true);
      return () => {
        if (handlers.get(method) !== f) return;
        handlers.delete(method);
        core.line?.handles?.(method, false);
      };
    },

    /** The edge did not take a response: if it does not fit into a frame of the requester, that is the answer. */
    unwanted(p: any) {
      const id = /\.(.+)/.exec(p.originalMessageId)?.[1];
      if (id && p.code === "MESSAGE_TOO_LARGE") refuse(id, p);
    },

    /** The requester has given up, or has gone. */
    giveUp(id: string) {
      running.get(id)?.abort(new RccsError("ABORTED"));
    },

    up() {
      for (const id of lost) refuse(id, new RccsError("UNAVAILABLE"));
      lost = [];
    },
    down(why: RccsError) {
      lost.push(...running.keys());
      for (const stop of running.values()) stop.abort(why);
      running.clear();
    },

    ask,

    /** The same as a loop over parts; the last one is what the response ended with, unless that is null after others. */
    async *stream(method: string, params: unknown, o: RequestOptions): AsyncGenerator<any> {
      const stop = new AbortController();
      const off = whenAborted(o.signal, (e) => stop.abort(e.cause));
      const parts = pipe<{ v: any }>();
      let any = false;
      const put = (v: any) => {
        any = true;
        parts.push({ v });
      };
      ask(method, params, { ...o, signal: stop.signal }, (p) => put(p?.result)).then(
        (v) => {
          if (!any || (v !== undefined && v !== null)) put(v);
          parts.end();
        },
        (e) => parts.push(e),
      );
      try {
        for (let item; (item = await parts.next()); ) yield item.v;
      } finally {
        stop.abort();
        off();
      }
    },
  };
}
