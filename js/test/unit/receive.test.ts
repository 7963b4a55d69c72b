// Each message is handed on once, in order, and acknowledged when it has been handled.
import { expect, test, vi } from "vitest";
import { memoryStore, Reject } from "@rccs/client";
import { Edge, settle, tick } from "../edge.js";
import { last, online } from "./harness.js";

const acked = (edge: Edge) => edge.of("ack").flatMap((e) => e.payload.seqs ?? []);
const rejected = (edge: Edge) => edge.of("ack").flatMap((e) => e.payload.reject ?? []);
const levers = () => {
  const waiting: Array<() => void> = [];
  return { wait: () => new Promise<void>((r) => waiting.push(r)), next: () => waiting.shift()?.() };
};

test("a handler gets the payload and the message, and it is acknowledged afterwards", async () => {
  const { client, edge } = await online();
  const got: any[] = [];
  const { wait, next } = levers();
  client.on("note", async (p, m) => {
    got.push([p, m]);
    await wait();
  });
  const e = edge.socket.message({ a: 1 }, { priority: 2, correlationId: "c" });
  await settle();
  expect(got).toMatchObject([[{ a: 1 }, { id: e.id, type: "note", fromDeviceId: "other", seq: e.seq, priority: "high", correlationId: "c" }]]);
  expect(acked(edge)).toEqual([]);
  next();
  await settle();
  expect(acked(edge)).toEqual([e.seq]);
});

test("what was handled before close is not handed on again by the next client on that store", async () => {
  const memory = memoryStore();
  const slow = { ...memory, set: async (key: string, value: string) => (await settle(), memory.set(key, value)) };
  const { client, edge } = await online({ session: { epoch: "e" } }, { store: slow });
  const got: unknown[] = [];
  client.on("note", (n) => void got.push(n));
  const sent = [edge.socket.message(1)];
  await tick();
  await tick(); // the first one is being written
  sent.push(edge.socket.message(2), edge.socket.message(3));
  expect(got).toEqual([1, 2, 3]);
  const closed = client.close();
  await last();
  await closed;
  const next = await online({ session: { epoch: "e" } }, { store: slow });
  next.client.on("note", (n) => void got.push(n));
  next.edge.socket.say(...sent.map((e) => ({ ...e, redelivered: true })));
  await settle();
  expect(got).toEqual([1, 2, 3]);
});

test("a type without a handler is not acknowledged, and waits for one", async () => {
  const { client, edge } = await online();
  const e = edge.socket.message(1);
  await last();
  expect(acked(edge)).toEqual([]);
  const f = vi.fn();
  client.on("note", f);
  await settle();
  expect(f).toHaveBeenCalledTimes(1);
  expect(acked(edge)).toEqual([e.seq]);
});

test("a handler for all types hears all of them, and no outcomes", async () => {
  const { client, edge } = await online();
  const got: string[] = [];
  const off = client.on("*", (_, m) => void got.push(m.type));
  edge.socket.message(1, { type: "a" });
  edge.socket.message(1, { type: "b.c" });
  edge.socket.message({ originalMessageId: "x", status: "delivered", deviceId: "d" }, { type: "ack" });
  await settle();
  expect(got).toEqual(["a", "b.c"]);
  expect(acked(edge)).toEqual([1, 2, 3]);
  off();
  edge.socket.message(1, { type: "a" });
  await settle();
  expect(acked(edge)).toHaveLength(3);
});

test("what comes twice is handed on once: by seq, and by sender and id", async () => {
  const { client, edge } = await online();
  const f = vi.fn();
  client.on("note", f);
  edge.socket.message(1, { id: "x" });
  await settle();
  edge.socket.message(1, { id: "x" }); // sent twice by its sender, stored twice
  edge.seq = 0;
  edge.socket.message(1, { id: "x", redelivered: true });
  await settle();
  edge.seq = 10;
  edge.socket.message(1, { id: "x", fromDeviceId: "third" }); // another sender
  edge.socket.message(1, { id: "x", replay: true }); // an operator's wish
  await settle();
  expect(f).toHaveBeenCalledTimes(3);
  expect(acked(edge)).toEqual([1, 2, 1, 11, 12]);
});

test("a second copy that comes while the first is being handled is not handed on", async () => {
  const { client, edge } = await online();
  const { wait, next } = levers();
  const f = vi.fn(wait);
  client.on("note", f);
  edge.socket.message(1, { id: "x" });
  edge.socket.message(1, { id: "x" });
  await settle();
  next();
  await settle();
  expect(f).toHaveBeenCalledTimes(1);
  expect(acked(edge)).toEqual([1, 2]);
});

test("what is sent again over a reconnect while it waits is handed on once", async () => {
  const { client, edge } = await online();
  const { wait, next } = levers();
  const f = vi.fn(wait);
  client.on("note", f);
  edge.socket.message(1);
  edge.socket.message(2);
  await settle();
  edge.socket.end();
  await settle();
  edge.seq = 0;
  edge.socket.message(1, { redelivered: true });
  edge.socket.message(2, { redelivered: true });
  await settle();
  next();
  await settle();
  next();
  await settle();
  expect(f.mock.calls.map(([p]: any) => p)).toEqual([1, 2]);
  expect(acked(edge)).toEqual([1, 2]);
});

test("what was handled is not handed on by the next program either, and is in the store before it is acknowledged", async () => {
  const store = memoryStore();
  const first = await online({ session: { epoch: "e" } }, { store });
  first.client.on("note", () => {});
  const set = vi.spyOn(store, "set");
  first.edge.socket.message(1);
  await settle();
  expect(set).toHaveBeenCalledWith(expect.stringMatching(/^seen\//), expect.stringContaining("other m1"));
  const closed = first.client.close();
  await last();
  await closed;
  const { client, edge } = await online({ session: { epoch: "e" } }, { store });
  const f = vi.fn();
  client.on("note", f);
  edge.socket.message(1);
  edge.socket.message(2);
  await settle();
  expect(f.mock.calls.map(([p]) => p)).toEqual([2]);
  expect(acked(edge)).toEqual(expect.arrayContaining([1, 2]));
});

test("another epoch forgets sequences, and not ids", async () => {
  const store = memoryStore();
  const { client, edge } = await online({ session: { epoch: "one" } }, { store });
  const f = vi.fn();
  client.on("note", f);
  edge.socket.message("old", { id: "old" });
  await settle();
  edge.o.session = { epoch: "two" };
  edge.socket.end();
  await settle();
  edge.seq = 0;
  edge.socket.message("new", { id: "new" }); // seq 1 again
  edge.socket.message("old", { id: "old" });
  await settle();
  expect(f.mock.calls.map(([p]) => p)).toEqual(["old", "new"]);
  expect(await store.get("epoch")).toBe("two");
});

test("what waited of another epoch is dropped, and comes again", async () => {
  const { client, edge } = await online({ session: { epoch: "one" } });
  edge.socket.message("a", { id: "a" });
  await settle();
  edge.o.session = { epoch: "two" };
  edge.socket.end();
  await settle();
  edge.seq = 50;
  edge.socket.message("a", { id: "a" });
  const f = vi.fn();
  client.on("note", f);
  await settle();
  expect(f).toHaveBeenCalledTimes(1);
  expect(acked(edge)).toEqual([51]);
});

test("a handler that throws is called again after a back-off that grows, and others go on", async () => {
  const { client, edge, errors } = await online({}, { backoff: { minMs: 1000, maxMs: 4000 } });
  const at: number[] = [];
  const began = Date.now();
  client.on("note", () => {
    at.push(Date.now() - began);
    throw new Error("not today");
  });
  const f = vi.fn();
  client.on("other", f);
  edge.socket.message(1);
  edge.socket.message(2, { type: "other" });
  await last(20_000);
  expect(at.slice(0, 5)).toEqual([0, 1000, 3000, 7000, 11_000]);
  expect(f).toHaveBeenCalledTimes(1);
  expect(acked(edge)).toEqual([2]);
  expect(errors[0]!.message).toBe("not today");
});

test("a message whose handler fails keeps its place for a while, and does not stop its lane for ever", async () => {
  const { client, edge } = await online();
  const got: number[] = [];
  let good = false;
  client.on("note", async (p) => {
    if (p === 1 && !good) throw new Error("x");
    got.push(p);
  });
  edge.socket.message(1);
  edge.socket.message(2);
  await last(400);
  expect(got).toEqual([]);
  await last(3000);
  expect(got).toEqual([2]);
  good = true;
  await last(20_000);
  expect(got).toEqual([2, 1]);
  expect(acked(edge).sort()).toEqual([1, 2]);
});

test("a slow handler holds back its own type and lane only", async () => {
  const { client, edge } = await online();
  const { wait } = levers();
  const got: string[] = [];
  client.on("slow", (p) => (got.push(`slow ${p}`), wait()));
  client.on("note", (p) => void got.push(`note ${p}`));
  edge.socket.message(1, { type: "slow" });
  edge.socket.message(2, { type: "slow" });
  edge.socket.message(3);
  edge.socket.message(4, { type: "slow", priority: 3 });
  await settle();
  expect(got).toEqual(["slow 1", "note 3", "slow 4"]);
});

test("Reject refuses a message, with a reason of at most 256 bytes, and it does not come again", async () => {
  const { client, edge, errors } = await online();
  const f = vi.fn((p) => {
    throw new Reject(p);
  });
  client.on("note", f);
  edge.socket.message("cannot parse");
  edge.socket.message("é".repeat(300));
  edge.socket.message("");
  await last(60_000);
  expect(f).toHaveBeenCalledTimes(3);
  const all = rejected(edge);
  expect(all[0]).toEqual({ seq: 1, reason: "cannot parse" });
  expect(Buffer.byteLength(all[1].reason)).toBe(256);
  expect(all[2]).toEqual({ seq: 3 });
  expect(acked(edge)).toEqual([]);
  expect(errors).toEqual([]);
  edge.seq = 0;
  edge.socket.message("cannot parse"); // the refusal was lost with the link: it is known, and acknowledged
  await settle();
  expect(f).toHaveBeenCalledTimes(3);
});

test("an ephemeral message is handed on and not acknowledged", async () => {
  const { client, edge } = await online();
  const f = vi.fn();
  client.on("pointer", f);
  edge.socket.say({ type: "pointer", id: "p", fromDeviceId: "d", payload: 1 });
  edge.socket.say({ type: "unheard", id: "p", fromDeviceId: "d", payload: 1 });
  await settle();
  expect(f).toHaveBeenCalledTimes(1);
  expect(edge.of("ack")).toEqual([]);
});

test("acknowledgements travel together", async () => {
  const { client, edge } = await online();
  client.on("note", () => {});
  edge.socket.say(...Array.from({ length: 100 }, (_, i) => ({ type: "note", id: `n${i}`, fromDeviceId: "d", seq: i + 1, payload: i })));
  await settle();
  expect(edge.of("ack")).toHaveLength(1);
  expect(acked(edge)).toHaveLength(100);
});

test("what the client remembers is bounded", async () => {
  const store = memoryStore();
  const { client, edge } = await online({}, { store });
  client.on("note", () => {});
  for (let i = 0; i < 120; i++) {
    edge.socket.say(...Array.from({ length: 100 }, (_, j) => ({ type: "note", id: `n${i}.${j}`, fromDeviceId: "d", seq: i * 100 + j + 1, payload: 1 })));
    await settle();
  }
  const remembered = async () => (await store.list("seen/")).flatMap(([, v]) => JSON.parse(v));
  for (let i = 0; i < 1000 && (await remembered()).length < 4096; i++) await settle(); // it is written behind
  const kept = await remembered();
  expect(kept.length).toBeGreaterThanOrEqual(4096);
  expect(kept.length).toBeLessThan(4300);
});

test("presence, gaps and errors are told, and a listener that throws hinders no other", async () => {
  const { client, edge, errors } = await online();
  const heard: any[] = [];
  const shown = vi.spyOn(console, "error").mockImplementation(() => {});
  client.onPresence(() => {
    throw new Error("mine");
  });
  const off = client.onPresence((p) => heard.push(p));
  client.onGap((g) => heard.push(g));
  edge.socket.say({ type: "presence", payload: { deviceId: "d", status: "busy", note: "x" } });
  edge.socket.say({ type: "gap", payload: { lane: "normal", from: 1, to: 9, count: 0, atLeast: 3, reason: "purged" } });
  edge.socket.refuse(undefined, "RATE_LIMITED", { retryAfterMs: 5 });
  off();
  edge.socket.say({ type: "presence", payload: { deviceId: "d", status: "away" } });
  expect(heard).toEqual([{ deviceId: "d", status: "busy", note: "x" }, { lane: "normal", from: 1, to: 9, count: 0, atLeast: 3, reason: "purged" }]);
  expect(errors).toMatchObject([{ code: "RATE_LIMITED", retryAfterMs: 5 }]);
  expect(shown).toHaveBeenCalledTimes(2);
  shown.mockRestore();
});
