// The line to an edge: one WebSocket after the other, registered, watched and renewed. It owns every decision to come back.
// What travels on it is the business of whoever hears it.
import type { Auth, Proof } from "./auth.js";
import { RccsError, type Message, type Options, type Session, type State, type TopicItem } from "./types.js";
import { asError, text, toError, type Envelope } from "./wire.js";

/** What a listener of a topic is told: the seq behind which it goes on, of which epoch that is, and an item, or why there are no more. */
export type ToListener = (at: number, epoch: string | undefined, item?: TopicItem | RccsError) => void;
/** Listens to a topic from a position on; what is returned ends it. A seq may have an epoch. */
export type OpenTopic = (topic: string, since: unknown, push: ToListener, epoch?: string) => () => void;

/** What the user of a line hears. */
export interface Hears {
  setState(s: State): void;
  /** Registered: what was written before and has no answer is to be written again. */
  up(session: Session): void;
  take(items: Envelope[]): void;
  /** The connection is gone, with this close code. */
  down(code: number): void;
  report(e: RccsError): void;
  /** There will be no further connection. */
  final(e: RccsError): void;
  /** The longest wait before the next of so many tries; of 0 it is the shortest of all. */
  wait(tries: number): number;
  // What a shared line asks.
  /** Another page has acknowledged these. */
  settled(seqs: number[]): void;
  handles(method: string): boolean;
  /** Messages that wait for a handler, which a page that comes later may have. */
  unhandled(): Message[];
  listen: OpenTopic;
  /** Takes over what pages that are gone have left in the store. */
  adopt(left: Promise<Array<[key: string, frame: string]>>): void;
  /** Puts what was handled into the store: this page may be about to end. */
  flush(): void;
}

export interface Line {
  readonly session: Session | undefined;
  /** Writes a frame; nothing happens without a connection. */
  write(frame: string): void;
  /** Bytes that the socket has not taken yet. */
  buffered(): number | undefined;
  close(): Promise<void>;
  // What a line adds that several pages share.
  /** These messages were acknowledged. */
  settled?(seqs: number[]): void;
  /** This page has removed the device. */
  end?(): unknown;
  /** This page has, or has no longer, a handler for requests with this method. */
  handles?(method: string, on: boolean): void;
  /** Listens to a topic for this page; undefined where the page is to do so itself. */
  listen?: OpenTopic | undefined;
}

/** Opens a line. A store whose pages share one brings its own. */
export type OpenLine = (url: string, o: Options, auth: Auth, hears: Hears) => Line;

// Enumerations of constants cost a program nothing but their values: see also the other files.
const enum Ms {
  handshake = 15_000,
  probe = 10_000,
  wakeProbe = 3_000,
  tick = 5_000,
  lasts = 5_000,
  close = 1_000,
  maxTimer = 0x7fffffff,
}

const hidden = (): boolean | undefined => globalThis.document?.hidden;

export const openLine: OpenLine = (url, o, auth, hears) => {
  // Of the line.
  let ended = false,
    tries = 0, // in a row, since a connection that lasted
    fresh = false, // the next registration needs a new credential
    cured = false, // a new one was tried after a 4001
    elsewhere: string | undefined, // the edge to try next, where it is not the first
    again: ReturnType<typeof setTimeout> | undefined, // waits for the next try
    gaveUp: number | undefined, // when a registration was given up
    notBefore = 0;
  // Of the connection.
  let ws: WebSocket | undefined,
    session: Session | undefined,
    nonce = "",
    upAt = 0,
    heardAt = 0,
    heartbeat = 30_000,
    probing = 0, // until when something must be heard
    said: RccsError | undefined, // the error that came last without a message of its own
    watch: ReturnType<typeof setTimeout> | undefined,
    renewing: ReturnType<typeof setTimeout> | undefined,
    onClosed: (() => void) | undefined;

  const dial = async () => {
    clearTimeout(again);
    again = undefined;
    hears.setState("connecting");
    said = undefined;
    try {
      // Before there is a connection, since the edge waits for a registration no longer than ten seconds.
      await auth.load(fresh);
      fresh = false;
      if (!ended) open();
    } catch (err) {
      if (ended) return;
      hears.report((said = asError(err, "AUTH_ERROR")));
      comeBack(0, "");
    }
  };

  const open = (): void => {
    let mine: WebSocket;
    const at = elsewhere;
    elsewhere = undefined; // unless it registers there: the first edge knows who serves now
    try {
      mine = ws = new o.WebSocket!(at ?? url, ["rccs.v1"]);
    } catch (err) {
      return at ? open() : finish(asError(err, "BAD_MESSAGE")); // what is no address now will not be one later
    }
    mine.onmessage = (m) => {
      if (ws === mine) receive(m.data);
    };
    mine.onclose = (c) => lost(mine, c.code, c.reason);
    mine.onerror = () => {};
    // The pings that `ws` shows are signs of life; browsers keep them to themselves.
    (mine as any).on?.("ping", heard);
    watch = setTimeout(drop, Ms.handshake);
  };

  const heard = () => {
    heardAt = Date.now();
    probing = 0;
  };

  /** Gives a connection up that may never say that it is closed. */
  const drop = () => {
    const mine = ws!; // lost ends the watch with it
    if (!session) gaveUp = Date.now();
    lost(mine, 1006, "");
    mine.close();
  };

  const receive = (data: unknown) => {
    heard();
    if (session) said = undefined; // a close follows its error with nothing between
    let frame: Envelope | Envelope[];
    try {
      frame = JSON.parse(data as string);
    } catch (e) {
      return hears.report(asError(e, "BAD_FRAME"));
    }
    // What is for the client stays in the array that JSON.parse has made.
    const items = Array.isArray(frame) ? frame : [frame];
    let n = 0;
    for (const e of items) if (isOthers(e)) items[n++] = e;
    items.length = n;
    if (n) hears.take(items);
  };

  /** Deals with what concerns the connection, and reports whether the envelope is for the client. */
  const isOthers = (e: Envelope): boolean => {
    const p = e?.payload;
    const id = p?.originalMessageId;
    const failed = e?.type === "error";
    if (failed && (!id || !session)) noteError(p);
    else if (!session) handshake(e, p);
    else if (id === "renew") failed ? renewAfter(5000) : renewed(p);
    else return id !== "beat";
    return false;
  };

  const noteError = (p: any) => {
    said = toError(p);
    // Any of them, which is the first, but none without TLS where the first edge is one with it.
    if (p?.urls) elsewhere = [p.urls].flat().find((u) => /^wss/.test(u) || /^(ws|http):/.test(url));
    // What is about to close the connection is told when it is final.
    if (session && !/^(SESSION_|TOKEN_|DEVICE_R|WRONG_)/.test(said.code)) hears.report(said);
  };

  const handshake = (e: Envelope, p: any) => {
    if (p?.nonce) {
      nonce = p.nonce;
      void register("register");
    } else if (e?.type === "ack" && p?.sessionId) up(p);
  };

  const register = async (id: "register" | "renew") => {
    const mine = ws;
    let proof: Proof;
    try {
      if (id === "renew") await auth.load(true);
      proof = await auth.prove(nonce);
    } catch (err) {
      if (ws !== mine || ended) return;
      if (id === "renew") return renewAfter(5000);
      return finish(asError(err, "AUTH_ERROR")); // a key that cannot sign now will not later
    }
    if (ws !== mine) return;
    const { token, credentials, store, backoff, outbox, ...about } = o as any; // JSON has no functions
    mine?.send(text({ type: "device_register", id, payload: { ...about, ...proof, batch: true, ackMode: "explicit" } }));
  };

  const up = (p: any) => {
    cured = false;
    elsewhere = ws!.url;
    upAt = Date.now();
    heartbeat = p.heartbeatIntervalMs || 30_000;
    session = p;
    tick();
    renewed(p);
    hears.up(p);
    hears.setState("online");
  };

  /** A credential is renewed when half of its time is over, not by all devices at once. */
  const renewed = (p: any) => {
    if (!p.expiresAt) return;
    session!.expiresAt = p.expiresAt;
    const left = Date.parse(p.expiresAt) - (Date.parse(p.serverTime) || Date.now());
    renewAfter(left * (0.5 + Math.random() / 4));
  };
  const renewAfter = (ms: number) => {
    clearTimeout(renewing);
    if (auth.renewable) renewing = setTimeout(register, Math.min(Math.max(ms, 1000), Ms.maxTimer), "renew");
  };

  // Nothing is sent while the edge is heard. A page in the background looks seldom: its browser answers pings for it.
  const tick = () => {
    clearTimeout(watch);
    const planned = Math.min(Ms.tick, heartbeat) * (hidden() ? 6 : 1),
      due = Date.now() + planned;
    watch = setTimeout(() => {
      const now = Date.now();
      if (probing && now >= probing) return drop();
      if (now > due + Ms.tick * (hidden() ? 18 : 1)) probe(Ms.wakeProbe); // the timer jumped: the machine slept
      else if (now - heardAt >= heartbeat * (hidden() ? 4 : 1)) probe(Ms.probe);
      tick();
    }, probing ? Math.max(0, probing - Date.now()) : planned);
  };

  const probe = (ms: number) => {
    if (probing) return;
    probing = Date.now() + ms;
    write(text({ type: "heartbeat", id: "beat" }));
  };

  /** The browser is online, the page is seen again: look at once. */
  const onWake = () => {
    if (hidden()) return;
    if (session && !probing) {
      probe(Ms.wakeProbe);
      tick();
    } else if (again && Date.now() >= notBefore) void dial();
  };

  const lost = (mine: WebSocket, code: number, reason: string) => {
    if (ws !== mine) return;
    ws = undefined;
    clearTimeout(watch);
    clearTimeout(renewing);
    if (session) {
      session = undefined;
      tries = Date.now() - upAt < Ms.lasts ? Math.min(tries, 3) : 0;
      hears.down(code);
    }
    if (ended) onClosed?.();
    else comeBack(code, reason);
  };

  /** Decides whether and when there is another connection. */
  const comeBack = (code: number, reason: string) => {
    const finalCode = ({ 4001: "AUTH_ERROR", 4002: "SESSION_REPLACED", 4003: "DEVICE_REVOKED", 4004: "TOKEN_EXPIRED", 1008: "BAD_FRAME" } as Record<number, string>)[code];
    const why = said ?? new RccsError(finalCode ?? "CONNECTION_LOST", reason);
    const expired = code === 4004 || why.code === "TOKEN_EXPIRED",
      refused = code === 4001 && !expired;
    // An edge that is slow may take a registration that was given up, after the next one: nobody else has come then.
    if ([Date.now() - gaveUp! < heartbeat || 4002, 4003, 1008].includes(code) || ((expired || refused) && !auth.renewable) || (refused && cured)) return finish(why);
    fresh ||= expired || refused;
    cured ||= refused;
    if ([1000, 1011, 1013, 4029].includes(code)) tries ||= 1; // not at once
    const asked = Math.min(+(/retryAfterMs=(\d+)/.exec(reason)?.[1] ?? why.retryAfterMs ?? 0), 300_000);
    const least = hears.wait(0);
    // Who was sent elsewhere goes at once. Edges may send it to each other: of four tries one waits.
    const wait = Math.max(asked, tries && !(code === 4301 && tries % 4) ? least + Math.random() * (hears.wait(tries) - least) : 0);
    tries++;
    if (!wait) return void dial();
    notBefore = Date.now() + asked;
    const at = Date.now() + wait;
    hears.setState("offline");
    // Short steps, since a sleeping machine stops a timer and not the clock.
    const step = () => {
      const left = at - Date.now();
      if (left > 0) again = setTimeout(step, Math.min(left, 1000));
      else void dial();
    };
    if (!ended) step();
  };

  const finish = (e: RccsError) => {
    if (ended) return;
    stop();
    ws?.close();
    hears.final(e);
  };

  const stop = () => {
    ended = true;
    session = undefined;
    clearTimeout(again);
    clearTimeout(watch);
    clearTimeout(renewing);
    wakeUps("remove");
  };

  const write = (frame: string) => {
    if (session && ws?.readyState === 1) ws.send(frame);
  };

  const wakeUps = (how: "add" | "remove") => {
    for (const name of ["online", "pageshow", "visibilitychange"]) globalThis[`${how}EventListener`]?.(name, onWake); // the last bubbles up from the document
  };
  wakeUps("add");
  void dial();

  return {
    get session() {
      return session;
    },
    write,
    buffered: () => ws?.bufferedAmount,
    async close() {
      stop();
      const mine = ws;
      if (!mine) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => {
          (mine as any).terminate?.();
          onClosed!();
        }, Ms.close);
        onClosed = () => {
          clearTimeout(timer);
          ws = undefined;
          resolve();
        };
        mine.close(1000);
      });
    },
  };
};
