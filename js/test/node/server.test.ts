// Against the real server, in Node.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, enroll, memoryStore, Reject, type Client, type Options } from "@rccs/client";
import { fileStore, WebSocket } from "@rccs/client/node";
import { each, throughCuts } from "../cuts.js";
import { Proxy, Server, until } from "../server.js";
import { bursts, exchange, type Ledger } from "../traffic.js";

setFlagsFromString("--expose-gc");
const gc: () => void = runInNewContext("gc");

let server: Server;
const open: Client[] = [];
const start = (url: string, o: Partial<Options>) => {
  const c = connect(url, { WebSocket, backoff: { minMs: 50, maxMs: 500 }, ...o } as Options);
  open.push(c);
  return c;
};
beforeAll(async () => void (server = await Server.start()));
afterAll(async () => {
  await Promise.all(open.map((c) => c.close()));
  await server?.stop();
});

test("5,000 messages each way arrive once and in order through 20 cuts and three kills of the server", async () => {
  const proxy = await Proxy.start(server.port);
  const names = ["phone", "desktop"];
  const sides = names.map((name, i) => {
    const client = start(proxy.url, { token: server.token(`cuts/${name}`), type: name, store: memoryStore() });
    return { client, to: names[1 - i]!, ledger: { sent: 0, got: [], failed: [] } as Ledger };
  });
  await Promise.all(sides.map((s) => s.client.ready()));
  const sending = sides.map((s) => exchange(s.client, s.to, each, s.ledger));
  await throughCuts(server, proxy, async () => sides.map((s) => s.ledger));
  await Promise.all(sending); // each was accepted
  proxy.close();
  await Promise.all(sides.map((s) => s.client.close()));
});

test("what a program had not sent when it ended is sent by the next one, from the files", async () => {
  const dir = mkdtempSync(join(tmpdir(), "rccs-store-"));
  const proxy = await Proxy.start(server.port);
  proxy.down = true;
  const token = server.token("files/phone");
  const got: number[] = [];
  const desktop = start(server.url, { token: server.token("files/desktop"), type: "desktop" });
  desktop.on("n", (p) => void got.push(p));
  await desktop.ready();
  const before = start(proxy.url, { token, store: fileStore(dir) });
  for (let i = 0; i < 100; i++) before.send("n", i, { to: "desktop" }).catch(() => {});
  await before.close();
  proxy.down = false;
  const after = start(proxy.url, { token, store: fileStore(dir) });
  await after.send("n", 100, { to: "desktop" });
  await until(() => got.length > 100, "all have arrived");
  expect(got).toEqual(Array.from({ length: 101 }, (_, i) => i));
  await after.close();
  expect(await fileStore(dir).list("out/")).toEqual([]);
  proxy.close();
  rmSync(dir, { recursive: true });
});

test("a device enrols with a code and a key that cannot be taken out, and its credential is renewed", async () => {
  const credentials = await enroll(server.url, { code: server.code("carol"), device: "phone" });
  expect((credentials.key as CryptoKeyPair).privateKey.extractable).toBe(false);
  const phone = start(server.url, { credentials });
  await phone.ready();
  expect(phone.session).toMatchObject({ userId: "carol", deviceId: "phone" });
  await phone.close();
  // One that has expired is renewed before it is used.
  const header = (s: string) => Buffer.from(s).toString("base64url");
  const [h, body, sig] = credentials.jwt.split(".");
  const claims = JSON.parse(Buffer.from(body!, "base64url").toString());
  const old = { ...credentials, jwt: `${h}.${header(JSON.stringify({ ...claims, exp: 1 }))}.${sig}` };
  let renewed: any;
  const again = start(server.url, { credentials: old, onRenewed: (c) => void (renewed = c) });
  await again.ready();
  expect(renewed).toMatchObject({ key: credentials.key, expiresAt: expect.any(String), renewUntil: expect.any(String) });
  await expect(enroll(server.url, { code: "AAAA-AAAA", device: "x" })).rejects.toMatchObject({ code: "AUTH_ERROR" });
});

test("a device of another tenant enrols, with the tenant in the url, and is renewed", async () => {
  server.run("tenants", "add", "acme", "--data", server.data, "--server", `nats://127.0.0.1:${server.nats}`);
  const code = server.code("carol", "--tenant", "acme");
  await expect(enroll(server.url, { code, device: "phone" })).rejects.toMatchObject({ code: "AUTH_ERROR" });
  const credentials = await enroll(server.url + "?tenant=acme", { code, device: "phone" });
  const [h, body, sig] = credentials.jwt.split(".");
  const claims = JSON.parse(Buffer.from(body!, "base64url").toString());
  const old = { ...credentials, jwt: `${h}.${Buffer.from(JSON.stringify({ ...claims, exp: 1 })).toString("base64url")}.${sig}` };
  let renewed: any;
  const phone = start(server.url, { credentials: old, onRenewed: (c) => void (renewed = c) });
  await phone.ready();
  expect([phone.session?.userId, claims.nats.tags]).toEqual(["carol", expect.arrayContaining(["rccs-tenant:acme"])]);
  expect(renewed).toMatchObject({ key: credentials.key });
});

test("a .creds text connects", async () => {
  const c = start(server.url, { credentials: server.creds("dave/desktop"), type: "desktop" });
  await c.ready();
  expect(c.session).toMatchObject({ userId: "dave", deviceId: "desktop" });
});

test("messages, outcomes, requests, topics, presence and history go both ways", async () => {
  const phone = start(server.url, { token: server.token("erin/phone"), type: "mobile" });
  const desktop = start(server.url, { token: server.token("erin/desktop"), type: "desktop", capabilities: { camera: true } });
  const outcomes: any[] = [];
  const presence: any[] = [];
  phone.onOutcome((o) => outcomes.push(o));
  phone.onPresence((p) => presence.push(p));
  await Promise.all([phone.ready(), desktop.ready()]);
  const got: any[] = [];
  desktop.on("note", (p, m) => {
    got.push([p, m.fromDeviceId]);
  });
  const sent = await phone.send("note", { n: 1 }, { to: { capability: "camera" }, track: true });
  expect(sent.recipients).toMatchObject([{ deviceId: "desktop" }]);
  await until(() => outcomes.length, "the outcome");
  expect([got, outcomes]).toEqual([[[{ n: 1 }, "phone"]], [{ id: sent.id, status: "delivered", deviceId: "desktop" }]]);
  await expect(phone.send("note", 1, { to: "nobody" })).rejects.toMatchObject({ code: "DEVICE_NOT_FOUND" });

  desktop.handle("sum", ({ a, b }) => a + b);
  desktop.handle("count", async function* (n) {
    for (let i = 0; i < n; i++) yield i;
  });
  expect(await phone.request("sum", { a: 1, b: 2 }, { to: "desktop" })).toBe(3);
  const parts: number[] = [];
  for await (const p of phone.requestStream("count", 3, { to: "desktop" })) parts.push(p);
  expect(parts).toEqual([0, 1, 2]);
  await expect(phone.request("none", null, { to: "desktop" })).rejects.toMatchObject({ code: "METHOD_NOT_FOUND" });

  const stop = new AbortController();
  const heard: any[] = [];
  const loops = [0, 1].map(async (since) => {
    for await (const i of desktop.subscribe("erin.news", { since: since ? "last" : 0, signal: stop.signal })) heard.push([since, i.gap ? "gap" : i.data]);
  });
  await phone.publish("erin.news", "a");
  await until(() => heard.length >= 2, "the first item in both loops");
  await phone.publish("erin.news", "b");
  await until(() => heard.length >= 4, "the second item");
  stop.abort();
  await Promise.all(loops);
  expect(heard.filter(([l]) => l === 0).map(([, d]) => d)).toEqual(["a", "b"]);

  await desktop.setStatus("busy", { note: "in a call" });
  await until(() => presence.some((p) => p.status === "busy" && p.note === "in a call"), "the status");
  expect((await phone.devices()).map((d) => [d.id, d.type]).sort()).toEqual([
    ["desktop", "desktop"],
    ["phone", "mobile"],
  ]);
  const stored: any[] = [];
  for await (const m of phone.history({ topic: "erin.news" })) stored.push(m.payload);
  expect(stored).toEqual(["a", "b"]);
  const later = await phone.send("note", 1, { to: "desktop", deliverAt: new Date(Date.now() + 3_600_000) });
  expect(await phone.cancel(later.id)).toBe(1);
});

test("a refused message does not come again", async () => {
  const phone = start(server.url, { token: server.token("fred/phone") });
  const store = memoryStore();
  const token = server.token("fred/desktop");
  const desktop = start(server.url, { token, store });
  await Promise.all([phone.ready(), desktop.ready()]);
  let calls = 0;
  desktop.on("note", () => {
    calls++;
    throw new Reject("cannot parse");
  });
  const errors: any[] = [];
  desktop.onError((e) => errors.push(e));
  await phone.send("note", 1, { to: "desktop" });
  await until(() => calls, "the handler");
  await desktop.close();
  const again = start(server.url, { token, store });
  again.on("note", () => void calls++);
  await again.ready();
  await phone.send("other", 1, { to: "desktop" });
  let other = 0;
  again.on("other", () => void other++);
  await until(() => other, "the next message");
  expect(calls).toBe(1);
});

test("two clients of one device end in one that is closed", async () => {
  const token = server.token("gina/phone");
  const a = start(server.url, { token });
  await a.ready();
  const errors: any[] = [];
  a.onError((e) => errors.push(e.code));
  const b = start(server.url, { token });
  await b.ready();
  await until(() => a.state === "closed", "the first one is closed");
  expect(errors).toEqual(["SESSION_REPLACED"]);
  expect(b.state).toBe("online");
});

test("memory stays flat over 100,000 messages", async () => {
  const phone = start(server.url, { token: server.token("henry/phone") });
  const desktop = start(server.url, { token: server.token("henry/desktop"), window: 4096 });
  await Promise.all([phone.ready(), desktop.ready()]);
  const burst = bursts(phone, desktop, "desktop");
  const round = async (n: number) => {
    await burst(n);
    gc();
    return process.memoryUsage().heapUsed;
  };
  await round(20_000);
  const before = await round(20_000);
  const after = await round(60_000);
  expect(after - before).toBeLessThan(30 << 20);
  await Promise.all([phone.close(), desktop.close()]);
});
