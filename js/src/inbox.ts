// Messages that came: each is handed on once, in the order of its lane, and acknowledged when it has been handled and that is
// in the store.
import type { Message } from "./types.js";
import { asError, byteLength, lanes, newStamp, soon, text, type Core, type Envelope } from "./wire.js";

const enum Max {
  /** How many handled messages are remembered at least. */
  remembered = 4096,
  /** After so many tries a message no longer holds back those behind it. */
  triesInOrder = 3,
}

type Handler = (payload: any, message: Message) => unknown;

/** A message on its way to the handlers. */
interface Job {
  m: Message;
  who: string;
  seq?: number | undefined;
  tries: number;
  /** The handler has refused it. */
  reject?: { reason?: string | undefined };
}

interface Queue {
  type: string;
  jobs: Job[];
  busy: boolean;
}

export function createInbox(core: Core, window: number, write: (frame: string) => void) {
  const { keeper: store } = core;
  const handlers = new Map<string, Set<Handler>>(),
    queues = new Map<string, Queue>(), // by type and lane
    pending = new Map<number, Job>(), // not handled yet, by seq
    timers = new Set<ReturnType<typeof setTimeout>>();
  const most = Math.max(Max.remembered, 2 * window);
  let seqs = new Set<number>(), // handled, in that order
    ids = new Set<string>(), // the same by sender and id
    chunks: Array<{ key: string; n: number }> = [], // how they lie in the store
    kept = 0,
    epoch: string | undefined,
    done: Job[] = [], // to be put into the store, then acknowledged
    again: number[] = [], // to be acknowledged once more
    flushing = false,
    idle: Promise<void> | undefined;

  const remember = (who: string, seq?: number) => {
    ids.delete(who);
    ids.add(who);
    if (seq) seqs.add(seq);
    if (ids.size > most) ids.delete(ids.values().next().value!);
    if (seqs.size > most) seqs.delete(seqs.values().next().value!);
  };

  const schedule = () => {
    if (flushing) return;
    flushing = true;
    idle = new Promise((resolve) => soon(() => flush().then(resolve)));
  };

  const flush = async () => {
    const batch = done;
    const acks = again;
    done = [];
    again = [];
    if (batch.length) {
      const key = `seen/${newStamp()}`;
      // What cannot be written is remembered for as long as the program lasts.
      if (await store.set(key, text(batch.map((j) => [j.who, j.seq ?? 0])))) {
        chunks.push({ key, n: batch.length });
        kept += batch.length;
      }
      while (chunks[0] && kept - chunks[0].n >= most) {
        const old = chunks.shift()!;
        kept -= old.n;
        store.delete(old.key);
      }
    }
    for (const j of batch) {
      if (!j.seq) continue; // of a sequence that is no more
      pending.delete(j.seq);
      if (j.reject) write(text({ type: "ack", payload: { reject: { seq: j.seq, ...j.reject } } }));
      else acks.push(j.seq);
    }
    if (acks.length) {
      write(text({ type: "ack", payload: { seqs: acks } }));
      core.line?.settled?.(acks);
    }
    flushing = false;
    if (done.length || again.length) schedule(); // also after the end: what was handled must not come again
  };
  const finish = (j: Job) => {
    if (!j.m.seq) return; // ephemeral
    remember(j.who, j.seq);
    done.push(j);
    schedule();
  };

  const handlersOf = (type: string): Handler[] => [...(handlers.get(type) ?? []), ...((type !== "ack" && handlers.get("*")) || [])];

  /** Hands the messages of a queue on, one after the other. */
  const run = (q: Queue) => {
    while (!q.busy && q.jobs.length && !core.ended) {
      const fs = handlersOf(q.type);
      if (!fs.length) return;
      const j = q.jobs.shift()!;
      if (j.seq && !j.m.replay && ids.has(j.who)) {
        // Of a message that came twice, the second waited here while the first was handled.
        done.push(j);
        schedule();
        continue;
      }
      let results: unknown[];
      try {
        results = fs.map((f) => f(j.m.payload, j.m));
      } catch (e) {
        failed(q, j, e);
        continue;
      }
      if (results.some((r: any) => r?.then)) {
        q.busy = true;
        Promise.all(results).then(
          () => {
            q.busy = false;
            finish(j);
            run(q);
          },
          (e) => {
            q.busy = false;
            failed(q, j, e);
            run(q);
          },
        );
      } else finish(j);
    }
  };

  const failed = (q: Queue, j: Job, e: unknown) => {
    if (core.ended) return;
    if ((e as Error)?.name === "Reject") {
      let reason = (e as Error).message;
      while (byteLength(reason) > 256) reason = reason.slice(0, -1);
      j.reject = { reason: reason || undefined };
      return finish(j);
    }
    core.report(asError(e));
    if (!j.m.seq) return; // ephemeral: it was told once
    const waits = ++j.tries < Max.triesInOrder;
    q.busy = waits;
    const timer = setTimeout(() => {
      timers.delete(timer);
      if (waits) q.busy = false;
      j.m.redelivered = true;
      q.jobs.unshift(j);
      run(q);
    }, core.wait(j.tries - 1));
    timers.add(timer);
  };

  /** Drops what waits and is not pending any more. */
  const dropJobs = () => {
    for (const q of queues.values()) q.jobs = q.jobs.filter((j) => !j.m.seq || pending.has(j.m.seq));
  };

  return {
    on(type: string, f: Handler): () => void {
      const own: Handler = (p, m) => f(p, m);
      let all = handlers.get(type);
      if (!all) handlers.set(type, (all = new Set()));
      all.add(own);
      // In a task of its own: who adds several handlers has them all hear the first message.
      soon(() => {
        for (const q of queues.values()) run(q);
      });
      return () => void all.delete(own);
    },

    async load() {
      epoch = await core.store.get("epoch");
      for (const [key, value] of await core.store.list("seen/")) {
        newStamp(key);
        const all: Array<[string, number]> = JSON.parse(value);
        for (const [who, seq] of all) remember(who, seq);
        chunks.push({ key, n: all.length });
        kept += all.length;
      }
    },

    /** Registered: of another epoch, sequences mean other messages. */
    up(now: string | undefined) {
      again = [];
      if (now && now !== epoch) {
        if (epoch) {
          seqs = new Set();
          for (const j of pending.values()) j.seq = undefined;
          pending.clear();
          dropJobs();
        }
        epoch = now;
        void store.set("epoch", now);
      }
    },

    /** Takes a message from the connection. */
    receive(e: Envelope) {
      const who = `${e.fromDeviceId} ${e.id}`;
      const seq = e.seq;
      if (seq) {
        if (pending.has(seq)) return;
        if (seqs.has(seq) || (e.id && !e.replay && ids.has(who))) {
          again.push(seq);
          return schedule();
        }
      }
      const m = e as unknown as Message; // the very object, with the lane's name in place of its number
      m.priority = lanes[e.priority ?? 1] ?? m.priority; // which another page has named already
      const j: Job = { m, who, seq, tries: 0 };
      const name = `${e.type} ${m.priority}`;
      let q = queues.get(name);
      if (!q) queues.set(name, (q = { type: e.type, jobs: [], busy: false }));
      if (seq) {
        pending.set(seq, j);
      } else if (!handlersOf(e.type).length) return; // ephemeral, and nobody listens
      q.jobs.push(j);
      run(q);
    },

    /** Puts what was handled into the store now. */
    flush,

    /** What waits for a handler. */
    unhandled: (): Message[] => [...pending.values()].map((j) => j.m).filter((m) => !handlersOf(m.type).length),

    /** Another page has acknowledged these: those that nobody waits for here need not be kept. */
    settled(by: number[]) {
      for (const seq of by) {
        const j = pending.get(seq);
        if (!j || handlersOf(j.m.type).length) continue;
        pending.delete(seq);
        remember(j.who, seq);
      }
      dropJobs();
    },

    /** Resolves when what was handled is in the store and acknowledged. */
    async end() {
      for (const t of timers) clearTimeout(t);
      while (flushing) await idle;
    },
  };
}
