// Nothing that was sent is lost, or sent in another order, or twice.
import { expect, test, vi } from "vitest";
import { memoryStore, type Store } from "@rccs/client";
import { Edge, settle } from "../edge.js";
import { last, online, start } from "./harness.js";

const sent = (edge: Edge, type = "note") => edge.of(type).map((e) => e.payload);

test("a message is in the store before send returns", () => {
  const set = vi.fn(async () => {});
  const store = { ...memoryStore(), set };
  const { client } = start({ down: true }, { store });
  client.send("note", { n: 1 }).catch(() => {});
  expect(set).toHaveBeenCalledTimes(1);
  expect(set.mock.calls[0]).toEqual([expect.stringMatching(/^out\//), expect.stringContaining('"payload":{"n":1}')]);
});

test("send resolves with what the edge accepted, and the store is empty again", async () => {
  const store = memoryStore();
  const { client, edge } = await online({}, { store });
  expect(await client.send("note", { n: 1 }, { to: "desktop", id: "mine" })).toEqual({ id: "mine", duplicate: false, recipients: [{ deviceId: "desktop", seq: 1 }] });
  expect(edge.of("note")[0]).toEqual({ id: "mine", type: "note", toDeviceId: "desktop", requiresAck: true, payload: { n: 1 } });
  await settle();
  expect(await store.list("out/")).toEqual([]);
});

test("each way to address a message is what the protocol says", async () => {
  const { client, edge } = await online();
  const at = new Date("2030-01-01T00:00:00Z");
  await client.send("a", 1, { to: { deviceType: "desktop", mode: "any" }, priority: "critical", ttlMs: 5, deliverAt: at, collapseKey: "k", correlationId: "c" });
  await client.send("b", undefined, { to: { service: true } });
  await client.send("c", null, { to: { capability: "x" } });
  expect(edge.of("a")[0]).toMatchObject({ to: { deviceType: "desktop", mode: "any" }, priority: 3, ttlMs: 5, deliverAt: at.toISOString(), collapseKey: "k", correlationId: "c" });
  expect(edge.of("b")[0]).toMatchObject({ to: { service: true }, payload: null });
  expect(edge.of("c")[0]).toMatchObject({ to: { capability: "x" } });
  expect(edge.of("b")[0]).not.toHaveProperty("priority");
});

test("messages sent offline go out in the order of the calls, in one frame", async () => {
  const edge = new Edge({ down: true });
  const { client } = start({}, {}, edge);
  const all = [1, 2, 3, 4, 5].map((n) => client.send("note", n));
  await last(1000);
  edge.o.down = false;
  await last(30_000);
  await Promise.all(all);
  expect(sent(edge)).toEqual([1, 2, 3, 4, 5]);
  expect(edge.frames.filter((f) => f.includes("note"))).toHaveLength(1);
});

test("what was written and not accepted is sent again under its id, before what came later", async () => {
  const { client, edge } = await online({ answer: (e) => e.type === "note" });
  const all = [1, 2].map((n) => client.send("note", n));
  await settle();
  edge.o.answer = () => {};
  edge.socket.end();
  const third = client.send("note", 3);
  await Promise.all([...all, third]);
  expect(sent(edge)).toEqual([1, 2, 1, 2, 3]);
  const ids = edge.of("note").map((e) => e.id);
  expect(ids.slice(0, 2)).toEqual(ids.slice(2, 4));
});

test("what an earlier program left is sent first, in its order", async () => {
  const store = memoryStore();
  const before = start({ down: true }, { store });
  before.client.send("note", 1).catch(() => {});
  before.client.send("note", 2, { id: "two" }).catch(() => {});
  await settle();
  const closed = before.client.close();
  await last();
  await closed;
  const { client, edge } = start({}, { store });
  const three = client.send("note", 3);
  const again = client.send("note", "other", { id: "two" }); // the program knows that it sent two: the first counts
  await three;
  expect(await again).toMatchObject({ id: "two" });
  expect(sent(edge)).toEqual([1, 2, 3]);
  await settle();
  expect(await store.list("out/")).toEqual([]);
});

test("each message has a key of its own in the store, whatever the key was that an earlier program left", async () => {
  const store = memoryStore();
  const now = String(Date.now() * 1000).padStart(17, "0");
  for (const key of [`seen/${now}9999`, `track/x`, `seen/${now}12ab`]) await store.set(key, key.startsWith("seen") ? "[]" : "");
  const { client } = start({ down: true }, { store });
  for (let i = 0; i < 10; i++) client.send("note", i).catch(() => {});
  await settle();
  const keys = (await store.list("out/")).map(([, text]) => JSON.parse(text).payload);
  expect(keys).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("close rejects what waits with CLOSED, and keeps it", async () => {
  const store = memoryStore();
  const { client } = start({ down: true }, { store });
  const waits = client.send("note", 1);
  const failed = expect(waits).rejects.toMatchObject({ code: "CLOSED" });
  const closed = client.close();
  await failed;
  await last();
  await closed;
  expect(await store.list("out/")).toHaveLength(1);
  await expect(client.send("note", 2)).rejects.toMatchObject({ code: "CLOSED" });
});

test("nobody who waited for nothing is told of CLOSED as an unhandled rejection", async () => {
  const unhandled = vi.fn();
  process.on("unhandledRejection", unhandled);
  const { client } = start({ down: true });
  void client.send("note", 1);
  const closed = client.close();
  await last();
  await closed;
  await settle();
  process.off("unhandledRejection", unhandled);
  expect(unhandled).not.toHaveBeenCalled();
});

test("the outbox is bounded by count and by bytes", async () => {
  const { client } = start({ down: true }, { outbox: { maxMessages: 3, maxBytes: 2000 } });
  for (let i = 0; i < 3; i++) client.send("note", i).catch(() => {});
  await expect(client.send("note", 4)).rejects.toMatchObject({ code: "OUTBOX_FULL" });
  const other = start({ down: true }, { outbox: { maxMessages: 3, maxBytes: 2000 } });
  await expect(other.client.send("note", "x".repeat(2000))).rejects.toMatchObject({ code: "OUTBOX_FULL" });
  other.client.send("note", "x".repeat(1000)).catch(() => {});
  await expect(other.client.send("note", "x".repeat(1000))).rejects.toMatchObject({ code: "OUTBOX_FULL" });
});

test("room in the outbox comes back when messages are accepted", async () => {
  const { client } = await online({}, { outbox: { maxMessages: 2 } });
  for (let i = 0; i < 20; i++) await client.send("note", i);
});

test("a frame over maxMessageBytes is refused before it is written, and offline when the limit is known", async () => {
  const { client, edge } = await online({ session: { maxMessageBytes: 1000 } });
  await expect(client.send("note", "x".repeat(1000))).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
  await expect(client.publish("t", "x".repeat(1000))).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
  expect(edge.of("note")).toEqual([]);
  const off = start({ down: true, session: { maxMessageBytes: 1000 } });
  const large = off.client.send("note", "é".repeat(500)); // 1,000 bytes in 500 characters
  const failed = expect(large).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
  const small = off.client.send("note", "small");
  await last(1000);
  off.edge.o.down = false;
  await last(30_000);
  await failed;
  await small;
  expect(sent(off.edge)).toEqual(["small"]);
  for (const f of off.edge.frames) expect(f.length).toBeLessThanOrEqual(1000);
});

test("a 1009 never leads to the same frame again", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "note" && e.payload.length > 50 && (s.end(1009), true) });
  const small = client.send("note", "small");
  const large = client.send("note", "x".repeat(100));
  const failed = expect(large).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
  const after = client.send("note", "after");
  await last(20_000);
  await failed;
  await Promise.all([small, after]);
  const frames = edge.frames.filter((f) => f.includes("xxx"));
  expect(new Set(frames).size).toBe(frames.length);
});

test("a large frame that ended a connection with 1009 is not written a second time", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "note" && e.payload.length > 70_000 && (s.end(1009), true) });
  const large = client.send("note", "x".repeat(80_000));
  const failed = expect(large).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
  const others = ["a", "b"].map((p) => client.send("note", p));
  await last(20_000);
  await failed;
  await Promise.all(others);
  expect(edge.frames.filter((f) => f.includes("xxx"))).toHaveLength(1);
});

test("a message that ends three connections with 1011 fails, and those beside it are sent", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "note" && e.payload === "poison" && (s.end(1011), true) });
  const before = client.send("note", "before");
  const poison = client.send("note", "poison");
  const failed = expect(poison).rejects.toMatchObject({ code: "INTERNAL" });
  const after = [1, 2, 3].map((n) => client.send("note", n));
  await last(60_000);
  await failed;
  await Promise.all([before, ...after]);
  expect(edge.of("note").filter((e) => e.payload === "poison")).toHaveLength(3);
  expect(client.state).toBe("online");
});

test("closes with 1011 that are not in a row are forgiven", async () => {
  const { client, edge } = await online({ answer: (e) => e.type === "note" });
  const waits = client.send("note", 1);
  await settle();
  for (const code of [1011, 1011, 1006, 1011, 1011]) {
    edge.socket.end(code);
    await last(20_000);
  }
  edge.o.answer = () => {};
  edge.socket.end();
  await last(20_000);
  await waits;
});

for (const code of ["UNAVAILABLE", "RATE_LIMITED", "QUEUE_FULL", "INTERNAL", "SOMETHING_NEW"])
  test(`${code} has the message sent again, and those behind it wait`, async () => {
    let refusals = 2;
    const { client, edge } = await online({ answer: (e, s) => e.payload === 1 && refusals-- > 0 && (s.refuse(e.id, code, { retryAfterMs: 3000 }), true) });
    const one = client.send("note", 1);
    await settle();
    const two = client.send("note", 2);
    await last(2000);
    expect(sent(edge)).toEqual([1]);
    const other = client.send("note", "high", { priority: "high" }); // another lane does not wait
    await other;
    await last(10_000);
    await Promise.all([one, two]);
    expect(sent(edge)).toEqual([1, "high", 1, 1, 2]);
  });

for (const code of ["BAD_MESSAGE", "DEVICE_NOT_FOUND", "PERMISSION_DENIED", "MESSAGE_TOO_LARGE"])
  test(`${code} is final for the message`, async () => {
    const store = memoryStore();
    const { client, edge, errors } = await online({ answer: (e, s) => e.type === "note" && (s.refuse(e.id, code), true) }, { store });
    await expect(client.send("note", 1)).rejects.toMatchObject({ code });
    await settle();
    expect(await store.list("out/")).toEqual([]);
    expect(edge.of("note")).toHaveLength(1);
    expect(errors).toEqual([]);
  });

test("a refusal of what an earlier program sent goes to onError", async () => {
  const store = memoryStore();
  await store.set("out/00000000000000001abcd", '{"id":"old","type":"note","requiresAck":true,"payload":1}');
  const { errors } = await online({ answer: (e, s) => e.type === "note" && (s.refuse(e.id, "DEVICE_NOT_FOUND"), true) }, { store });
  await settle();
  expect(errors.map((e) => e.code)).toEqual(["DEVICE_NOT_FOUND"]);
});

test("aborting removes what is not on the wire yet, and otherwise ends the wait alone", async () => {
  const store = memoryStore();
  const { client, edge } = start({ down: true }, { store });
  const stop = new AbortController();
  const off = client.send("note", "never", { signal: stop.signal });
  const failed = expect(off).rejects.toMatchObject({ code: "ABORTED" });
  await settle();
  stop.abort();
  await failed;
  await settle();
  expect(await store.list("out/")).toEqual([]);
  edge.o.down = false;
  edge.o.answer = (e) => e.type === "note";
  await last(30_000);
  const late = new AbortController();
  const on = client.send("note", "written", { signal: late.signal });
  const ended = expect(on).rejects.toMatchObject({ code: "ABORTED" });
  await settle();
  late.abort();
  await ended;
  edge.o.answer = () => {};
  edge.socket.end();
  await last(5000);
  expect(sent(edge)).toEqual(["written", "written"]);
  await expect(client.send("note", 1, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
  expect(await store.list("out/")).toEqual([]);
});

test("an ephemeral message is not stored, and fails without a connection", async () => {
  const store = memoryStore();
  const { client, edge } = await online({}, { store });
  const set = vi.spyOn(store, "set");
  await client.send("pointer", 1, { ephemeral: true });
  expect(edge.of("pointer")[0]).toMatchObject({ ephemeral: true });
  expect(set).not.toHaveBeenCalled();
  edge.o.answer = (e) => e.type === "pointer";
  const cut = client.send("pointer", 2, { ephemeral: true });
  const failed = expect(cut).rejects.toMatchObject({ code: "CONNECTION_LOST" });
  await settle();
  edge.o.down = true;
  edge.socket.end();
  await failed;
  await expect(client.send("pointer", 3, { ephemeral: true })).rejects.toMatchObject({ code: "CONNECTION_LOST" });
});

// As a message, `ack` would wait for an answer that never comes, and `device_unregister` end the session. The edge refuses the others.
const controlTypes = "ack heartbeat device_unregister device_status device_list subscribe unsubscribe publish history request response".split(" ");

test("what cannot be sent is refused at once", async () => {
  const { client, edge } = await online();
  for (const [type, payload, o] of [
    ["Upper", 1, {}],
    ["note", 1, { id: "" }],
    ["note", 1, { id: " x" }],
    ["note", 1, { id: "a\nb" }],
    ["note", 1, { id: "é".repeat(65) }],
    ["note", 1n, {}],
    ["note", 1, { priority: "urgent" }],
    ...controlTypes.map((type) => [type, {}, {}]),
  ] as any)
    await expect(client.send(type, payload, o)).rejects.toMatchObject({ code: "BAD_MESSAGE" });
  for (const id of ["", " x", "a\nb", "é".repeat(65)]) {
    await expect(client.publish("news", 1, { id })).rejects.toMatchObject({ code: "BAD_MESSAGE" });
    await expect(client.cancel(id)).rejects.toMatchObject({ code: "BAD_MESSAGE" });
  }
  expect(edge.got.filter((e) => e.type !== "device_register")).toEqual([]);
});

test("a store that fails does not keep a message from being sent, and is told", async () => {
  const store: Store = { ...memoryStore(), set: () => Promise.reject(new Error("disk full")) };
  const { client, errors } = await online({}, { store });
  await client.send("note", 1);
  expect(errors.map((e) => e.message)).toContain("disk full");
});

test("cancel says how many copies were taken back", async () => {
  const { client, edge } = await online();
  expect(await client.cancel("later")).toBe(1);
  expect(edge.of("ack")[0].payload).toEqual({ cancel: "later" });
});

test("the outcomes of tracked messages are told once, also by the next program", async () => {
  const store = memoryStore();
  const { client, edge } = await online({}, { store });
  const heard: any[] = [];
  client.onOutcome((o) => heard.push(o));
  await client.send("note", 1, { id: "tracked", track: true });
  await client.send("note", 1, { id: "other" });
  const say = (e: Edge, id: string, status: string, seq: number, more = {}) =>
    e.socket.say({ type: "ack", id: `outcome/${seq}`, fromDeviceId: "server", seq, payload: { originalMessageId: id, status, deviceId: "desktop", ...more } });
  say(edge, "other", "delivered", 7);
  say(edge, "tracked", "rejected", 8, { reason: "cannot parse" });
  say(edge, "tracked", "rejected", 8, { reason: "cannot parse" });
  await settle();
  expect(heard).toEqual([{ id: "tracked", status: "rejected", deviceId: "desktop", reason: "cannot parse" }]);
  expect(edge.of("ack").flatMap((e) => e.payload.seqs)).toEqual(expect.arrayContaining([7, 8]));
  const closed = client.close();
  await last();
  await closed;
  const next = await online({}, { store });
  next.client.onOutcome((o) => heard.push(o));
  say(next.edge, "tracked", "delivered", 9);
  say(next.edge, "tracked", "rejected", 8);
  await settle();
  expect(heard.slice(1)).toMatchObject([{ id: "tracked", status: "delivered" }]);
});
