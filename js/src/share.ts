// Pages of one origin that share a store share one connection. The one that holds the Web Lock has the line; what comes on it
// goes to all over a BroadcastChannel, and what the others write goes back to it. Each page keeps its own outbox, inbox and
// topics. What a page that is gone had not sent is in the store: the page that is loaded in its place sends it, and so does the one with
// the line, under the same ids.
import type { Hears, Line, OpenLine, OpenTopic, ToListener } from "./line.js";
import { RccsError, type Session, type State, type Store, type TopicItem } from "./types.js";
import { newId, newStamp, toError, type Envelope } from "./wire.js";

/** How long a holder may say nothing before another page takes its place: it is frozen, or hangs. */
const silentMs = 6000,
  pingMs = 2000,
  leaseMs = 10_000;

/** What pages say to each other. `page` is who says it, or whom it is for. */
type Said =
  | { k: "who" | "ping" | "lead"; page: string }
  | { k: "here"; page: string; state: State; session: Session | undefined; waiting: any[] }
  | { k: "pong" }
  | { k: "state"; state: State }
  | { k: "up"; session: Session }
  | { k: "frame"; items: Envelope[]; page?: string }
  | { k: "down"; code: number }
  | { k: "error" | "final"; error: { code: string; message: string } }
  | { k: "settled"; seqs: number[] }
  | { k: "write"; frame: string }
  | { k: "handles"; page: string; method: string; on: boolean }
  | { k: "topic"; page: string; no: number; topic: string; since: unknown; epoch: string | undefined }
  | { k: "untopic"; page: string; no: number }
  | { k: "item"; page: string; no: number; at: number; epoch: string | undefined; item?: TopicItem; error?: { code: string; message: string } };

/** A storage of the browser; undefined where it is not allowed. */
export const storage = (kind: "localStorage" | "sessionStorage"): Storage | undefined => {
  try {
    return globalThis[kind];
  } catch {
    return undefined;
  }
};

/** Which page has made a key of the store, or a lock: all of a page end alike. */
const pageOf = (key: string): string => key.slice(-4);

/** The open clients of this page, by the name of their store: what each does when it is the only one left. */
const clients = new Map<string, Set<() => void>>();

const plain = (e: RccsError) => ({ code: e.code, message: e.message, retryAfterMs: e.retryAfterMs });

const removed = () => new RccsError("CLOSED", "the device was removed");

/** A loop of this page over a topic. */
interface Listening {
  topic: string;
  /** Where to go on, with another page that holds the line. */
  since: unknown;
  epoch?: string | undefined;
  push: ToListener;
  /** Ends it, while this page holds the line. */
  stop?: (() => void) | undefined;
}

export function shared(name: string, store: Store, open: OpenLine, claim: (page: string, ms: number) => Promise<boolean>): OpenLine {
  return (url, o, auth, hears) => {
    const { locks } = globalThis.navigator ?? {};
    const tag = pageOf(newStamp()); // with which the keys of this page end
    const tab = storage("sessionStorage"),
      endedHere = `${name}:ended`; // the tag of the page that this tab had before, if it has ended
    const page = newId() + tag;
    const channel = locks && typeof BroadcastChannel === "function" ? new BroadcastChannel(name) : undefined;
    const say = (m: Said) => channel?.postMessage(m);

    let line: Line | undefined, // of the page that holds it
      session: Session | undefined, // of one that does not
      ended = false,
      heardAt = Date.now(),
      stopWaiting = new AbortController(),
      release: (() => void) | undefined;
    const methods = new Set<string>(); // of this page
    const others = new Map<string, { methods: Set<string>; topics: Map<number, () => void> }>(); // pages, known to the holder
    const listening = new Map<number, Listening>(); // of this page
    let listeners = 0,
      gone = false; // a page is gone, and what it did last may not be seen from here yet

    /** What pages that are gone have left, and earlier clients of this page: their keys end as those of one that is open. */
    const left = async (earlier?: boolean) => {
      // The store is read before the locks are: a page has its lock before it stores anything, so what one that lives has stored is not
      // taken for left, also if the page was loaded meanwhile.
      const all = await store.list("out/");
      const living = new Set(locks ? [tag] : []);
      for (const lock of (await locks?.query())?.held ?? [])
        if (lock.name!.startsWith(`${name}:`) && lock.mode === "exclusive") living.add(pageOf(lock.name!));
      // Of a page that was reloaded its lock may not be free yet when the page in its place looks.
      living.delete(tab?.getItem(endedHere) ?? "");
      if (earlier && here.size < 2) living.delete(tag);
      return all.filter(([key]) => !living.has(pageOf(key)));
    };
    const adopt = (earlier?: boolean) => hears.adopt(left(earlier));
    const here = clients.get(name) ?? new Set();
    const alone = () => adopt(true);
    clients.set(name, here.add(alone));

    // --- The page that holds the line ---

    const toAll: Hears = {
      ...hears,
      setState(state) {
        say({ k: "state", state });
        hears.setState(state);
      },
      up(s) {
        say({ k: "up", session: s });
        hears.up(s);
      },
      take(items) {
        const mine = items.filter((e) => e?.type !== "request" || !giveRequest(e));
        if (!mine.length) return;
        say({ k: "frame", items: mine.filter((e) => e?.type !== "request" && e?.type !== "topic") });
        hears.take(mine);
      },
      down(code) {
        say({ k: "down", code });
        hears.down(code);
        if (code === 1000) toAll.final(removed()); // by forget, in one of the pages
      },
      report(e) {
        say({ k: "error", error: plain(e) });
        hears.report(e);
      },
      final(e) {
        // A page that was thought to hang is replaced by another one of its own: it hears so from the lock.
        setTimeout(
          () => {
            if (!line) return;
            endAll(e);
            end(e);
          },
          e.code === "SESSION_REPLACED" ? 500 : 0,
        );
      },
    };

    /** Ends the other pages. The lock is free only when they have heard it: it would make one of them connect anew. */
    const endAll = (e: RccsError) => {
      const free = release;
      release = undefined;
      setTimeout(() => free?.(), 500);
      say({ k: "final", error: plain(e) });
    };

    /** Gives a request to another page, where this one has no handler and that one has. */
    const giveRequest = (e: Envelope): boolean => {
      const method = e.payload?.method;
      if (methods.has(method)) return false;
      for (const [other, { methods: theirs }] of others)
        if (theirs.has(method)) {
          say({ k: "frame", items: [e], page: other });
          return true;
        }
      return false;
    };

    const lead = () => {
      if (session) {
        session = undefined;
        hears.down(1006);
      }
      say({ k: "lead", page });
      line = open(url, o, auth, toAll);
      adopt();
      for (const l of listening.values()) l.stop = hears.listen(l.topic, l.since, l.push, l.epoch);
    };

    /** Another page is there: it is heard of no more when its lock is free. */
    const know = (other: string) => {
      let known = others.get(other);
      if (!known) {
        others.set(other, (known = { methods: new Set(), topics: new Map() }));
        void locks
          ?.request(`${name}:${other}`, { mode: "shared" }, () => {
            for (const stop of others.get(other)?.topics.values() ?? []) stop();
            others.delete(other);
            gone = true;
            if (line) adopt();
          })
          .catch(() => {});
      }
      return known;
    };

    const ofHolder = (m: Said) => {
      switch (m.k) {
        case "who":
          know(m.page);
          return say({ k: "here", page: m.page, state: line!.session ? "online" : "connecting", session: line!.session, waiting: hears.unhandled() });
        case "ping":
          know(m.page);
          return say({ k: "pong" });
        case "write":
          return line!.write(m.frame);
        case "handles":
          return void know(m.page).methods[m.on ? "add" : "delete"](m.method);
        case "topic": {
          const { topics } = know(m.page);
          const { page, no } = m;
          topics.get(no)?.(); // a page says it again when it hears who holds the line, which may be after it was heard
          const hear: ToListener = (at, epoch, item) => say({ k: "item", page, no, at, epoch, ...(item instanceof RccsError ? { error: plain(item) } : { item }) });
          return void topics.set(no, hears.listen(m.topic, m.since, hear, m.epoch));
        }
        case "untopic":
          know(m.page).topics.get(m.no)?.();
          return void know(m.page).topics.delete(m.no);
        case "lead": // another page has taken this one's place
          return void stepDown();
      }
    };

    // --- The others ---

    const introduce = () => {
      say({ k: "who", page });
      for (const method of methods) say({ k: "handles", page, method, on: true });
      for (const [no, l] of listening) say({ k: "topic", page, no, topic: l.topic, since: l.since, epoch: l.epoch });
    };

    const online = (s: Session) => {
      if (session?.sessionId === s.sessionId) return;
      session = s;
      hears.up(s);
      hears.setState("online");
    };

    const ofOther = (m: Said) => {
      switch (m.k) {
        case "lead":
          if (session) {
            session = undefined;
            hears.down(1006);
          }
          hears.setState("connecting");
          return introduce();
        case "here":
          if (m.page !== page) return;
          if (m.session) online(m.session);
          else hears.setState(m.state);
          return hears.take(m.waiting);
        case "state":
          return m.state === "online" ? undefined : hears.setState(m.state);
        case "up":
          return online(m.session);
        case "down":
          session = undefined;
          return hears.down(m.code);
        case "frame":
          return m.page === undefined || m.page === page ? session && hears.take(m.items) : undefined;
        case "error":
          return hears.report(toError(m.error));
        case "final":
          return end(toError(m.error));
        case "item": {
          const l = m.page === page ? listening.get(m.no) : undefined;
          return l?.push(m.at, m.epoch, m.error ? toError(m.error) : m.item);
        }
      }
    };

    if (channel)
      channel.onmessage = ({ data }: MessageEvent<Said>) => {
        if (ended) return;
        if (data.k === "settled") return hears.settled(data.seqs);
        if (line) return ofHolder(data);
        if (!/^(who|ping|write|handles|topic|untopic)$/.test(data.k)) heardAt = Date.now();
        ofOther(data);
      };

    // --- Who holds it ---

    /** Waits for the lock, and holds it until this page steps down. */
    const wait = (steal = false) => {
      stopWaiting = new AbortController();
      const held = () =>
        new Promise<void>((done) => {
          if (ended) return done();
          release = done;
          lead();
        });
      const how: LockOptions = steal ? { steal: true } : { signal: stopWaiting.signal };
      locks!.request(name, how, held).catch(() => {
        if (line) void stepDown(); // stolen
      });
    };

    const stepDown = async (again = true) => {
      const mine = line;
      const hadSession = !!mine?.session;
      line = undefined;
      release?.();
      release = undefined;
      stopWaiting.abort();
      for (const { topics } of others.values()) for (const stop of topics.values()) stop();
      others.clear();
      for (const l of listening.values()) {
        l.stop?.();
        l.stop = undefined;
      }
      heardAt = Date.now();
      if (hadSession) hears.down(1006);
      await mine?.close();
      if (ended || !again) return;
      hears.setState("connecting");
      introduce();
      wait();
    };

    const end = (why: RccsError) => {
      void close();
      hears.final(why);
    };

    // Without Web Locks a lease in the store says who connects; the others wait.
    let lease: ReturnType<typeof setInterval> | undefined;
    const renewLease = async () => {
      const mine = await claim(page, leaseMs).catch(() => false);
      if (ended) return;
      if (mine && !line) lead();
      else if (!mine && line) void stepDown(false);
      if (!mine) hears.setState("offline");
    };

    // A holder that is frozen cannot answer: a page that is seen takes its place.
    const watch = setInterval(() => {
      if (line && gone) {
        gone = false;
        adopt();
      }
      if (!channel || line || globalThis.document?.hidden) return void (heardAt = Date.now());
      say({ k: "ping", page });
      if (Date.now() - heardAt < silentMs) return;
      heardAt = Date.now();
      stopWaiting.abort();
      wait(true);
    }, pingMs);

    // A page has a lock for as long as it lives, so that others hear of its end.
    let endLife = () => {};
    const live = () => void locks!.request(`${name}:${page}`, () => new Promise<void>((done) => (endLife = done))).catch(() => {});

    // A page that is about to be frozen or to end gives the line away, does not wait for it meanwhile, and leaves what it has not sent to
    // the others: the page that is loaded in its place sends that first.
    const onFreeze = () => {
      hears.flush();
      stopWaiting.abort();
      if (line) void stepDown(false);
      endLife();
      tab?.setItem(endedHere, tag);
    };
    const onResume = () => {
      if (line || !stopWaiting.signal.aborted) return;
      tab?.removeItem(endedHere);
      heardAt = Date.now();
      live();
      introduce();
      wait();
    };
    // A worker has no document, and none of these.
    const pageEvents: Array<[EventTarget | undefined, string, () => void]> = [
      [globalThis.document, "freeze", onFreeze],
      [globalThis.document, "resume", onResume],
      [globalThis as any, "pagehide", onFreeze],
      [globalThis as any, "pageshow", onResume],
    ];

    const close = async () => {
      ended = true;
      clearInterval(watch);
      clearInterval(lease);
      for (const [target, event, f] of pageEvents) target?.removeEventListener(event, f);
      await stepDown(false);
      endLife();
      channel?.close();
      if (here.delete(alone) && here.size === 1) {
        await store.delete("").catch(() => {}); // what was set before is in the database then
        for (const f of here) f();
      }
      if (lease) await claim(page, 0).catch(() => {});
    };

    if (locks) {
      for (const [target, event, f] of pageEvents) target?.addEventListener(event, f);
      live();
      adopt(true);
      if (!channel) hears.setState("offline");
      introduce();
      wait();
    } else {
      lease = setInterval(() => void renewLease(), leaseMs / 4);
      void renewLease();
    }

    const openHere: OpenTopic = (topic, since, push, epoch) => {
      const no = ++listeners;
      const l: Listening = {
        topic,
        since,
        epoch,
        push(at, of, item) {
          // Of the page that held the line before, and sent again by this one.
          if (item && "seq" in item && of === l.epoch && at <= (l.since as number)) return;
          // The next holder must not take "from now on" for a later now.
          l.since = at;
          l.epoch = of;
          push(at, of, item);
        },
      };
      listening.set(no, l);
      if (line) l.stop = hears.listen(topic, since, l.push, epoch);
      else say({ k: "topic", page, no, topic, since, epoch });
      return () => {
        listening.delete(no);
        if (l.stop) l.stop();
        else say({ k: "untopic", page, no });
      };
    };

    return {
      get session() {
        return line ? line.session : session;
      },
      write(frame) {
        if (line) line.write(frame);
        else say({ k: "write", frame });
      },
      buffered: () => line?.buffered(),
      settled: (seqs) => say({ k: "settled", seqs }),
      end: () => line && endAll(removed()),
      handles(method, on) {
        methods[on ? "add" : "delete"](method);
        if (!line) say({ k: "handles", page, method, on });
      },
      listen: channel && openHere,
      close,
    };
  };
}
