// Topics: loops of this program that listen to one topic share one subscription on the wire, each from its own position.
import type { OpenTopic, ToListener } from "./line.js";
import type { Outbox } from "./outbox.js";
import { RccsError, type Gap, type TopicItem } from "./types.js";
import { asError, isFinal, pipe, whenAborted, type Core, type Envelope } from "./wire.js";

/** A loop that listens. */
interface Listener {
  push: ToListener;
  /** Where to begin, until the edge has said which seq that is. */
  since?: unknown;
  /** The last seq that was handed on; undefined while `since` counts. */
  at?: number | undefined;
}

interface Topic {
  name: string;
  listeners: Set<Listener>;
  epoch?: string | undefined;
  /** The listener whose `since` the subscription began with, if it is not known as a seq yet. */
  first?: Listener | undefined;
  /** A subscribe is under way; another one waits for its answer. */
  busy?: boolean;
  dirty?: boolean;
  retry?: ReturnType<typeof setTimeout> | undefined;
}

export function createTopics(core: Core, outbox: Outbox) {
  const topics = new Map<string, Topic>();
  let online = false;

  /** Begins, or begins anew, once what was asked before is answered. */
  const join = async (t: Topic, leave: boolean) => {
    t.dirty = true;
    if (t.busy) return;
    t.busy = true;
    for (; t.dirty; leave = true) {
      t.dirty = false;
      await joinNow(t, leave);
    }
    t.busy = false;
  };

  /** Listens where the listener furthest behind is. */
  const joinNow = async (t: Topic, leave: boolean) => {
    clearTimeout(t.retry);
    t.retry = undefined;
    if (!online) return;
    const stale = () => topics.get(t.name) !== t;
    const first = (t.first = [...t.listeners].find((l) => l.at === undefined));
    const lowest = Math.min(...[...t.listeners].map((l) => l.at ?? Infinity));
    // A listener from now on begins with whatever the others have; any other one needs the edge to find its place.
    const since = first && (first.since !== undefined || lowest === Infinity) ? first.since : lowest;
    let last = 0;
    const agreed = (told: any) => {
      if (stale()) return;
      t.epoch = told.epoch;
      last = told.seq || told.since || 0;
      if (first && (first.since === undefined || first.since === "last")) first.push((first.at ??= first.since ? Math.max(0, last - 1) : last));
    };
    try {
      if (leave) await outbox.ask("unsubscribe", { topic: t.name }, { tied: true });
      if (stale()) return;
      await outbox.ask("subscribe", { topic: t.name, since, ...(typeof since === "number" && { epoch: t.epoch }) }, { tied: true, resultOf: agreed });
      if (stale() || !first || t.listeners.size === 1) return;
      // The others may lack what lies before the place of this one.
      const rejoin = () => {
        first.at ??= last;
        if (!stale() && (lowest < last || [...t.listeners].some((l) => l.at === undefined))) void join(t, true);
      };
      if (first.at !== undefined) rejoin();
      else t.retry = setTimeout(rejoin, 5000); // or when its first message has come
    } catch (err) {
      if (stale() || !online) return;
      const e = asError(err);
      if (e.code === "CONNECTION_LOST") return;
      if (!isFinal(e.code)) {
        t.retry = setTimeout(() => void join(t, false), e.retryAfterMs ?? 1000);
        return;
      }
      topics.delete(t.name);
      for (const l of t.listeners) l.push(e);
    }
  };

  const open: OpenTopic = (name, since, push) => {
    const l: Listener = { push, since, at: typeof since === "number" ? since : undefined };
    const t: Topic = topics.get(name) ?? { name, listeners: new Set() };
    topics.set(name, t);
    t.listeners.add(l);
    if (core.ended) push(core.ended);
    else void join(t, t.listeners.size > 1);
    return () => {
      if (!t.listeners.delete(l) || t.listeners.size) return;
      clearTimeout(t.retry);
      if (topics.get(name) === t) topics.delete(name);
      // A loop that begins again at once keeps the subscription: its own join leaves first.
      if (online) outbox.ask("unsubscribe", { topic: name }, { tied: true }).catch(() => {});
    };
  };

  return {
    open,
    receive(e: Envelope) {
      const t = topics.get(e.topic!);
      const seq = e.seq;
      if (!t || !seq) return;
      const { first } = t;
      for (const l of t.listeners) {
        if (l.at === undefined ? l !== first : seq <= l.at) continue;
        const begins = l.at === undefined;
        l.at = seq;
        l.push({ seq, data: e.payload, from: e.fromDeviceId ?? "", timestamp: e.timestamp ?? "" });
        if (begins && t.retry) void join(t, true);
      }
    },
    gap(gap: Gap) {
      const t = topics.get(gap.topic!);
      for (const l of t?.listeners ?? []) {
        if (gap.reason === "reset") l.at = 0;
        else if (l.at !== undefined) {
          if (gap.to <= l.at) continue;
          l.at = gap.to;
        }
        l.push({ gap });
      }
    },
    up() {
      online = true;
      for (const t of topics.values()) void join(t, false);
    },
    down() {
      online = false; // what waits to be tried again finds that, or the next connection does
    },
    end(why: RccsError) {
      online = false;
      for (const t of topics.values()) {
        clearTimeout(t.retry);
        for (const l of t.listeners) l.push(why);
      }
      topics.clear();
    },
  };
}

const enum Max {
  /** How many items wait for a slow loop before it stops listening; it goes on from the store when it has dealt with them. */
  items = 1024,
}

/** Listens as a loop does; ends with the signal. */
export async function* loop(open: OpenTopic, topic: string, since: unknown, signal?: AbortSignal): AsyncGenerator<TopicItem> {
  const items = pipe<TopicItem>();
  let stop: (() => void) | undefined;
  const listen = () => {
    stop = open(topic, since, (item) => {
      if (typeof item == "number") return void (since = item);
      items.push(item);
      if (!(item instanceof RccsError)) since = item.gap ? item.gap.to : item.seq;
      if (items.size() < Max.items) return;
      stop?.();
      stop = undefined;
    });
  };
  const off = whenAborted(signal, () => items.end(true));
  try {
    if (!signal?.aborted) listen();
    for (let item; (item = await items.next()); ) {
      yield item;
      if (!stop && !items.size()) listen();
    }
  } finally {
    stop?.();
    off();
  }
}
