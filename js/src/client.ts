// The client: it puts the parts together, and gives each frame to the part that it is for.
import { authOf } from "./auth.js";
import { createInbox } from "./inbox.js";
import { openLine, type Hears, type Line, type OpenLine } from "./line.js";
import { Behind, createOutbox } from "./outbox.js";
import { createRequests } from "./requests.js";
import { keeper, memoryStore } from "./store.js";
import { createTopics, loop } from "./topics.js";
import { RccsError, type Client, type Device, type Gap, type Options, type Outcome, type Presence, type State, type Store } from "./types.js";
import { asError, emitter, lanes, newId, whenAborted, type Core, type Envelope } from "./wire.js";

/** How a store whose pages share one connection opens it. */
export const SHARE = Symbol.for("rccs.share");
export interface SharedStore extends Store {
  [SHARE]?: (open: OpenLine) => OpenLine;
}

/** How many sent messages are remembered whose outcome somebody wants to know. */
const enum Max {
  tracked = 1000,
}

/** Connects a device. It returns at once and connects in the background, and comes back until it is closed. */
export function connect(url: string, o: Options): Client {
  const given: SharedStore = o.store ?? memoryStore();
  const [onState, emitState] = emitter<State>(),
    [onPresence, emitPresence] = emitter<Presence>(),
    [onGap, emitGap] = emitter<Gap>(),
    [onError, emitError] = emitter<RccsError>(),
    [onOutcome, emitOutcome] = emitter<Outcome>();
  const tracked = new Set<string>(); // sent, and somebody wants to know the outcome
  let state: State = "connecting",
    ended: RccsError | undefined,
    closing: Promise<void> | undefined,
    line: Line | undefined,
    status: object | undefined; // what setStatus said last

  const report = (e: unknown) => emitError(asError(e));
  const store = keeper(given, report);
  const { minMs = 500, maxMs = 20_000 } = o.backoff ?? {};
  const wait = (tries: number) => Math.min(Math.max(minMs, maxMs), minMs * 2 ** tries);
  const core: Core = {
    store: given,
    keeper: store,
    wait,
    report,
    get line() {
      return line;
    },
    get ended() {
      return ended;
    },
  };
  const outbox = createOutbox(core, o.outbox?.maxMessages, o.outbox?.maxBytes);
  const inbox = createInbox(core, o.window ?? 256, outbox.write);
  const requests = createRequests(core, outbox);
  const topics = createTopics(core, outbox);

  const setState = (s: State) => {
    if (s === state || state === "closed") return;
    state = s;
    emitState(s);
  };

  /** Ends all that waits. */
  const finish = (why: RccsError) => {
    ended = why;
    requests.down(why);
    outbox.end(why);
    topics.end(why);
    setState("closed");
  };

  const dispatch = (e: Envelope): unknown => {
    const p = e?.payload;
    switch (e?.type) {
      case "ack":
        if (e.seq) return inbox.receive(e); // an outcome
        return outbox.answered(p?.originalMessageId, p) || requests.giveUp(p?.cancel);
      case "error":
        // What nobody waits for here is another page's, or was given up.
        return outbox.refused(p.originalMessageId, p) || requests.unwanted(p);
      case "response":
        return e.partial ? outbox.entry(e.correlationId!)?.part?.(p) : outbox.answered(e.correlationId!, p);
      case "request":
        return requests.serve(e);
      case "topic":
        return topics.receive(e);
      case "presence":
        return p?.deviceId && emitPresence(p);
      case "gap":
        if (p?.from >= 0 && p.to >= 0) {
          topics.gap(p);
          emitGap(p);
        }
        return;
      default:
        if (e?.type) inbox.receive(e);
    }
  };

  inbox.on("ack", ({ originalMessageId: id, status, deviceId, reason }) => {
    if (tracked.has(id)) emitOutcome({ id, status, deviceId, reason });
  });
  const track = (id: string) => {
    tracked.add(id);
    store.set(`track/${id}`, "");
    if (tracked.size <= Max.tracked) return;
    const [old] = tracked;
    tracked.delete(old!);
    store.delete(`track/${old}`);
  };

  /** Reads the store; nothing that comes is looked at before. */
  const load = async () => {
    for (const [key] of await given.list("track/")) tracked.add(key.slice(6));
    await inbox.load();
    if (!given[SHARE]) await outbox.load(given.list("out/"));
  };
  const hears: Hears = {
    setState,
    up(session) {
      inbox.up(session.epoch);
      outbox.up(session.maxMessageBytes);
      requests.up();
      topics.up();
      if (status && !session.resumed) outbox.ask("device_status", status, { tied: true }).catch(() => {});
    },
    take: (items) => items.forEach(dispatch),
    down(code) {
      topics.down();
      outbox.down(code);
      requests.down(new RccsError("CONNECTION_LOST"));
    },
    report,
    final(e) {
      report(e);
      finish(e);
    },
    wait,
    settled: inbox.settled,
    handles: requests.handles,
    unhandled: inbox.unhandled,
    listen: topics.open,
    adopt: outbox.load,
    flush: inbox.flush,
  };

  const WS = o.WebSocket ?? globalThis.WebSocket;
  if (!WS) throw new RccsError("NO_WEBSOCKET", "pass options.WebSocket");
  const auth = authOf(url, o); // throws where the credentials are none
  const loaded = load()
    .catch(report)
    .then(() => {
      if (!closing) line = (given[SHARE]?.(openLine) ?? openLine)(url, { ...o, WebSocket: WS }, auth, hears);
    });

  const check = () => {
    if (ended) throw ended;
  };

  /** Asks for one page after the other. */
  async function* pages(type: string, payload: { from?: number }, of: string): AsyncGenerator<any> {
    for (let { from } = payload; ; ) {
      const page = await outbox.ask(type, { ...payload, from });
      yield* page[of] ?? [];
      if (!page.next || page.next === from) return;
      from = page.next;
    }
  }

  const client: Client = {
    get state() {
      return state;
    },
    get session() {
      return state === "online" ? line?.session : undefined;
    },
    async ready({ signal } = {}) {
      if (state === "online") return;
      check();
      let offs: Array<() => void>;
      await new Promise<void>((resolve, reject) => {
        offs = [onState((s) => (s === "online" ? resolve() : s === "closed" && reject(ended))), whenAborted(signal, reject)];
      }).finally(() => offs.forEach((off) => off()));
    },
    onState,
    onPresence,
    onGap,
    onError,
    onOutcome,

    send(type, payload, so = {}) {
      try {
        const id = so.id ?? newId();
        const sent = outbox.send(id, type, payload, so);
        if (so.track && !so.ephemeral) track(id);
        return sent; // this very promise, so that what nobody waits for is no unhandled rejection at the end
      } catch (e) {
        return Promise.reject(e);
      }
    },
    async cancel(id) {
      await outbox.entry(id)?.answer.promise.catch(() => {}); // it is answered under the same id
      return (await outbox.ask("ack", { cancel: id }, { id })).cancelled ?? 0;
    },
    on: inbox.on,
    request: requests.ask,
    requestStream: requests.stream,
    handle: requests.handle,
    subscribe: (topic, { since, signal } = {}) => {
      check();
      if (since !== "last" && isNaN(+new Date(since ?? 0))) throw new RccsError("BAD_MESSAGE", 'pass a seq, a time or "last"');
      return loop(() => line?.listen ?? topics.open, topic, since, signal);
    },
    publish: async (topic, data, { id } = {}) => {
      const { seq, duplicate } = await outbox.ask("publish", { topic, data: data ?? null }, { id, queue: Behind.publish, retry: true });
      return { seq, duplicate: !!duplicate };
    },
    async *history(what) {
      for await (const e of pages("history", what, "messages")) yield { ...e, priority: lanes[e.priority ?? 1] };
    },
    async devices() {
      const all: Device[] = [];
      for await (const d of pages("device_list", {}, "devices")) all.push(d);
      return all;
    },
    setStatus: async (s, more) => {
      status = { ...more, status: s };
      await outbox.ask("device_status", status);
    },
    async forget() {
      await outbox.ask("device_unregister", { forget: true });
      line?.end?.();
      await client.close();
    },
    close: () =>
      (closing ??= (async () => {
        finish(ended ?? new RccsError("CLOSED"));
        await loaded;
        await inbox.end();
        await line?.close();
        await store.idle();
      })()),
  };
  return client;
}
