// Requests both ways, topics, history, devices and status.
import { expect, test, vi } from "vitest";
import { RccsError } from "@rccs/client";
import { settle, type Edge } from "../edge.js";
import { last, online, start } from "./harness.js";

const respond = (edge: Edge, id: string, payload: any, partial = false) => edge.socket.say({ type: "response", id: "a", fromDeviceId: "desktop", correlationId: id, payload, ...(partial && { partial }) });
const collect = async (it: AsyncIterable<any>) => {
  const all: any[] = [];
  for await (const v of it) all.push(v);
  return all;
};
const ask = (edge: Edge, id: string, method: string, params: any = null, more = {}) => edge.socket.say({ type: "request", id, fromDeviceId: "phone2", payload: { method, params, ...more } });

test("a request gets the result, or throws the other device's code", async () => {
  const { client, edge } = await online();
  const good = client.request("file.open", { path: "/a" }, { to: "desktop", timeoutMs: 5000 });
  await settle();
  const q = edge.of("request")[0];
  expect(q).toMatchObject({ toDeviceId: "desktop", payload: { method: "file.open", params: { path: "/a" }, timeoutMs: 5000 } });
  respond(edge, q.id, { result: { lines: 12 } });
  expect(await good).toEqual({ lines: 12 });
  const bad = client.request("x", undefined, { to: "desktop" });
  const failed = expect(bad).rejects.toMatchObject({ code: "not_found", message: "no such file" });
  await settle();
  respond(edge, edge.of("request")[1].id, { error: { code: "not_found", message: "no such file" } });
  await failed;
});

for (const code of ["DEVICE_OFFLINE", "TIMEOUT", "DEVICE_NOT_FOUND", "MESSAGE_TOO_LARGE"])
  test(`${code} ends a request`, async () => {
    const { client } = await online({ answer: (e, s) => e.type === "request" && (s.refuse(e.id, code), true) });
    await expect(client.request("x", null, { to: "d" })).rejects.toMatchObject({ code });
  });

test("a request lives no longer than its connection, and is not asked again", async () => {
  const { client, edge } = await online();
  const q = client.request("x", null, { to: "d" });
  const failed = expect(q).rejects.toMatchObject({ code: "CONNECTION_LOST" });
  await settle();
  edge.socket.end();
  await failed;
  await last();
  expect(edge.of("request")).toHaveLength(1);
  const off = start({ down: true });
  const waits = off.client.request("x", null, { to: "d", timeoutMs: 2000 });
  const ended = expect(waits).rejects.toMatchObject({ code: "CONNECTION_LOST" });
  await last(2100);
  await ended;
});

test("a response in parts is a loop, and leaving it cancels the request", async () => {
  const { client, edge } = await online();
  const all = collect(client.requestStream("run", 1, { to: "d" }));
  await settle();
  const q = edge.of("request")[0];
  respond(edge, q.id, { result: "a" }, true);
  respond(edge, q.id, { result: "b" }, true);
  respond(edge, q.id, { result: null });
  expect(await all).toEqual(["a", "b"]);
  const left = (async () => {
    for await (const v of client.requestStream("run", 1, { to: "d" })) return v;
  })();
  await settle();
  const second = edge.of("request")[1];
  respond(edge, second.id, { result: "first" }, true);
  expect(await left).toBe("first");
  await settle();
  expect(edge.of("ack")).toMatchObject([{ payload: { cancel: second.id } }]);
});

test("aborting a request cancels it at the other device", async () => {
  const { client, edge } = await online();
  const stop = new AbortController();
  const q = client.request("x", null, { to: "d", signal: stop.signal });
  const failed = expect(q).rejects.toMatchObject({ code: "ABORTED" });
  await settle();
  stop.abort();
  await failed;
  await settle();
  expect(edge.of("ack")).toMatchObject([{ payload: { cancel: edge.of("request")[0].id } }]);
  await expect(client.request("x", null, { to: "d", signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
  await expect(collect(client.requestStream("x", null, { to: "d", signal: AbortSignal.abort() }))).rejects.toMatchObject({ code: "ABORTED" });
  expect(edge.of("request")).toHaveLength(1);
});

test("requests are answered: a result, parts of a generator, an error, a method that nobody handles", async () => {
  const { client, edge } = await online();
  client.handle("sum", ({ a, b }, { from }) => ({ sum: a + b, from }));
  client.handle("count", async function* (n) {
    for (let i = 0; i < n; i++) yield i;
    return "done";
  });
  client.handle("own", () => {
    throw new RccsError("not_found", "no such file");
  });
  client.handle("plain", async () => {
    throw new Error("oops");
  });
  const off = client.handle("gone", () => 1);
  off();
  ask(edge, "q1", "sum", { a: 1, b: 2 });
  ask(edge, "q2", "count", 2);
  ask(edge, "q3", "own");
  ask(edge, "q4", "plain");
  ask(edge, "q5", "gone");
  await settle();
  const answers = (id: string) => edge.of("response").filter((e) => e.correlationId === id).map((e) => [!!e.partial, e.payload]);
  expect(answers("q1")).toEqual([[false, { result: { sum: 3, from: "phone2" } }]]);
  expect(answers("q2")).toEqual([[true, { result: 0 }], [true, { result: 1 }], [false, { result: "done" }]]);
  expect(answers("q3")).toEqual([[false, { error: { code: "not_found", message: "no such file" } }]]);
  expect(answers("q4")).toEqual([[false, { error: { code: "INTERNAL", message: "oops" } }]]);
  expect(answers("q5")).toEqual([[false, { error: { code: "METHOD_NOT_FOUND", message: expect.any(String) } }]]);
});

test("a response that is too large for a frame is an error to the requester, and the connection stays", async () => {
  const { client, edge } = await online({ session: { maxMessageBytes: 2000 } });
  client.handle("big", () => "x".repeat(3000));
  client.handle("parts", async function* () {
    yield 1;
    yield "x".repeat(3000);
  });
  for (const method of ["big", "parts"]) edge.socket.say({ type: "request", id: method, fromDeviceId: "desktop", payload: { method } });
  await edge.until(() => edge.of("response").length === 3);
  const answers = edge.of("response").map((e) => [e.correlationId, e.payload.error?.code ?? e.payload.result]);
  expect(answers.toSorted()).toEqual([["big", "MESSAGE_TOO_LARGE"], ["parts", 1], ["parts", "MESSAGE_TOO_LARGE"]].toSorted());
  expect(edge.frames.every((f) => f.length <= 2000)).toBe(true);
  expect(edge.sockets).toHaveLength(1);
});

test("a response that does not fit in a frame of the requester is an error to it, once, also for a part", async () => {
  const fits = (e: any) => JSON.stringify(e.payload).length < 200;
  const { client, edge, errors } = await online({ answer: (e, s) => e.type === "response" && !fits(e) && (s.refuse(e.id, "MESSAGE_TOO_LARGE", { message: "at most 200" }), true) });
  client.handle("whole", () => "x".repeat(300));
  client.handle("parts", async function* () {
    yield "y".repeat(300);
  });
  for (const method of ["whole", "parts"]) {
    ask(edge, `q ${method}`, method);
    await settle();
    const answers = edge.of("response").filter((e) => e.correlationId === `q ${method}` && e.payload.error);
    expect(answers.map((e) => e.payload)).toEqual([{ error: { code: "MESSAGE_TOO_LARGE", message: "at most 200" } }]);
    expect(Buffer.byteLength(answers[0].id)).toBeLessThanOrEqual(128);
  }
  expect(errors).toEqual([]);
});

test("an error about what nobody waits for, or waits for any more, is told to nobody", async () => {
  const { client, edge, errors } = await online();
  const stop = new AbortController();
  const given = client.request("x", null, { to: "d", signal: stop.signal }).catch((e) => e.code);
  await settle();
  stop.abort();
  edge.socket.refuse(edge.of("request")[0].id, "TIMEOUT");
  edge.socket.refuse("of another page", "DEVICE_NOT_FOUND");
  client.handle("late", () => 1);
  ask(edge, "a" + "\u{1f642}".repeat(31), "late"); // as long as an id may be
  await settle();
  edge.socket.refuse(edge.of("response")[0].id, "BAD_MESSAGE");
  await settle();
  expect([await given, errors, edge.of("response").length]).toEqual(["ABORTED", [], 1]);
  expect(Buffer.byteLength(edge.of("response")[0].id)).toBeLessThanOrEqual(128);
});

test("a handler's signal ends when the requester gives up, waits no longer, or the connection is lost", async () => {
  const { client, edge } = await online();
  const signals: AbortSignal[] = [];
  const ended = vi.fn();
  client.handle("wait", (_, { signal }) => (signals.push(signal), new Promise(() => {})));
  client.handle("stream", async function* (_, { signal }) {
    signals.push(signal);
    try {
      for (let i = 0; ; i++) {
        yield i;
        await new Promise((r) => setTimeout(r, 1000));
      }
    } finally {
      ended();
    }
  });
  ask(edge, "q1", "wait");
  ask(edge, "q2", "wait", null, { timeoutMs: 2000 });
  ask(edge, "q3", "wait");
  ask(edge, "q4", "stream");
  await last(500);
  edge.socket.say({ type: "ack", payload: { cancel: "q1" } });
  edge.socket.say({ type: "ack", payload: { cancel: "q4" } });
  await last(2000);
  expect(signals.map((s) => s.aborted)).toEqual([true, true, false, true]);
  expect(ended).toHaveBeenCalled();
  edge.socket.end();
  await settle();
  expect(signals[2]!.aborted).toBe(true);
  expect(edge.of("response").filter((e) => e.correlationId === "q3")).toMatchObject([{ payload: { error: { code: "UNAVAILABLE" } } }]);
});

const say = (edge: Edge, seq: number, topic = "t") => edge.socket.say({ type: "topic", id: `p${seq}`, fromDeviceId: "d", topic, seq, timestamp: "2025-01-31T12:00:00.000Z", payload: seq });

test("a topic is one loop, goes on where it was after a reconnect, and ends with its signal", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "subscribe" && (s.ack(e.id, { status: "success", topic: "t", seq: 10, epoch: "e" }), true) });
  const stop = new AbortController();
  const all = collect(client.subscribe("t", { since: 7, signal: stop.signal }));
  await settle();
  expect(edge.of("subscribe")[0].payload).toEqual({ topic: "t", since: 7 });
  for (const n of [8, 9, 9, 10, 11]) say(edge, n);
  await settle();
  edge.socket.end();
  await settle();
  expect(edge.of("subscribe")[1].payload).toEqual({ topic: "t", since: 11, epoch: "e" });
  say(edge, 12);
  edge.socket.say({ type: "gap", payload: { topic: "t", from: 13, to: 14, count: 2, reason: "retention" } });
  say(edge, 15);
  await settle();
  stop.abort();
  expect((await all).map((i) => (i.gap ? i.gap.reason : i.seq))).toEqual([8, 9, 10, 11, 12, "retention", 15]);
  await settle();
  expect(edge.of("unsubscribe")).toHaveLength(1);
});

test("from now on means from the seq that the edge told, also after a reconnect", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "subscribe" && (s.ack(e.id, { status: "success", topic: "t", seq: 10 }), true) });
  const stop = new AbortController();
  const all = collect(client.subscribe("t", { signal: stop.signal }));
  await settle();
  edge.socket.end();
  await settle();
  expect(edge.of("subscribe").map((e) => e.payload.since)).toEqual([undefined, 10]);
  stop.abort();
  await all;
});

test("a reset begins again with the first message stored", async () => {
  let reset = false;
  const { client, edge } = await online({
    answer: (e, s) => {
      if (e.type !== "subscribe") return false;
      s.ack(e.id, { status: "success", topic: "t", seq: reset ? 2 : 10, epoch: reset ? "two" : "one", ...(reset && { reset }) });
      if (reset) s.say({ type: "gap", payload: { topic: "t", from: 0, to: 0, count: 0, atLeast: 0, reason: "reset" } });
      return true;
    },
  });
  const stop = new AbortController();
  const all = collect(client.subscribe("t", { since: 9, signal: stop.signal }));
  await settle();
  say(edge, 10);
  await settle();
  reset = true;
  edge.socket.end();
  await settle();
  say(edge, 1);
  say(edge, 2);
  await settle();
  stop.abort();
  expect((await all).map((i) => (i.gap ? i.gap.reason : i.seq))).toEqual([10, "reset", 1, 2]);
});

test("two loops on one topic are one subscription on the wire, each from its own since", async () => {
  const stored = [1, 2, 3, 4, 5];
  const on = new WeakSet<object>();
  const { client, edge } = await online({
    answer: (e, s) => {
      if (e.type === "unsubscribe") on.delete(s);
      if (e.type !== "subscribe") return false;
      expect(on.has(s)).toBe(false); // never two at once
      on.add(s);
      const { since } = e.payload;
      s.ack(e.id, { status: "success", topic: "t", seq: stored.at(-1) });
      const from = since === undefined ? Infinity : since === "last" ? stored.at(-1)! - 1 : since;
      for (const n of stored) if (n > from) say(edge, n);
      return true;
    },
  });
  const stop = new AbortController();
  const a = collect(client.subscribe("t", { since: 3, signal: stop.signal }));
  await settle();
  const b = collect(client.subscribe("t", { since: 0, signal: stop.signal }));
  await settle();
  const c = collect(client.subscribe("t", { since: "last", signal: stop.signal }));
  const d = collect(client.subscribe("t", { signal: stop.signal }));
  await settle();
  stored.push(6);
  say(edge, 6);
  await settle();
  stop.abort();
  const seqs = (all: any[]) => all.map((i) => i.seq);
  expect([seqs(await a), seqs(await b), seqs(await c), seqs(await d)]).toEqual([[4, 5, 6], [1, 2, 3, 4, 5, 6], [5, 6], [6]]);
});

test("a loop that began while nothing was stored goes on from where the edge says that it began", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "subscribe" && (s.ack(e.id, { status: "success", topic: "t", seq: 0, since: 7 }), true) });
  const stop = new AbortController();
  const next = client.subscribe("t", { signal: stop.signal }).next();
  await settle();
  edge.socket.end();
  await last(2500);
  expect(edge.of("subscribe").map((e) => e.payload.since)).toEqual([undefined, 7]);
  stop.abort();
  await next;
});

test("a loop that is slow stops listening, and goes on from the store", async () => {
  const { client, edge } = await online({ answer: (e, s) => e.type === "subscribe" && (s.ack(e.id, { status: "success", topic: "t", seq: 0 }), true) });
  const stop = new AbortController();
  const it = client.subscribe("t", { since: 0, signal: stop.signal });
  const first = it.next();
  await settle();
  for (let n = 1; n <= 3000; n++) say(edge, n);
  await settle();
  expect(edge.of("unsubscribe")).toHaveLength(1);
  expect((await first).value.seq).toBe(1);
  for (let n = 2; n <= 1024; n++) expect((await it.next()).value.seq).toBe(n);
  const next = it.next();
  await settle();
  expect(edge.of("subscribe").at(-1).payload.since).toBe(1024);
  stop.abort();
  await next;
});

test("a topic that may not be read ends its loops with the reason; a refusal for now is tried again", async () => {
  let code = "UNAVAILABLE";
  const { client, edge } = await online({ answer: (e, s) => e.type === "subscribe" && (s.refuse(e.id, code), true) });
  const all = collect(client.subscribe("t"));
  const failed = expect(all).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  await last(2500);
  expect(edge.of("subscribe").length).toBeGreaterThan(2);
  code = "PERMISSION_DENIED";
  await last(1500);
  await failed;
});

test("publish is answered once stored, and sent again under its id until then", async () => {
  const { client, edge } = await online({ answer: (e) => e.type === "publish" });
  const p = client.publish("t", { a: 1 }, { id: "mine" });
  await settle();
  edge.o.answer = () => {};
  edge.socket.end();
  expect(await p).toEqual({ seq: 1, duplicate: false });
  expect(edge.of("publish").map((e) => e.id)).toEqual(["mine", "mine"]);
});

test("history and the list of devices come in pages", async () => {
  const { client, edge } = await online({
    answer: (e, s) => {
      const from = e.payload?.from;
      if (e.type === "history") s.ack(e.id, { status: "success", messages: [{ type: "note", id: `m${from ?? 1}`, fromDeviceId: "d", seq: from ?? 1, priority: 3, timestamp: "t", payload: 1 }], ...(from === 3 ? {} : { next: (from ?? 1) + 1 }) });
      else if (e.type === "device_list") s.ack(e.id, { status: "success", devices: [{ id: from ?? "a", type: "x", status: "online" }], ...(from ? {} : { next: "b" }) });
      else return false;
      return true;
    },
  });
  expect((await collect(client.history({ inbox: true }))).map((m) => [m.seq, m.priority])).toEqual([[1, "critical"], [2, "critical"], [3, "critical"]]);
  expect((await client.devices()).map((d) => d.id)).toEqual(["a", "b"]);
  expect(edge.of("history")[0].payload).toEqual({ inbox: true });
});

test("a status is said again in a new session, and not in one that is resumed", async () => {
  const { client, edge } = await online();
  await client.setStatus("busy", { note: "in a call" });
  expect(edge.of("device_status")[0].payload).toEqual({ note: "in a call", status: "busy" });
  edge.socket.end();
  await last();
  expect(edge.of("device_status")).toHaveLength(2);
  edge.o.session = { resumed: true };
  edge.socket.end();
  await last();
  expect(edge.of("device_status")).toHaveLength(2);
});

test("forget removes the device, and the client is closed", async () => {
  const { client, edge } = await online();
  const gone = client.forget();
  await last();
  await gone;
  expect(edge.of("device_unregister")[0].payload).toEqual({ forget: true });
  expect(client.state).toBe("closed");
  await last(60_000);
  expect(edge.sockets).toHaveLength(1);
});

test("everything that waits ends with CLOSED", async () => {
  const { client } = await online({ answer: (e) => e.type !== "heartbeat" });
  const all = [client.request("x", 1, { to: "d" }), client.publish("t", 1), client.devices(), client.cancel("x"), client.setStatus("away"), collect(client.subscribe("t")), collect(client.history({ inbox: true })), collect(client.requestStream("x", 1, { to: "d" }))];
  const ended = all.map((p) => expect(p).rejects.toMatchObject({ code: "CLOSED" }));
  await settle();
  const closed = client.close();
  await Promise.all(ended);
  await last();
  await closed;
  for (const p of [client.request("x", 1, { to: "d" }), client.publish("t", 1), client.devices(), client.ready()]) await expect(p).rejects.toMatchObject({ code: "CLOSED" });
});
