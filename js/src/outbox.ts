// What waits to be written, and what was written and waits for its answer. It outlives connections, and messages outlive the
// program. Each lane keeps the order of the calls: what must be sent again goes before what was not sent yet.
import { RccsError, type SendOptions, type Sent } from "./types.js";
import {
  byteLength,
  checkId,
  checkType,
  deferred,
  isFinal,
  lanes,
  newId,
  newStamp,
  envelope,
  toError,
  toJSON,
  whenAborted,
  type Core,
  type Deferred,
} from "./wire.js";

/** Something that is answered under its id. */
interface Entry {
  id: string;
  envelope: string;
  bytes: number;
  queue: number;
  answer: Deferred<any>;
  /** The key of a message that is in the store. */
  stored?: string | undefined;
  /** Lives no longer than the connection that it was written to. */
  tied?: boolean | undefined;
  /** Sent again when the edge says that this may help. */
  retry?: boolean | undefined;
  /** Somebody waits for the answer. */
  awaited: boolean;
  signal?: AbortSignal | undefined;
  part?: ((payload: any) => void) | undefined;
  /** What whoever waits gets of the answer. */
  resultOf?: ((payload: any) => unknown) | undefined;
  sent?: boolean;
  /** Closes with 1011 in a row that it was written before. */
  strikes?: number;
}

/** A lane, or one of those behind. */
interface Queue {
  unsent: Entry[];
  /** It waits after a failure. */
  resting?: ReturnType<typeof setTimeout> | undefined;
  tries: number;
  /** How many are on their way. */
  flying: number;
}

/** What an entry is made of. */
type Given = Pick<Entry, "id" | "envelope" | "queue"> & Partial<Entry>;
const entryOf = (given: Given): Entry => ({ awaited: true, answer: deferred(), ...given, bytes: byteLength(given.envelope) });

/** How a control message is asked. */
export interface Ask {
  id?: string | undefined;
  queue?: number;
  tied?: boolean;
  retry?: boolean;
  signal?: AbortSignal | undefined;
  part?: (payload: any) => void;
  /** Sees the answer as it comes, before what follows it, and says what is resolved with. */
  resultOf?: (payload: any) => unknown;
  /** Other members of the envelope. */
  head?: object;
}

/** Queues behind the four lanes. */
export const enum Behind {
  publish = 4,
  control = 5,
}

const enum Max {
  batchBytes = 64 << 10,
  inFlight = 2048,
  inFlightBytes = 4 << 20,
  faults = 3,
}

export function createOutbox(core: Core, maxMessages = 10_000, maxBytes = 16 << 20) {
  const { keeper: store } = core;
  let entries = new Map<string, Entry>(); // in the order in which they came
  const queues = Array.from({ length: 6 }, (): Queue => ({ unsent: [], tries: 0, flying: 0 }));
  const careful = new Set<Entry>(); // sent one by one, since one of them ended a connection
  let limit = Infinity, // bytes of a frame, as the last edge said
    online = false,
    inFlight = 0,
    inFlightBytes = 0,
    messages = 0, // in the store
    bytes = 0,
    frames: Array<{ envelope: string; bytes: number }> = [];

  /** Writes a frame with others of this turn. */
  const write = (frame: string, bytes = byteLength(frame)) => {
    if (frames.push({ envelope: frame, bytes }) === 1) queueMicrotask(writeAll);
  };
  const writeAll = () => {
    const all = frames;
    frames = [];
    for (let i = 0; i < all.length; ) {
      const group: string[] = [];
      let size = 2;
      do {
        group.push(all[i]!.envelope);
        size += all[i++]!.bytes + 1;
      } while (i < all.length && size + all[i]!.bytes < Math.min(Max.batchBytes, limit) && !careful.size);
      core.line?.write(group.length > 1 ? `[${group}]` : group[0]!);
    }
  };

  let flushing = false;
  const flush = () => {
    if (flushing || !online) return;
    flushing = true;
    queueMicrotask(() => {
      flushing = false;
      for (let q = queues.length - 1; q >= 0; q--) send(queues[q]!);
    });
  };
  const send = (q: Queue) => {
    const { unsent } = q;
    let n = 0;
    while (online && !q.resting && n < unsent.length) {
      const e = unsent[n]!;
      // After a failure one message goes alone, until one has been accepted.
      const busy = careful.size ? inFlight : q.tries ? q.flying : 0;
      if (e.queue < Behind.control && (busy || inFlight >= Max.inFlight || (inFlight && inFlightBytes + e.bytes > Max.inFlightBytes))) break;
      if (e.bytes > limit) {
        fail(e, tooLarge(e.bytes)); // takes it out of the queue
        continue;
      }
      n++;
      setSent(e, true);
      write(e.envelope, e.bytes);
    }
    unsent.splice(0, n);
  };

  const tooLarge = (size: number) => new RccsError("MESSAGE_TOO_LARGE", `${size} bytes of at most ${limit}`);

  /** Counts an entry as on its way, or no longer. */
  const setSent = (e: Entry, sent: boolean) => {
    const n = +sent - +!!e.sent;
    e.sent = sent;
    queues[e.queue]!.flying += n;
    inFlight += n;
    inFlightBytes += n * e.bytes;
  };

  const add = (given: Given): Promise<any> => {
    const e = entryOf(given);
    const { signal } = e;
    if (core.ended) throw core.ended;
    checkId(e.id);
    if (e.bytes > limit) throw tooLarge(e.bytes);
    if (e.stored) {
      if (messages >= maxMessages || bytes + e.bytes > maxBytes) throw new RccsError("OUTBOX_FULL");
      keep(e, 1);
    }
    entries.set(e.id, e);
    queues[e.queue]!.unsent.push(e);
    if (signal) {
      const off = whenAborted(signal, (why) => {
        if (!e.sent) remove(e);
        e.awaited = false;
        e.answer.fail(why);
      });
      e.answer.promise.then(off, off);
    }
    flush();
    return e.answer.promise;
  };

  /** Takes an entry out of wherever it is. */
  const remove = (e: Entry) => {
    if (entries.get(e.id) !== e) return;
    entries.delete(e.id);
    careful.delete(e);
    if (!e.sent) {
      const { unsent } = queues[e.queue]!;
      const at = unsent.indexOf(e);
      if (at >= 0) unsent.splice(at, 1);
    }
    setSent(e, false);
    if (e.stored) {
      keep(e, -1);
      store.delete(e.stored);
    }
    flush();
  };

  const fail = (e: Entry, why: RccsError) => {
    remove(e);
    if (e.awaited) e.answer.fail(why);
    else if (e.stored) core.report(why); // left by an earlier program
  };

  /** Puts an entry back where it was in its queue, which waits for a while. */
  const sendAgain = (e: Entry, why: RccsError) => {
    setSent(e, false);
    const q = queues[e.queue]!;
    requeue();
    const wait = Math.max(why.retryAfterMs ?? 0, core.wait(q.tries++));
    clearTimeout(q.resting);
    q.resting = setTimeout(() => {
      q.resting = undefined;
      flush();
    }, wait);
  };
  const requeue = () => {
    for (const q of queues) q.unsent = [];
    for (const e of entries.values()) if (!e.sent) queues[e.queue]!.unsent.push(e);
    flush();
  };

  const keep = (e: Entry, n: 1 | -1) => {
    messages += n;
    bytes += n * e.bytes;
  };

  return {
    write,

    /** Writes a response; throws where the edge would end the connection for it. */
    respond(frame: string) {
      const n = byteLength(frame);
      if (n > limit) throw tooLarge(n);
      write(frame, n);
    },

    /**
     * Takes what an earlier program, or a page that is gone, has left in the store. It goes first: until it has been read, the lanes are
     * full.
     */
    async load(list: Promise<Array<[key: string, frame: string]>>) {
      inFlight += Max.inFlight;
      const found = await list.catch(core.report);
      inFlight -= Max.inFlight;
      const left = new Map<string, Entry>();
      for (const [key, frame] of found ?? []) {
        newStamp(key);
        const { id, priority: queue = 1 } = JSON.parse(frame);
        if (left.has(id)) continue;
        let e = entries.get(id);
        if (e?.stored !== key) {
          // What the program has sent again before it was read: the first one counts.
          const again = e;
          e = entryOf({ ...again, id, stored: key, envelope: frame, queue, retry: true, sent: false, awaited: !!again });
          if (again) remove(again);
          e.answer.promise.catch(() => {}); // nobody may be waiting
          keep(e, 1);
        }
        left.set(id, e);
      }
      entries = new Map([...left, ...entries]);
      requeue();
    },

    send(id: string, type: string, payload: unknown, o: SendOptions): Promise<Sent> {
      checkType(type);
      const known = entries.get(id);
      if (known) {
        known.awaited = true;
        return known.answer.promise; // the first one counts, as at the edge
      }
      const { to, priority = "normal", signal, track, ...rest } = o;
      const queue = lanes.indexOf(priority);
      if (queue < 0) throw new RccsError("BAD_MESSAGE", "priority");
      const target = typeof to === "string" ? { toDeviceId: to } : { to };
      const head = { ...rest, id, type, ...target, priority: queue === 1 ? undefined : queue, requiresAck: true };
      const text = envelope(head, toJSON(payload));
      const resultOf = ({ recipients = [], duplicate }: any): Sent => ({ id, duplicate: !!duplicate, recipients });
      const stored = o.ephemeral ? "" : `out/${newStamp()}`;
      if (!stored && !online) throw core.ended ?? new RccsError("CONNECTION_LOST");
      const sent = add({ id, envelope: text, queue, tied: !stored, retry: !!stored, stored, resultOf, signal });
      if (stored && entries.has(id)) void store.set(stored, text);
      return sent;
    },

    /** Sends a control message and waits for its answer. */
    ask(type: string, payload: unknown, asked: Ask = {}): Promise<any> {
      const { id = newId(), head } = asked;
      if (entries.has(id)) throw new RccsError("BAD_MESSAGE", `${id} is being sent`);
      return add({ queue: Behind.control, ...asked, id, envelope: envelope({ id, type, ...head }, toJSON(payload)) });
    },

    /** What waits under this id. */
    entry: (id: string): Readonly<Entry> | undefined => entries.get(id),

    /** Gives up waiting; what was not written is not. */
    drop(id: string, why: RccsError) {
      const e = entries.get(id);
      if (e) fail(e, why);
    },

    /** Takes the answer to an id; false when nobody waits for it. */
    answered(id: string, payload: any): boolean {
      const e = entries.get(id);
      if (e) {
        queues[e.queue]!.tries = 0;
        remove(e);
        e.answer.fulfil(e.resultOf ? e.resultOf(payload) : payload);
      }
      return !!e;
    },

    /** Takes an error about an id; false when nobody waits for it. */
    refused(id: string, payload: any): boolean {
      const e = entries.get(id);
      const why = toError(payload);
      if (e) (e.retry && !isFinal(why.code) ? sendAgain : fail)(e, why);
      return !!e;
    },

    up(maxBytesOfFrame: number) {
      limit = maxBytesOfFrame || Infinity;
      online = true;
      requeue();
    },

    /** The connection is gone: what it carried is written to the next one, but for what lives no longer, or ended it. */
    down(code: number) {
      online = false;
      frames = [];
      const lost = [...entries.values()].filter((e) => e.sent);
      const largest = Math.max(...lost.map((e) => e.bytes));
      for (const e of lost) {
        setSent(e, false);
        e.strikes = code === 1011 ? (e.strikes ?? 0) + 1 : 0;
        if (e.tied) fail(e, new RccsError("CONNECTION_LOST"));
        else if (e.strikes >= Max.faults) fail(e, new RccsError("INTERNAL", "closed 3 times"));
        // What had a frame of its own is known to be too large; of several in a frame each goes alone.
        else if (code === 1009 && e.bytes === largest && (lost.length === 1 || largest > Max.batchBytes)) fail(e, new RccsError("MESSAGE_TOO_LARGE"));
        else if (code === 1011 || code === 1009) careful.add(e);
      }
      requeue();
    },

    end(why: RccsError) {
      online = false;
      for (const q of queues) clearTimeout(q.resting);
      for (const { answer } of entries.values()) {
        answer.promise.catch(() => {}); // nobody may be waiting
        answer.fail(why);
      }
      entries.clear();
    },
  };
}
export type Outbox = ReturnType<typeof createOutbox>;
