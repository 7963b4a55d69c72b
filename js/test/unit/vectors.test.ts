// The vectors of wire/testdata, as Go runs them: every frame of an edge is taken, and what is malformed hurts nothing.
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { settle } from "../edge.js";
import { online } from "./harness.js";

const root = new URL("../../../wire/testdata/", import.meta.url);
const textOf = (v: any): string | undefined => (v.bytes ? undefined : typeof v.text === "string" ? v.text : v.text.map(({ text, times }: any) => text.repeat(times)).join(""));
const files = (dir: string) => readdirSync(new URL(dir + "/", root)).map((f) => [f, JSON.parse(readFileSync(new URL(`${dir}/${f}`, root), "utf8"))] as const);

for (const [file, v] of files("edge"))
  test(`edge/${file}: ${v.about}`, async () => {
    const { client, edge, errors } = await online();
    const heard: any[] = [];
    client.on("*", (payload, m) => void heard.push([m, payload]));
    client.onPresence((p) => heard.push(["presence", p]));
    client.onGap((g) => heard.push(["gap", g]));
    client.handle("file.open", () => "answered");
    const text = textOf(v)!;
    edge.socket.onmessage!({ data: text });
    await settle();
    expect(client.state).toBe("online");
    for (const item of v.items ?? []) {
      const { type, id, seq } = item.envelope ?? {};
      const payload = item.payload === undefined ? undefined : JSON.parse(item.payload);
      if (item.refused || item.error) continue; // nothing is handed on that is not as the protocol says
      if (type === "presence") expect(heard).toContainEqual(["presence", payload]);
      else if (type === "gap") expect(heard).toContainEqual(["gap", payload]);
      else if (type === "error") {
        if (!payload.originalMessageId && !/^(SESSION_|TOKEN_|DEVICE_REV|WRONG_)/.test(payload.code)) expect(errors).toContainEqual(expect.objectContaining({ code: payload.code }));
      } else if (type === "request") expect(edge.of("response").map((e) => e.correlationId)).toContain(id);
      else if (!["ack", "response", "topic", "device_register"].includes(type)) {
        expect(heard.map(([m, p]) => [m.id, m.type, m.seq, p])).toContainEqual([id, type, seq, payload]);
      }
      if (seq && type !== "topic") expect(edge.of("ack").flatMap((e) => e.payload.seqs ?? [])).toContain(seq);
    }
    if ((v.items ?? []).some((i: any) => i.refused)) expect(heard.filter(([m]) => m === "gap" || m === "presence")).toEqual([]);
  });

test("frames that no edge sends hurt nothing either", async () => {
  for (const [file, v] of files("frames")) {
    const text = textOf(v);
    if (text === undefined) continue; // not text: a WebSocket gives none of it
    const { client, edge } = await online();
    client.on("*", () => {});
    edge.socket.onmessage!({ data: text });
    await settle();
    expect([file, client.state]).toEqual([file, "online"]);
  }
});

test("each code of the vectors is sent again, or not, as the table says", async () => {
  const { rows } = JSON.parse(readFileSync(new URL("tables/codes.json", root), "utf8"));
  for (const { code, retry } of rows) {
    let refusals = 1;
    const { client, edge } = await online({ answer: (e, s) => e.type === "note" && refusals-- > 0 && (s.refuse(e.id, code, { retryAfterMs: 1 }), true) });
    const sent = client.send("note", 1).then(() => "sent", (e) => e.code);
    await settle();
    const { vi } = await import("vitest");
    await vi.advanceTimersByTimeAsync(2000);
    expect([code, await sent]).toEqual([code, retry === "later" ? "sent" : code]);
    expect(edge.of("note")).toHaveLength(retry === "later" ? 2 : 1);
  }
});

// What the client writes is what the vectors of devices show.
const writes: Record<string, (c: Awaited<ReturnType<typeof online>>["client"], e: any) => unknown> = {
  "device-list.json": (c) => c.devices(),
  "publish.json": (c, e) => c.publish(e.payload.topic, e.payload.data, { id: e.id }),
  "history-inbox.json": (c) => c.history({ inbox: true }).next(),
  "status.json": (c, { payload: { status, ...more } }) => c.setStatus(status, more),
  "unregister-forget.json": (c) => c.forget(),
  "message-any.json": (c, e) => c.send(e.type, e.payload, { id: e.id, to: e.to, ...(e.priority === 2 && { priority: "high" }) }),
  "message-capability.json": (c, e) => c.send(e.type, e.payload, { id: e.id, to: e.to }),
  "message-service.json": (c, e) => c.send(e.type, e.payload, { id: e.id, to: e.to }),
  "message-ephemeral.json": (c, e) => c.send(e.type, e.payload, { id: e.id, ephemeral: true }),
};
for (const [file, write] of Object.entries(writes))
  test(`device/${file} is what the client writes`, async () => {
    const [, v] = files("device").find(([f]) => f === file)!;
    const want = JSON.parse(textOf(v)!);
    const { client, edge } = await online();
    void Promise.resolve(write(client, want)).catch(() => {});
    await settle();
    const got = edge.of(want.type)[0];
    expect(got).toMatchObject({ type: want.type });
    for (const member of ["to", "toDeviceId", "ephemeral", "deliverAt", "collapseKey", "ttlMs", "priority"]) expect([member, got[member] ?? (member === "priority" ? 1 : undefined)]).toEqual([member, want[member] ?? (member === "priority" ? 1 : undefined)]);
    const { limit, from, ...payload } = want.payload ?? {};
    if (typeof want.payload === "object" && want.payload && !Array.isArray(want.payload)) expect(got.payload ?? {}).toMatchObject(payload);
    else expect(got.payload ?? {}).toEqual(want.payload ?? {});
  });
