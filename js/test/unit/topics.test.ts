// Positions of the loops over a topic: each gets each message once, whatever the others on the same subscription do.
import { expect, test } from "vitest";
import { settle, type FakeSocket } from "../edge.js";
import { last, online } from "./harness.js";

/** An edge that has one topic, as the real one does. */
function topic() {
  const subscribed = new Set<FakeSocket>();
  const t = {
    epoch: "one",
    stored: [] as Array<{ seq: number; at: number }>,
    /** The last seq that was given out. */
    end: 0,
    /** What waits for an answer, where the edge is slow. */
    held: undefined as Array<() => void> | undefined,
    say: (s: FakeSocket, seq: number) => s.say({ type: "topic", id: `p${seq}`, fromDeviceId: "d", topic: "t", seq, timestamp: "2025-01-31T12:00:00.000Z", payload: seq }),
    publish(n = 1) {
      for (; n > 0; n--) {
        t.stored.push({ seq: ++t.end, at: Date.now() });
        for (const s of subscribed) t.say(s, t.end);
      }
    },
    /** A backup is brought in: it ends earlier, and seqs are given out again. */
    restore(end: number) {
      t.epoch += " more";
      t.stored = t.stored.filter((m) => m.seq <= end);
      t.end = end;
    },
    answer(e: any, s: FakeSocket): boolean {
      if (t.held && e.type !== "heartbeat") return t.held.push(() => t.answer(e, s) || s.ack(e.id)) > 0;
      if (e.type === "unsubscribe") subscribed.delete(s);
      if (e.type !== "subscribe") return false;
      const { since, epoch } = e.payload;
      const seq = t.stored.at(-1)?.seq ?? 0;
      if (typeof since === "number" ? !(Number.isInteger(since) && since >= 0) : since && since !== "last" && isNaN(Date.parse(since))) {
        s.refuse(e.id, "BAD_MESSAGE");
        return true;
      }
      const reset = since > 0 && ((epoch && epoch !== t.epoch) || since > t.end) ? true : undefined;
      s.ack(e.id, { status: "success", topic: "t", seq, epoch: t.epoch, reset, ...(!seq && { since: t.end }) });
      if (reset) s.say({ type: "gap", payload: { topic: "t", from: 0, to: (t.stored[0]?.seq ?? 1) - 1, count: 0, atLeast: 0, reason: "reset" } });
      const begins = (m: { seq: number; at: number }) =>
        reset || (typeof since === "number" ? m.seq > since : since === "last" ? m.seq === seq : since !== undefined && m.at >= Date.parse(since));
      for (const m of t.stored) if (begins(m)) t.say(s, m.seq);
      subscribed.add(s);
      return true;
    },
  };
  return t;
}

async function following(t = topic()) {
  const s = await online({ answer: t.answer });
  const stop = new AbortController();
  /** What a loop gets: seqs, and the reasons of gaps and of its end. */
  const follow = (since?: number | string | Date, signal = stop.signal) => {
    const got: unknown[] = [];
    const loop = s.client.subscribe("t", { since, signal });
    (async () => {
      for await (const i of loop) got.push(i.gap ? i.gap.reason : i.seq);
    })().catch((e) => got.push(e.code));
    return got;
  };
  return { ...s, t, stop, follow };
}

test("a loop whose since is above the end of the topic begins anew, and another one does not", async () => {
  const { t, stop, follow } = await following();
  t.publish();
  const a = follow(0);
  await settle();
  const b = follow(1000);
  await settle();
  t.publish(3);
  await settle();
  stop.abort();
  expect([a, b]).toEqual([[1, 2, 3, 4], ["reset", 1, 2, 3, 4]]);
});

test("a loop that begins further back than another one misses nothing while messages come", async () => {
  const { t, stop, follow } = await following();
  t.publish(5);
  const a = follow();
  await settle();
  const b = follow(0);
  t.publish(); // to the subscription that there was
  await settle();
  stop.abort();
  expect([a, b]).toEqual([[6], [1, 2, 3, 4, 5, 6]]);
});

for (const [what, since, from] of [
  ["with a time", () => new Date(), 8],
  ["with the last message", () => "last", 7],
  ["with a seq", () => 6, 7],
] as const)
  test(`a loop that begins ${what} takes nothing from one that was without a connection`, async () => {
    const { edge, t, stop, follow } = await following();
    t.publish(2);
    const a = follow();
    await settle();
    edge.o.down = true;
    edge.socket.end();
    await last(100);
    t.publish(5);
    await last(1);
    const b = follow(since());
    edge.o.down = false;
    while (edge.of("subscribe").length < 2) await last(100);
    t.publish(2);
    await last(10_000);
    stop.abort();
    expect([a, b]).toEqual([[3, 4, 5, 6, 7, 8, 9], [7, 8, 9].slice(from - 7)]);
  });

test("a loop that begins where others have just ended is heard, also while the edge is slow", async () => {
  const { t, stop, follow } = await following();
  const once = new AbortController();
  const held: Array<() => void> = (t.held = []);
  follow(undefined, once.signal);
  follow(undefined, once.signal);
  await settle();
  once.abort();
  await settle();
  const a = follow();
  await settle();
  while (held.length) {
    t.held = undefined;
    held.shift()!();
    t.held = held;
    await settle();
  }
  t.held = undefined;
  t.publish();
  await settle();
  stop.abort();
  expect(a).toEqual([1]);
});

test("after a restore each loop begins anew, also if another one has the edge begin with a time", async () => {
  const { edge, t, stop, follow } = await following();
  t.publish(10);
  const a = follow(10);
  await settle();
  edge.o.down = true;
  edge.socket.end();
  await last(100);
  const b = follow(new Date(Date.now() + 1));
  t.restore(4);
  await last(1);
  t.publish(10);
  edge.o.down = false;
  await last(30_000);
  stop.abort();
  const again = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
  expect([a, b]).toEqual([["reset", 1, 2, 3, 4, ...again], again]);
});

test("a loop that was slow during a restore begins anew", async () => {
  const { client, edge, t, stop } = await following();
  t.publish(1024);
  const it = client.subscribe("t", { since: 0, signal: stop.signal });
  expect((await it.next()).value).toMatchObject({ seq: 1 });
  await settle();
  expect(edge.of("unsubscribe")).toHaveLength(1);
  t.restore(0);
  t.publish(2000);
  edge.socket.end();
  await last();
  for (let n = 2; n <= 1024; n++) expect((await it.next()).value).toMatchObject({ seq: n });
  expect((await it.next()).value).toMatchObject({ gap: { reason: "reset", topic: "t" } });
  expect((await it.next()).value).toMatchObject({ seq: 1 });
  stop.abort();
});

test("a loop that the edge does not let begin ends alone", async () => {
  const { t, stop, follow } = await following();
  const a = follow(0);
  await settle();
  const b = follow(-1);
  await settle();
  t.publish();
  await settle();
  stop.abort();
  expect([a, b]).toEqual([[1], ["BAD_MESSAGE"]]);
});

test("a since that is neither a seq nor a time is refused at once, and what to pass is said", async () => {
  const { client, edge } = await online();
  for (const since of [NaN, Infinity, new Date(NaN), "yesterday", {}] as any[])
    expect(() => client.subscribe("t", { since })).toThrow(expect.objectContaining({ code: "BAD_MESSAGE", message: 'pass a seq, a time or "last"' }));
  await settle();
  expect(edge.of("subscribe")).toEqual([]);
});
