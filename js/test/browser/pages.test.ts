// Pages of one origin that share a store are one device with one connection, whatever becomes of the one that holds it.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { connect, type Client } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Proxy, Server, until } from "../server.js";
import { bundle, Site } from "./page.js";

let server: Server, site: Site, proxy: Proxy, desktop: Client, js: string;
let arrived: number[] = [];
let user = 0;

const app = `
import { connect, enroll, indexedDBStore } from "@rccs/client";
Object.assign(window, { enroll, indexedDBStore, connect });
const q = new URLSearchParams(location.search);
window.got = []; window.errors = []; window.states = [];
if (q.get("url")) {
  window.c = connect(q.get("url"), { token: q.get("token"), type: "mobile", store: indexedDBStore("app"), backoff: { minMs: 50, maxMs: 500 } });
  c.on("n", (p) => void got.push(p));
  c.onError((e) => errors.push(e.code)); c.onState((s) => states.push(s));
}
window.ready = true;`;

beforeAll(async () => {
  server = await Server.start();
  js = await bundle(app);
});
afterAll(() => server?.stop());
beforeEach(async () => {
  user++;
  arrived = [];
  site = await Site.open(js);
  proxy = await Proxy.start(server.port);
  desktop = connect(server.url, { token: server.token(`u${user}/desktop`), type: "desktop", WebSocket });
  desktop.on("n", (p) => void arrived.push(p));
  await desktop.ready();
});
afterEach(async () => {
  await desktop?.close();
  proxy?.close();
  await site?.close();
});

const open = async () => {
  const p = await site.page(`/?url=${encodeURIComponent(proxy.url)}&token=${server.token(`u${user}/phone`)}`);
  await p.evaluate("c.ready()");
  return p;
};
const got = (p: Page) => p.evaluate("got") as Promise<number[]>;
const state = (p: Page) => p.evaluate("c.state") as Promise<string>;
const send = (p: Page, n: number) => p.evaluate((n) => void (window as any).c.send("n", n, { to: "desktop" }).catch(() => {}), n);

test("three pages are one device: each hears every message once, and all send", async () => {
  const pages = [await open(), await open(), await open()];
  const many = Array.from({ length: 50 }, (_, i) => i);
  await Promise.all(many.map((n) => desktop.send("n", n, { to: "phone" })));
  for (const p of pages) await until(async () => (await got(p)).length >= 50, "each page hears all");
  for (const p of pages) expect(await got(p)).toEqual(many);
  await Promise.all(pages.map(async (p, i) => { for (let n = 0; n < 10; n++) await send(p, i * 10 + n); }));
  await until(() => arrived.length >= 30, "all arrive");
  expect([...arrived].sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i));
  const devices = (await desktop.devices()).filter((d) => d.id === "phone");
  expect(devices).toMatchObject([{ status: "online" }]);
  expect(await Promise.all(pages.map((p) => p.evaluate("errors")))).toEqual([[], [], []]);
  const answers = await pages[2]!.evaluate("c.devices().then((d) => d.length)");
  expect(answers).toBe(2);
});

for (const end of ["closed", "reloaded", "frozen"] as const)
  test(`the page that holds the connection is ${end}: another takes its place, and nothing is lost or comes twice`, async () => {
    const pages = [await open(), await open(), await open()];
    const holder = pages[0]!;
    const rest = pages.slice(1);
    let n = 0;
    let over = false;
    const traffic = (async () => {
      while (!over) {
        await Promise.all([desktop.send("n", n, { to: "phone" }), send(rest[n % 2]!, n)]);
        n++;
        await new Promise((r) => setTimeout(r, 20));
      }
    })();
    await until(() => n > 20, "traffic");
    if (end === "closed") await holder.close();
    if (end === "reloaded") await holder.reload();
    if (end === "frozen") {
      const cdp = await site.context.newCDPSession(holder);
      await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
    }
    const then = n;
    await until(() => n > then + 50, "traffic goes on");
    over = true;
    await traffic;
    const want = Array.from({ length: n }, (_, i) => i);
    for (const p of rest) await until(async () => (await got(p)).length >= n, "the others hear all");
    for (const p of rest) expect(await got(p)).toEqual(want);
    await until(() => arrived.length >= n, "all that was sent arrives");
    expect([...arrived].sort((a, b) => a - b)).toEqual(want);
    expect(await Promise.all(rest.map(state))).toEqual(["online", "online"]);
    if (end === "frozen") {
      const cdp = await site.context.newCDPSession(holder);
      await cdp.send("Page.setWebLifecycleState", { state: "active" });
      await until(async () => (await state(holder)) === "online", "it is back");
      await until(async () => new Set(await got(holder)).size >= 20, "it has what it had");
      expect(await state(rest[0]!)).toBe("online");
    }
  });

test("a topic from now on misses nothing while the page that holds the connection changes", async () => {
  const follow = async (p: Page, topic: string) => {
    await desktop.publish(topic, "before");
    await p.evaluate((topic) => {
      const w = window as any;
      const items: unknown[] = ((w.items ??= {})[topic] = []);
      void (async () => {
        for await (const item of w.c.subscribe(topic)) items.push(item.gap ?? item.data);
      })();
    }, topic);
    await until(async () => {
      const answer = await fetch(`http://127.0.0.1:${server.admin}/v1/topics/${topic}/followers`);
      return ((await answer.json()) as any).items.length;
    }, `the edge knows that ${topic} is followed`);
    await p.evaluate("c.devices()"); // answered after the subscription: the page knows where it began
  };
  const items = (p: Page, topic: string) => p.evaluate((topic) => (window as any).items[topic], topic) as Promise<unknown[]>;

  // The page that holds the connection for another one is closed, before that one's first item has come.
  const [first, second] = [await open(), await open()];
  await follow(second, "t1");
  proxy.down = true;
  proxy.cut();
  await first.close();
  await desktop.publish("t1", 1); // while nobody has a connection
  proxy.down = false;
  await until(async () => (await items(second, "t1")).length, "the second page has it");
  expect(await items(second, "t1")).toEqual([1]);

  // The page that holds the connection is frozen, before its own first item has come.
  const third = await open();
  await follow(second, "t2");
  const cdp = await site.context.newCDPSession(second);
  await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
  await third.evaluate(() => void (window as any).c.handle("who", () => "third"));
  const who = () => desktop.request("who", null, { to: "phone", timeoutMs: 1000 }).catch(() => undefined);
  await until(async () => (await who()) === "third", "the third page answers, and so has the connection");
  await desktop.publish("t2", 2);
  await cdp.send("Page.setWebLifecycleState", { state: "active" });
  await until(async () => (await items(second, "t2")).length, "it has what came meanwhile");
  expect(await items(second, "t2")).toEqual([2]);
});

for (const missing of ["navigator.locks", "BroadcastChannel"] as const)
  test(`where there is no ${missing}, one page connects and the others wait as offline`, async () => {
    await site.context.addInitScript(missing === "BroadcastChannel" ? "delete window.BroadcastChannel" : "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })");
    const first = await open();
    const second = await site.page(`/?url=${encodeURIComponent(proxy.url)}&token=${server.token(`u${user}/phone`)}`);
    await until(async () => (await state(second)) === "offline", "the second page waits");
    await send(second, 1); // it is kept
    await desktop.send("n", "a", { to: "phone" });
    await until(async () => (await got(first)).length, "the first page hears it");
    expect([await state(first), await state(second), await first.evaluate("errors")]).toEqual(["online", "offline", []]);
    await first.close();
    await until(async () => (await state(second)) === "online", "the second page takes over");
    await until(() => arrived.length, "what it had sent arrives");
    expect(arrived).toEqual([1]);
    expect(await second.evaluate("errors")).toEqual([]);
  });

test("what a page sent offline is sent after a reload", async () => {
  const page = await open();
  proxy.down = true;
  proxy.cut();
  await until(async () => (await state(page)) !== "online", "it is offline");
  for (let i = 0; i < 20; i++) await send(page, i);
  await new Promise((r) => setTimeout(r, 300));
  await page.reload();
  proxy.down = false;
  await page.waitForFunction("window.ready");
  await until(() => arrived.length >= 20, "all arrive");
  expect(arrived).toEqual(Array.from({ length: 20 }, (_, i) => i));
  await page.reload();
  await page.waitForFunction("window.ready");
  await page.evaluate("c.ready()");
  await desktop.send("n", "new", { to: "phone" });
  await until(async () => (await got(page)).length, "a new message");
  expect(await got(page)).toEqual(["new"]); // and nothing of before
});

test("a key made in the browser enrols, is kept by IndexedDB, and cannot be taken out", async () => {
  const page = await site.page();
  const said: any = await page.evaluate(async ([url, code]) => {
    const w = window as any;
    const made = await w.enroll(url, { code, device: "tablet" });
    const kv = await new Promise<any>((r) => { const q = indexedDB.open("keys"); q.onupgradeneeded = () => q.result.createObjectStore("k"); q.onsuccess = () => r(q.result); });
    await new Promise<void>((r) => { const t = kv.transaction("k", "readwrite"); t.objectStore("k").put(made, "me"); t.oncomplete = () => r(); });
    const back = await new Promise<any>((r) => { const q = kv.transaction("k").objectStore("k").get("me"); q.onsuccess = () => r(q.result); });
    const c = w.connect(url, { credentials: back });
    await c.ready();
    const out = await crypto.subtle.exportKey("pkcs8", back.key.privateKey).then(() => "taken", () => "kept");
    return { session: c.session.deviceId, out };
  }, [server.url, server.code("zoe")] as const);
  expect(said).toEqual({ session: "tablet", out: "kept" });
});
