// Topics: loops of this program that listen to one topic share one subscription on the wire, each from its own position.
import type { OpenTopic, ToListener } from "./line.js";
import type { Outbox } from "./outbox.js";
import { RccsError, type Gap, type TopicItem } from "./types.js";
import { isFinal, pipe, whenAborted, type Core, type Envelope } from "./wire.js";

/** A loop that listens. */
interface Listener {
  push: ToListener;
  /** Where it is to begin; counts until the edge has found that place. */
  since: unknown;
  /** The last seq that was handed on, or behind which it begins; undefined until that is known. */
  at?: number | undefined;
  /** What `at` counts in, or a `since` that is a seq. */
  epoch: string | undefined;
  /** The subscription began where it is, or before: what comes is for it. */
  on?: boolean;
}

interface Topic {
  topic: string;
  listeners: Set<Listener>;
  /** Counts joins of a connection: a later one takes the place of those that are under way. 0 at the end. */
  joins: number;
  retry?: ReturnType<typeof setTimeout> | undefined;
}

export function createTopics(core: Core, outbox: Outbox) {
  const topics = new Map<string, Topic>();
  let online = false;

  const ask = (type: string, payload: object, resultOf?: (told: any) => number) => outbox.ask(type, payload, { tied: true, resultOf });
  const leave = (topic: string) => ask("unsubscribe", { topic });

  /** Has the edge find the place of a listener; when all are known, listens where the one furthest behind is. */
  const join = async (t: Topic) => {
    const { topic, listeners } = t;
    clearTimeout(t.retry);
    t.retry = undefined;
    if (!online) return;
    const no = ++t.joins;
    const stale = () => !online || no !== t.joins;
    const all = [...listeners];
    const first = all.find((l) => l.at === undefined && l.since != null);
    const asking = first ? [first] : all;
    try {
      if (no > 1) await leave(topic);
      if (stale()) return;
      const since = first?.since ?? asking.map((l) => l.at).sort((a, b) => a! - b!)[0];
      const agreed = (told: any) => {
        const last: number = told.seq || told.since || 0;
        // Behind which seq it begins; where it was asked for a time, the first message says that.
        const from = told.reset ? 0 : since === "last" ? last && last - 1 : typeof since === "number" ? since : undefined;
        if (first) first.at ??= from;
        for (const l of listeners) {
          if (l.at !== undefined && ((told.reset && (first ?? l) === l) || (l.epoch && l.epoch !== told.epoch))) {
            l.at = 0;
            l.push(0, told.epoch, { gap: { topic, from: 0, to: 0, count: 0, reason: "reset" } });
          }
          if (l.since == null) l.at ??= last;
          l.on = l.at === undefined ? l === first : l.at >= last || l.at >= from!;
          if (l.at !== undefined) l.push(l.at, (l.epoch = told.epoch));
        }
        return last;
      };
      const last = await ask("subscribe", { topic, since, epoch: asking[0]!.epoch }, agreed);
      if (stale() || [...listeners].every((l) => l.on)) return;
      if (!first || first.at !== undefined) void join(t);
      // The others wait for its first message, or until there seems to be none.
      else
        t.retry = setTimeout(() => {
          first.since = last;
          void join(t);
        }, 5000);
    } catch (e: any) {
      if (stale()) return;
      if (!isFinal(e.code)) t.retry = setTimeout(join, e.retryAfterMs ?? 1000, t);
      else {
        for (const l of asking) {
          listeners.delete(l);
          l.push(0, "", e);
        }
        if (listeners.size) void join(t);
        else topics.delete(topic);
      }
    }
  };

  const open: OpenTopic = (topic, since, push, epoch) => {
    const l: Listener = { push, since, epoch };
    const t: Topic = topics.get(topic) ?? { topic, listeners: new Set(), joins: 0 };
    topics.set(topic, t);
    t.listeners.add(l);
    if (core.ended) push(0, "", core.ended);
    else void join(t);
    return () => {
      if (!t.listeners.delete(l) || t.listeners.size) return;
      clearTimeout(t.retry);
      t.joins = 0;
      topics.delete(topic);
      // A loop that begins again at once keeps the subscription: it is asked for behind this.
      if (online) leave(topic).catch(() => {});
    };
  };

  /** Hands on what came, up to a seq. */
  const take = (topic: string | undefined, seq: number | undefined, item: TopicItem) => {
    const t = topics.get(topic!);
    if (t && seq) {
      for (const l of t.listeners) if (l.on && !(seq <= l.at!)) l.push((l.at = seq), l.epoch, item);
      if (t.retry) void join(t);
    }
  };

  return {
    open,
    receive(e: Envelope) {
      const seq = e.seq!;
      take(e.topic, seq, { seq, data: e.payload, from: e.fromDeviceId!, timestamp: e.timestamp! });
    },
    gap(gap: Gap) {
      if (gap.reason !== "reset") take(gap.topic, gap.to, { gap }); // which the answer to a subscribe has told
    },
    up() {
      online = true;
      for (const t of topics.values()) {
        t.joins = 0;
        void join(t);
      }
    },
    down() {
      online = false; // what waits to be tried again finds that, or the next connection does
    },
    end(why: RccsError) {
      online = false;
      for (const t of topics.values()) {
        clearTimeout(t.retry);
        for (const l of t.listeners) l.push(0, "", why);
      }
    },
  };
}

const enum Max {
  /** How many items wait for a slow loop before it stops listening; it goes on from the store when it has dealt with them. */
  items = 1024,
}

/** Listens as a loop does; ends with the signal. */
export async function* loop(openIt: () => OpenTopic, topic: string, since: unknown, signal?: AbortSignal): AsyncGenerator<TopicItem> {
  const items = pipe<TopicItem>();
  let stop: (() => void) | undefined, epoch: string | undefined;
  const listen = () => {
    const push: ToListener = (at, of, item) => {
      since = at;
      epoch = of;
      if (item) items.push(item);
      if (items.size() >= Max.items) {
        stop?.();
        stop = undefined;
      }
    };
    stop = openIt()(topic, since, push, epoch);
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
